/*
 * holes.h - the cap on holes of a whole context: at max_ranges the oldest one is given up.
 *
 * Every hole opened is noted in a queue, oldest first; notes of holes that were filled meanwhile
 * are skipped, and swept when they are more than half.
 * Errors: without memory a note is lost; its hole is then never the oldest one.
 */
#ifndef MOS_MONITOR_HOLES_H
#define MOS_MONITOR_HOLES_H

#include "context.h"

/* The holes of this segment's direction were `before` many; above the cap the oldest ones are given up. */
void holes_changed(struct mos_context *ctx, const struct segment *segment, uint64_t before);

/* The flow leaves the table, and its holes with it. */
void holes_forget(struct mos_context *ctx, const struct flow *flow);

void holes_free(struct mos_context *ctx);

static inline uint64_t holes_of(const struct flow *flow, int side)
{
	return flow->cold ? flow->cold->half[side].holes.count : 0;
}

#endif
