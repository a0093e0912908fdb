/*
 * event_table.h - which callback of a socket wants which event at which hook.
 *
 * Inside the core an event is an index in firing order (enum ev), a set of events a bit mask of
 * those; the numbers of the manual (enum mos_event) are translated at the API.
 * Tables are shared by reference count and never changed while shared: a flow that nobody
 * customised uses the table of its listening socket, and a running dispatch keeps the table it
 * started with.
 *
 * Callables are opaque; the host (csrc/python/dispatch, or a test) retains and releases them.
 * Threads: the context's own.
 */
#ifndef MOS_EVENT_TABLE_H
#define MOS_EVENT_TABLE_H

#include "../mos.h"

/* In the order in which the events of one packet fire (spec section 1). */
enum ev {
	EV_PKT_IN,
	EV_CONN_START,
	EV_STATE_CHANGE,
	EV_REXMIT,
	EV_NEW_DATA,
	EV_ERROR,
	EV_CONN_END,
	EV_ORPHAN,
	EVENTS
};

#define EV_BIT(ev) (1u << (ev))

enum hook_index {
	AT_NULL,
	AT_RCV,
	AT_SND,
	HOOKS
};

/* What the core needs from whoever runs the callbacks. */
struct event_host {
	/* 0 = go on, else stop the loop after this packet. */
	int (*deliver)(struct mos_context *ctx, void *callable, int64_t sock, int side, uint64_t event);
	void (*retain)(void *callable);
	void (*release)(void *callable);
	/* The burst is over: whatever was held for callbacks may be let go. */
	void (*leave)(struct mos_context *ctx);
};

struct event_table {
	uint32_t refs;
	uint32_t wanted[HOOKS]; /* EV_BIT mask of events with a callback */
	void *callable[HOOKS][EVENTS];
};

/* enum mos_event <-> enum ev; -1 for what is no single built-in event. */
int event_index(uint64_t event);
uint64_t event_number(enum ev ev);
/* enum mos_hook -> enum hook_index, or -1. */
int hook_index(uint32_t hook);

struct event_table *event_table_new(void);
struct event_table *event_table_ref(struct event_table *table);
void event_table_unref(struct event_table *table, const struct event_host *host);

/*
 * Set, replace or (callable NULL) remove a callback in *table, which is replaced by a copy when
 * it is shared.  0 or -ENOMEM.
 */
int event_table_set(struct event_table **table, const struct event_host *host, enum hook_index hook, enum ev ev,
                    void *callable);

#endif
