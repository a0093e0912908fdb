/*
 * source.h - where a context's packets come from: a capture or a port; the burst loop does not
 * know which.
 */
#ifndef MOS_MONITOR_SOURCE_H
#define MOS_MONITOR_SOURCE_H

#include "context.h"

/* Fill the burst: packets, 0 for none now or never (input_ended), -errno. */
int source_read(struct mos_context *ctx);

/* Live and nothing there: the wall clock moves the packet clock, so timeouts come in time. */
void source_idle(struct mos_context *ctx, uint64_t slice_ns);

/* Give the burst and the source back. */
void source_close(struct mos_context *ctx);

#endif
