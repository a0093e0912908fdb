/*
 * events.h - from an event set to callbacks: masks first, then dispatch.
 */
#ifndef MOS_MONITOR_EVENTS_H
#define MOS_MONITOR_EVENTS_H

#include "context.h"

/* In which order the sockets of a flow run (spec: boxes chained from client to server). */
enum event_order {
	CLIENT_FIRST,
	SERVER_FIRST
};

void event_run(struct mos_context *ctx, struct flow *flow, enum hook_index hook, int side, uint32_t events,
               enum event_order order);

/* Dispatch the events of a flow that some socket wants; one test when nobody does. */
static inline void event_dispatch(struct mos_context *ctx, struct flow *flow, enum hook_index hook, int side,
                                  uint32_t events, enum event_order order)
{
	uint32_t wanted = flow->set->wanted[side][hook] & events;

	if (__builtin_expect(wanted != 0, 0))
		event_run(ctx, flow, hook, side, wanted, order);
}

/* One event on a listening socket, at MOS_NULL. */
void event_socket(struct mos_context *ctx, struct mon_socket *socket, int side, enum ev ev);

/* ERROR of a flow: at MOS_NULL, then at HK_RCV. */
void event_error(struct mos_context *ctx, struct flow *flow, const struct segment_error *error, enum event_order order);

/* ERROR without a flow: every listening stream socket, side MOS_NULL. */
void event_error_listening(struct mos_context *ctx, enum mos_error_reason reason);

#endif
