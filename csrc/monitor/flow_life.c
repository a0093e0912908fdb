/* flow_life.c - see flow_life.h. */
#include "flow_life.h"

#include <stdlib.h>

#include "../tcp/seq.h"
#include "../tcp/tcp_receiver.h"
#include "../tcp/tcp_state.h"
#include "bytes.h"
#include "digest.h"
#include "events.h"
#include "holes.h"
#include "pipeline.h"

enum {
	LATE_AT_ONCE = 64
};

static bool domain_matches(const struct mon_socket *socket, const struct mos_pkt *pkt)
{
	return socket->domain == DOMAIN_ANY || (socket->domain == DOMAIN_IPV6) == (pkt->ipv6 != 0);
}

/* Bits of the stream sockets whose SYN filter accepts this packet. */
static uint64_t match_sockets(struct mos_context *ctx, const struct mos_pkt *pkt)
{
	uint64_t matched = 0;

	for (uint32_t i = 0; i < ctx->sockets; i++) {
		struct mon_socket *socket = ctx->socket[i];

		if (socket->closed || socket->type != MOS_SOCK_MONITOR_STREAM || !domain_matches(socket, pkt))
			continue;
		if (!socket->syn || filter_match(socket->syn, LINKTYPE_RAW_IP, pkt->frame + pkt->l3_off, pkt->l3_len,
		                                 pkt->payload_off - pkt->l3_off + pkt->payload_len))
			matched |= 1ull << i;
	}
	return matched;
}

/* Flows that match the same sockets share one set, as long as no socket changes. */
static struct watch_set *set_for(struct mos_context *ctx, uint64_t matched)
{
	if (!ctx->last_set || ctx->last_matched != matched) {
		struct watch_set *set = watch_set_new(ctx, matched);

		if (!set)
			return NULL;
		watch_set_unref(ctx, ctx->last_set);
		ctx->last_set = set;
		ctx->last_matched = matched;
	}
	return watch_set_ref(ctx->last_set);
}

/* States when the handshake was not seen: both sides are taken to be established. */
static void begin_midstream(struct flow *flow, const struct mos_pkt *pkt)
{
	bool syn_ack = pkt->flags & TCP_SYN;

	flow->flags |= FLOW_MIDSTREAM;
	flow->half[MOS_SIDE_CLI].state = syn_ack ? MOS_TCP_SYN_SENT : MOS_TCP_ESTABLISHED;
	flow->half[MOS_SIDE_SVR].state = syn_ack ? MOS_TCP_SYN_RCVD : MOS_TCP_ESTABLISHED;
}

static void begin(struct mos_context *ctx, struct flow *flow, const struct mos_pkt *pkt)
{
	bool first_syn = (pkt->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	bool sender_is_server = !first_syn && pkt->flags & TCP_SYN;

	if (pkt->from_hi != sender_is_server)
		flow->flags |= FLOW_CLIENT_HI;
	flow->half[0].wscale = flow->half[1].wscale = WSCALE_NONE;
	flow->half[MOS_SIDE_CLI].state = MOS_TCP_CLOSED;
	flow->half[MOS_SIDE_SVR].state = MOS_TCP_LISTEN;
	if (!first_syn || pkt->flags & TCP_RST)
		begin_midstream(flow, pkt);
	flow->first_ns = flow->last_ns = pkt->time_ns;
	ctx->counter[MOS_CNT_FLOWS_CREATED]++;
	ctx->counter[MOS_CNT_FLOWS_LIVE]++;
	wheel_file(&ctx->wheel, &ctx->table, flow->number, flow_deadline(ctx, flow));
}

/* A SYN that opens a connection.  Linux discards SYN with FIN, so it opens nothing. */
static bool opens(const struct mos_context *ctx, const struct mos_pkt *pkt)
{
	return ctx->config.midstream || (pkt->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

struct flow *flow_open(struct mos_context *ctx, const struct mos_pkt *pkt, enum mos_counter *refused)
{
	uint64_t matched;
	struct watch_set *set;
	struct flow *flow;

	*refused = MOS_CNT_COUNTERS;
	if (!opens(ctx, pkt) || !(matched = match_sockets(ctx, pkt)))
		return NULL;
	set = set_for(ctx, matched);
	flow = set ? flow_table_create(&ctx->table, &pkt->key, pkt->hash) : NULL;
	if (flow) {
		flow->set = set;
		begin(ctx, flow, pkt);
		return flow;
	}
	watch_set_unref(ctx, set);
	*refused = ctx->table.count >= ctx->config.max_flows ? MOS_CNT_DROPPED_TABLE_FULL : MOS_CNT_DROPPED_NO_MEMORY;
	event_error_listening(ctx, *refused == MOS_CNT_DROPPED_TABLE_FULL ? MOS_ERR_TABLE_FULL : MOS_ERR_NO_MEMORY);
	return NULL;
}

static bool is_handshaking(const struct flow *flow)
{
	return flow->half[0].state < MOS_TCP_ESTABLISHED || flow->half[1].state < MOS_TCP_ESTABLISHED;
}

static bool both_time_wait_or_closed(const struct flow *flow)
{
	return tcp_is_finished(flow->half[0].state, false) && tcp_is_finished(flow->half[1].state, false);
}

static uint64_t idle_after(const struct mos_context *ctx, const struct flow *flow)
{
	uint64_t idle = ctx->config.idle_timeout_ns;

	if (flow->flags & FLOW_ENDED)
		return ctx->config.linger_ns;
	if (both_time_wait_or_closed(flow))
		return ctx->config.time_wait_ns;
	if (is_handshaking(flow) && ctx->config.handshake_timeout_ns)
		return ctx->config.handshake_timeout_ns;
	return idle ? idle : UINT64_MAX;
}

/* When silence ends the flow, or its record. */
static uint64_t end_deadline(const struct mos_context *ctx, const struct flow *flow)
{
	uint64_t idle = idle_after(ctx, flow);

	return idle > UINT64_MAX - flow->last_ns ? UINT64_MAX : flow->last_ns + idle;
}

uint64_t flow_deadline(const struct mos_context *ctx, const struct flow *flow)
{
	uint64_t deadline = end_deadline(ctx, flow);

	for (int side = 0; flow->cold && side < 2; side++) {
		const struct half_cold *cold = &flow->cold->half[side];
		uint64_t hold = cold->holes.count ? cold->hold_ns : 0;

		if (hold && hold + GAP_HOLD_NS < deadline && !(flow->flags & FLOW_ENDED))
			deadline = hold + GAP_HOLD_NS;
	}
	return deadline;
}

void flow_refile(struct mos_context *ctx, struct flow *flow)
{
	wheel_remove(&ctx->wheel, &ctx->table, flow->number);
	wheel_file(&ctx->wheel, &ctx->table, flow->number, flow_deadline(ctx, flow));
}

void flow_due(struct mos_context *ctx, struct flow *flow)
{
	if (flow->flags & FLOW_ENDED) {
		flow_remove(ctx, flow);
		return;
	}
	bytes_skip_gaps(ctx, flow, ctx->now_ns, false);
	if (end_deadline(ctx, flow) > ctx->now_ns) {
		flow_refile(ctx, flow);
		return;
	}
	if (both_time_wait_or_closed(flow))
		flow_end(ctx, flow, flow->flags & FLOW_RST_SEEN ? MOS_END_RST : MOS_END_FIN);
	else
		flow_end(ctx, flow, MOS_END_TIMEOUT);
}

/* A flow whose deadline has come. */
struct late_flow {
	uint64_t deadline, serial;
	uint32_t number;
};

static int by_deadline(const void *a, const void *b)
{
	const struct late_flow *x = a, *y = b;

	if (x->deadline != y->deadline)
		return x->deadline < y->deadline ? -1 : 1;
	return x->serial < y->serial ? -1 : x->serial > y->serial;
}

/* Entries of one slot may be due in any order; they are handled by deadline, then by age. */
void flow_timers(struct mos_context *ctx)
{
	struct late_flow some[LATE_AT_ONCE];
	uint32_t number, count;

	do {
		count = 0;
		while (count < LATE_AT_ONCE && wheel_take(&ctx->wheel, &ctx->table, ctx->now_ns, &number)) {
			struct flow *flow = flow_at(&ctx->table, number);
			uint64_t deadline = flow_deadline(ctx, flow);

			if (deadline > ctx->now_ns)
				wheel_file(&ctx->wheel, &ctx->table, number, deadline);
			else
				some[count++] = (struct late_flow){deadline, flow->serial, number};
		}
		qsort(some, count, sizeof *some, by_deadline);
		for (uint32_t i = 0; i < count; i++) {
			struct flow *flow = flow_at(&ctx->table, some[i].number);

			if (flow->serial == some[i].serial)
				flow_due(ctx, flow);
		}
	} while (count == LATE_AT_ONCE);
}

bool flow_gives_way(const struct mos_context *ctx, const struct flow *flow)
{
	uint64_t silent = time_since(flow->last_ns, ctx->now_ns);

	if (flow->flags & FLOW_ENDED || is_handshaking(flow))
		return true;
	if (flow->half[0].state > MOS_TCP_ESTABLISHED || flow->half[1].state > MOS_TCP_ESTABLISHED)
		return true;
	return ctx->config.handshake_timeout_ns && silent > ctx->config.handshake_timeout_ns;
}

static void count_end(struct mos_context *ctx, enum mos_end_reason reason)
{
	static const uint8_t counter[MOS_END_REASONS] = {
		[MOS_END_FIN] = MOS_CNT_FLOWS_FIN,           [MOS_END_RST] = MOS_CNT_FLOWS_RST,
		[MOS_END_TIMEOUT] = MOS_CNT_FLOWS_TIMEOUT,   [MOS_END_PORT_REUSE] = MOS_CNT_FLOWS_PORT_REUSE,
		[MOS_END_EVICTED] = MOS_CNT_FLOWS_EVICTED,   [MOS_END_EOF] = MOS_CNT_FLOWS_EOF,
		[MOS_END_SHUTDOWN] = MOS_CNT_FLOWS_SHUTDOWN,
	};

	ctx->counter[counter[reason]]++;
	ctx->counter[MOS_CNT_FLOWS_LIVE]--;
	ctx->counter[MOS_CNT_FLOWS_LINGERING]++;
}

void flow_give_back(struct mos_context *ctx, struct flow *flow)
{
	struct flow_cold *cold = flow->cold;

	if (!cold)
		return;
	for (int side = 0; side < 2; side++) {
		stream_free(cold->half[side].stream, &ctx->pool);
		cold->half[side].stream = NULL;
	}
	for (uint32_t i = 0; i < cold->readers; i++)
		if (cold->reader[i].uctx)
			ctx->host->release(cold->reader[i].uctx);
	free(cold->held);
	cold->held = NULL;
	free(cold->reader);
	cold->reader = NULL;
	cold->readers = 0;
}

void flow_end(struct mos_context *ctx, struct flow *flow, enum mos_end_reason reason)
{
	const struct mos_pkt *pkt = ctx->pkt;
	const struct segment *segment = ctx->segment;

	pipeline_release_syn(ctx, flow);
	ctx->pkt = NULL;
	ctx->segment = NULL;
	flow->flags |= FLOW_ENDING;
	flow->end_reason = (uint8_t)reason;
	bytes_skip_gaps(ctx, flow, ctx->now_ns, true);
	bytes_flush(ctx, flow);
	for (int side = 0; side < 2; side++) {
		event_dispatch(ctx, flow, AT_RCV, side, EV_BIT(EV_CONN_END), CLIENT_FIRST);
		event_dispatch(ctx, flow, AT_SND, side, EV_BIT(EV_CONN_END), CLIENT_FIRST);
	}
	flow->flags = (uint8_t)((flow->flags & ~FLOW_ENDING) | FLOW_ENDED);
	count_end(ctx, reason);
	flow_give_back(ctx, flow);
	flow_refile(ctx, flow);
	ctx->pkt = pkt;
	ctx->segment = segment;
}

void flow_remove(struct mos_context *ctx, struct flow *flow)
{
	wheel_remove(&ctx->wheel, &ctx->table, flow->number);
	rows_add(&ctx->rows, flow);
	for (int side = 0; flow->cold && side < 2; side++)
		digest_free(flow->cold->half[side].digest);
	watch_set_unref(ctx, flow->set);
	flow->set = NULL;
	ctx->counter[MOS_CNT_FLOWS_LINGERING]--;
	holes_forget(ctx, flow);
	flow_table_remove(&ctx->table, flow);
}
