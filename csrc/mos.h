/* mos.h - what every C file of the core includes first: the contract and its types. */
#ifndef MOS_H
#define MOS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mos_api.h"

#endif
