/*
 * context.h - everything one core has: nothing in here is shared with another context.
 */
#ifndef MOS_MONITOR_CONTEXT_H
#define MOS_MONITOR_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include "../flow/flow_table.h"
#include "../io/capture.h"
#include "../io/port.h"
#include "../packet/decode.h"
#include "../packet/frag.h"
#include "../tcp/segment.h"
#include "../tcp/stream.h"
#include "rows.h"
#include "socket.h"

enum {
	ERROR_TEXT = 512,
	NO_SLOT = UINT32_MAX
};

/* A flow and side that something is due for at the end of the burst. */
struct due {
	uint32_t number, generation;
	uint8_t side;
};

struct due_list {
	struct due *due;
	uint32_t count, room, next;
};

/* A hole was opened at `at` of a flow's direction. */
struct hole_note {
	int64_t at;
	uint64_t since_ns;
	uint32_t number, generation;
	uint8_t side;
};

struct hole_queue {
	struct hole_note *note;
	uint32_t count, room, next;
	uint64_t holes; /* open now, in all flows */
};

struct mos_context {
	struct mos_config config;
	const struct event_host *host;
	void *pyctx, *parked;
	pthread_t owner;

	struct flow_table table;
	struct wheel wheel;
	struct page_pool pool;
	struct hole_queue holes;
	struct decoder decoder;
	struct frag_table fragments;
	uint64_t now_ns;
	uint64_t shortest_ns; /* no timeout is shorter: a flow seen since then is not due */
	uint64_t packets;     /* number of the packet at hand */

	struct mon_socket *socket[MAX_SOCKETS];
	uint32_t sockets;
	int64_t last_socket_id;
	bool running;               /* inside mos_run() or mos_finish() */
	bool has_raw, has_orphan;   /* some socket may want raw packets / orphans */
	struct watch_set *last_set; /* the set made last, for flows that match the same sockets */
	uint64_t last_matched;

	struct capture *capture;
	struct port *port;
	bool input_ended, input_failed;
	struct mos_burst burst;
	uint32_t burst_next; /* packets of the burst already processed */

	/* what callbacks can ask about */
	const struct mos_pkt *pkt; /* packet at hand, or NULL */
	const struct segment *segment;
	struct mos_error error;
	bool ending; /* inside CONN_END */

	struct rows rows;
	struct stream *retired; /* switched off inside a callback: freed when the burst is over */
	struct due_list new_data, unsettled;
	uint32_t *finish; /* numbers of the flows to end, by serial */
	uint32_t finish_count, finish_next;

	atomic_bool stop_asked;
	bool stopping;
	uint64_t counter[MOS_CNT_COUNTERS];
	char error_text[ERROR_TEXT];
};

int context_fail(struct mos_context *ctx, int rc, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A context whose callbacks run in `host`; NULL when memory is out. */
struct mos_context *context_new(const struct mos_config *config, const struct event_host *host, void *pyctx,
                                void *parked);

/* The host that calls Python; csrc/python/dispatch.c. */
const struct event_host *event_host_python(void);

/* EACCES for no context, EPERM for a call from another thread. */
int context_check(struct mos_context *ctx);

/* Add to a list of dues; without memory the due is lost and counted. */
void due_add(struct mos_context *ctx, struct due_list *list, const struct flow *flow, int side);

#endif
