/* live.c - the counters of live.h. */
#include "live.h"

struct live_objects live_objects;
