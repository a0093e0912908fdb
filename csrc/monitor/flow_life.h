/*
 * flow_life.h - a flow from its first packet to the end of its record: open, deadline, end, linger,
 * remove.
 */
#ifndef MOS_MONITOR_FLOW_LIFE_H
#define MOS_MONITOR_FLOW_LIFE_H

#include "context.h"

/*
 * Open a flow for the packet at hand if some stream socket accepts it.  NULL: nobody does, or the
 * table is full (then *refused says which counter).
 */
struct flow *flow_open(struct mos_context *ctx, const struct mos_pkt *pkt, enum mos_counter *refused);

/* CONN_END at all hooks, streams and contexts given back; the record lingers. */
void flow_end(struct mos_context *ctx, struct flow *flow, enum mos_end_reason reason);

/* Free its streams, readers and user contexts. */
void flow_give_back(struct mos_context *ctx, struct flow *flow);

/* Take the record out of the table. */
void flow_remove(struct mos_context *ctx, struct flow *flow);

/* When the flow must be looked at again if no packet comes. */
uint64_t flow_deadline(const struct mos_context *ctx, const struct flow *flow);

/* File it in the timer wheel anew: its deadline may have come nearer. */
void flow_refile(struct mos_context *ctx, struct flow *flow);

/* The deadline has come: end it, remove it, or give up a hole. */
void flow_due(struct mos_context *ctx, struct flow *flow);

/* Everything due at the clock's new time. */
void flow_timers(struct mos_context *ctx);

/* Is this side in the middle of closing, or of the handshake, or silent for long? (port reuse) */
bool flow_gives_way(const struct mos_context *ctx, const struct flow *flow);

#endif
