/*
 * socket.h - monitor sockets and watch sets.
 *
 * A listening socket is what mos_socket() returns.  A watch set says which listening sockets
 * watch a flow, with the callbacks, buffer sizes and switches they gave it: flows of the same
 * kind share one set, and a flow gets its own copy when something of it is changed.
 *
 * Socket ids: listening ones count from 1; a flow's id is generation << 34 | flow number << 6 |
 * place in the watch set, so it is never valid for another flow.
 * Threads: the context's own.  Ownership: the context owns sockets; sets are reference counted.
 */
#ifndef MOS_MONITOR_SOCKET_H
#define MOS_MONITOR_SOCKET_H

#include "../event/event_table.h"
#include "../flow/flow.h"
#include "../io/filter.h"

enum {
	MAX_SOCKETS = 64,
	BUFFER_UNSET = -1
};
enum {
	DOMAIN_ANY = 0,
	DOMAIN_IPV4 = 2,
	DOMAIN_IPV6 = 10
}; /* AF_UNSPEC, AF_INET, AF_INET6 of Linux */

struct mon_socket {
	int64_t id;
	int domain, type;
	bool closed;
	struct event_table *table;
	struct filter *syn, *orphan, *raw;
	int64_t buffer[2];  /* by receiving side: bytes, 0 = off, BUFFER_UNSET */
	uint8_t overlap[2]; /* enum mos_overlap_policy */
	uint8_t stopped;    /* bit per side */
	void *uctx;
};

struct watch {
	struct event_table *table;
	int64_t buffer[2];
	uint8_t overlap[2];
	uint8_t stopped;
	bool closed;
};

struct watch_set {
	uint32_t refs;
	uint32_t count;
	uint32_t wanted[2][HOOKS]; /* per side: the events that some socket wants */
	bool read[2];              /* some socket reads what this side receives */
	struct watch watch[];
};

/* Per flow and watch, made when a socket first reads or sets a context. */
struct flow_reader {
	int64_t at[2]; /* next position to read, by receiving side */
	void *uctx;
};

static inline int64_t flow_sock_id(const struct flow *flow, uint32_t index)
{
	return (int64_t)((uint64_t)flow->generation << 34 | (uint64_t)flow->number << 6 | index);
}

/* The set of the sockets whose bits are in `matched`; NULL when memory is out. */
struct watch_set *watch_set_new(struct mos_context *ctx, uint64_t matched);
struct watch_set *watch_set_ref(struct watch_set *set);
void watch_set_unref(struct mos_context *ctx, struct watch_set *set);

/* The flow's own set, copied if it is shared; NULL when memory is out. */
struct watch_set *watch_set_own(struct mos_context *ctx, struct flow *flow);

/* Does this watch read what `side` receives (spec section 4)? */
bool watch_reads(const struct watch *watch, int side);

/* After a change of its watches. */
void watch_set_refresh(struct watch_set *set);

/* Bytes of unread data the readers of a side want kept; the largest wins. */
uint32_t watch_set_buffer(const struct mos_context *ctx, const struct watch_set *set, int side);

/* Listening socket by id; NULL if it is none or closed. */
struct mon_socket *mon_socket_find(struct mos_context *ctx, int64_t id);

/* Flow and place in its watch set by id; false if it is none, ended or closed. */
bool flow_sock_find(struct mos_context *ctx, int64_t id, struct flow **flow, uint32_t *index);

/* The reader record, made if need be; NULL when memory is out. */
struct flow_reader *flow_reader(struct flow *flow, uint32_t index);

void mon_socket_free(struct mos_context *ctx, struct mon_socket *socket);

#endif
