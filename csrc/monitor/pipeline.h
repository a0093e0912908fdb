/*
 * pipeline.h - one packet, end to end; read pipeline.c first.
 */
#ifndef MOS_MONITOR_PIPELINE_H
#define MOS_MONITOR_PIPELINE_H

#include "context.h"

/* Decode a burst and warm the caches for it. */
void pipeline_prepare(struct mos_context *ctx);

/* One decoded packet: clock, timers, raw sockets, flow, both stacks, callbacks. */
void pipeline_packet(struct mos_context *ctx, struct mos_pkt *pkt);

/* A SYN that waits on this flow for its answer is told now, as one that was refused: the flow ends. */
void pipeline_release_syn(struct mos_context *ctx, struct flow *flow);

#endif
