/*
 * pipeline.c - the way of one packet, in the order of the specification:
 *
 *   decode, put fragments together, look the flow up (open it on a SYN that a stream socket accepts)
 *   sender update      -> callbacks at MOS_HK_SND
 *   receiver update    -> callbacks at MOS_HK_RCV
 *   both sides finished -> MOS_ON_CONN_END
 *
 * Every frame received is counted once: delivered, ignored for a reason, or dropped by a cause.
 */
#include "pipeline.h"

#include <stdlib.h>

#include "../tcp/seq.h"
#include "../tcp/tcp_judge.h"
#include "../tcp/tcp_receiver.h"
#include "../tcp/tcp_sender.h"
#include "../tcp/tcp_state.h"
#include "bytes.h"
#include "events.h"
#include "flow_life.h"
#include "holes.h"

void pipeline_prepare(struct mos_context *ctx)
{
	struct mos_pkt *pkt = ctx->burst.pkt;

	for (uint32_t i = 0; i < ctx->burst.count; i++) {
		decode(&ctx->decoder, &pkt[i]);
		if (pkt[i].kind == PKT_TCP)
			flow_table_prefetch_bucket(&ctx->table, pkt[i].hash);
	}
	for (uint32_t i = 0; i < ctx->burst.count; i++)
		if (pkt[i].kind == PKT_TCP)
			flow_table_prefetch_flow(&ctx->table, pkt[i].hash);
}

static void tick(struct mos_context *ctx, const struct mos_pkt *pkt)
{
	if (pkt->time_ns <= ctx->now_ns)
		return;
	ctx->now_ns = pkt->time_ns;
	if (!wheel_idle(&ctx->wheel, ctx->now_ns)) {
		ctx->pkt = NULL;
		flow_timers(ctx);
	}
}

static bool raw_matches(const struct mon_socket *socket, const struct mos_pkt *pkt)
{
	if (socket->closed)
		return false;
	if (socket->domain != DOMAIN_ANY &&
	    (pkt->l3_off == UINT32_MAX || (socket->domain == DOMAIN_IPV6) != (pkt->ipv6 != 0)))
		return false;
	return !socket->raw || filter_match(socket->raw, pkt->linktype, pkt->frame, pkt->caplen, pkt->wirelen);
}

/* PKT_IN of raw sockets: every frame that matches, once. */
static void run_raw(struct mos_context *ctx, const struct mos_pkt *pkt)
{
	for (uint32_t i = 0; i < ctx->sockets; i++) {
		struct mon_socket *socket = ctx->socket[i];

		if (socket->type == MOS_SOCK_MONITOR_RAW && socket->table->wanted[AT_NULL] & EV_BIT(EV_PKT_IN) &&
		    raw_matches(socket, pkt))
			event_socket(ctx, socket, (int)MOS_NULL, EV_PKT_IN);
	}
}

static bool orphan_matches(const struct mon_socket *socket, const struct mos_pkt *pkt)
{
	if (socket->type == MOS_SOCK_MONITOR_RAW)
		return raw_matches(socket, pkt);
	if (socket->closed || !socket->orphan || pkt->l3_off == UINT32_MAX)
		return false;
	if (socket->domain != DOMAIN_ANY && (socket->domain == DOMAIN_IPV6) != (pkt->ipv6 != 0))
		return false;
	return filter_match(socket->orphan, LINKTYPE_RAW_IP, pkt->frame + pkt->l3_off, pkt->l3_len, pkt->l3_len);
}

/* A packet of no monitored flow.  Returns true when some socket took it. */
static bool run_orphan(struct mos_context *ctx, const struct mos_pkt *pkt)
{
	bool taken = false;

	for (uint32_t i = 0; i < ctx->sockets; i++) {
		struct mon_socket *socket = ctx->socket[i];

		if (!(socket->table->wanted[AT_NULL] & EV_BIT(EV_ORPHAN)) || !orphan_matches(socket, pkt))
			continue;
		taken = true;
		event_socket(ctx, socket, (int)MOS_NULL, EV_ORPHAN);
	}
	return taken;
}

static void take_orphan(struct mos_context *ctx, const struct mos_pkt *pkt, enum mos_counter as)
{
	if (ctx->has_orphan && run_orphan(ctx, pkt)) {
		ctx->counter[as]++;
		ctx->counter[MOS_CNT_DELIVERED]++;
	} else {
		ctx->counter[MOS_CNT_IGNORED_FILTERED]++;
	}
}

/* What is no IP packet, or a broken one, is an orphan to raw sockets that ask for everything. */
static void take_undecoded(struct mos_context *ctx, const struct mos_pkt *pkt)
{
	if (ctx->has_orphan && pkt->reason != MOS_CNT_IGNORED_FRAGMENT && run_orphan(ctx, pkt)) {
		ctx->counter[MOS_CNT_DELIVERED_ORPHAN_OTHER]++;
		ctx->counter[MOS_CNT_DELIVERED]++;
	} else {
		ctx->counter[pkt->reason]++;
	}
}

static void raise_errors(struct mos_context *ctx, struct segment *segment, enum event_order order)
{
	for (uint8_t i = 0; i < segment->errors; i++)
		event_error(ctx, segment->flow, &segment->error[i], order);
}

static inline void touch(struct flow *flow, const struct mos_pkt *pkt)
{
	if (pkt->time_ns > flow->last_ns)
		flow->last_ns = pkt->time_ns;
}

static uint32_t changed(const struct segment *segment, int side)
{
	return segment->changed >> side & 1 ? EV_BIT(EV_STATE_CHANGE) : 0;
}

/* Both sides finished?  A TIME_WAIT that is to last only brings the deadline nearer. */
static void end_if_finished(struct mos_context *ctx, struct segment *segment)
{
	struct flow *flow = segment->flow;
	bool wait = ctx->config.time_wait_ns;

	if (!segment->changed)
		return;
	if (tcp_is_finished(flow->half[0].state, wait) && tcp_is_finished(flow->half[1].state, wait))
		flow_end(ctx, flow, flow->flags & FLOW_RST_SEEN ? MOS_END_RST : MOS_END_FIN);
	else if (wait || ctx->config.idle_timeout_ns < ctx->config.handshake_timeout_ns)
		flow_refile(ctx, flow); /* the new state may have the nearer deadline */
}

/* A SYN that waits for its answer, with its frame. */
struct held_syn {
	struct mos_pkt pkt;
	uint64_t number;
	uint8_t frame[];
};

/* The five steps of a segment of a living flow. */
static void run_segment(struct mos_context *ctx, struct flow *flow, const struct mos_pkt *pkt, bool first)
{
	struct segment segment = {.flow = flow, .pkt = pkt, .now_ns = pkt->time_ns};
	int sender = flow_side_of(flow, pkt->from_hi), receiver = !sender;
	enum event_order order = sender == MOS_SIDE_CLI ? CLIENT_FIRST : SERVER_FIRST;
	uint32_t events = EV_BIT(EV_PKT_IN) | (first ? EV_BIT(EV_CONN_START) : 0);
	uint64_t holes;

	segment.side = sender;
	ctx->segment = &segment;
	tcp_judge(&segment);
	touch(flow, pkt);
	holes = holes_of(flow, sender);
	tcp_sender_update(&segment);
	if (holes || segment.hole_opened)
		holes_changed(ctx, &segment, holes);
	if (segment.rexmit) {
		events |= EV_BIT(EV_REXMIT);
		ctx->counter[MOS_CNT_REXMIT]++;
	}
	event_dispatch(ctx, flow, AT_SND, sender, events | changed(&segment, sender), order);
	tcp_receiver_update(&segment);
	if (segment.errors)
		raise_errors(ctx, &segment, order);
	if (segment.accepted && pkt->flags & TCP_RST)
		flow->flags |= FLOW_RST_SEEN;
	if (bytes_receive(ctx, &segment))
		events |= EV_BIT(EV_NEW_DATA);
	event_dispatch(ctx, flow, AT_RCV, receiver, events | changed(&segment, receiver), order);
	if (flow->cold) {
		bytes_acked(ctx, &segment);
		bytes_skip_gaps(ctx, flow, pkt->time_ns, false);
	}
	end_if_finished(ctx, &segment);
	ctx->segment = NULL;
}

/* Data, or an ACK that advances, from a host that should be gone. */
static bool alive_after_rst(const struct flow *flow, int side, const struct mos_pkt *pkt)
{
	const struct flow_half *half = &flow->half[side], *other = &flow->half[!side];
	bool advance = pkt->flags & TCP_ACK && other->flags & HALF_KNOWN &&
	               seq_before(rel_to_seq(other->snd_una, other->isn), pkt->ack);

	return flow->end_reason == MOS_END_RST && !(pkt->flags & (TCP_RST | TCP_SYN)) &&
	       (advance || (pkt->payload_len && half->flags & HALF_KNOWN));
}

/*
 * Late segments count in the figures and fire no flow event; the states stay the last ones before
 * CONN_END.  Signs of life after a RST are told.
 */
static void run_late(struct mos_context *ctx, struct flow *flow, const struct mos_pkt *pkt)
{
	int side = flow_side_of(flow, pkt->from_hi);
	struct segment segment = {.flow = flow, .pkt = pkt, .now_ns = pkt->time_ns, .side = side};
	uint8_t state[2] = {flow->half[0].state, flow->half[1].state};
	bool alive = alive_after_rst(flow, side, pkt);
	uint64_t holes = holes_of(flow, side);

	tcp_judge(&segment);
	touch(flow, pkt);
	tcp_sender_update(&segment);
	holes_changed(ctx, &segment, holes);
	flow->half[0].state = state[0];
	flow->half[1].state = state[1];
	if (alive)
		event_error_listening(ctx, MOS_ERR_ALIVE_AFTER_RST);
}

/* Run a held SYN as a packet of `flow` (rejected: ERROR syn_in_window), or of a new flow. */
static void replay_syn(struct mos_context *ctx, struct held_syn *held, struct flow *flow)
{
	const struct mos_pkt *pkt = ctx->pkt;
	uint64_t number = ctx->packets;
	enum mos_counter refused;

	ctx->pkt = &held->pkt;
	ctx->packets = held->number;
	if (flow) {
		tcp_count(flow, flow_side_of(flow, held->pkt.from_hi), &held->pkt);
		run_segment(ctx, flow, &held->pkt, false);
	} else {
		flow = flow_open(ctx, &held->pkt, &refused);
		if (flow) {
			tcp_count(flow, flow_side_of(flow, held->pkt.from_hi), &held->pkt);
			run_segment(ctx, flow, &held->pkt, true);
		}
	}
	ctx->pkt = pkt;
	ctx->packets = number;
	free(held);
}

void pipeline_release_syn(struct mos_context *ctx, struct flow *flow)
{
	struct held_syn *held = flow->cold ? flow->cold->held : NULL;

	if (!held)
		return;
	flow->cold->held = NULL;
	replay_syn(ctx, held, flow);
}

/*
 * The other side speaks while a SYN is held: a SYN/ACK for it makes a new connection of it, any
 * other answer shows that the old one lives.  Returns the flow the packet belongs to, or NULL.
 */
static struct flow *answer_held_syn(struct mos_context *ctx, struct flow *flow, const struct mos_pkt *pkt)
{
	struct held_syn *held = flow->cold->held;

	if (pkt->from_hi == held->pkt.from_hi)
		return flow;
	if ((pkt->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != (TCP_SYN | TCP_ACK) ||
	    pkt->ack - held->pkt.seq - 1 > held->pkt.payload_len) {
		pipeline_release_syn(ctx, flow);
		return flow;
	}
	flow->cold->held = NULL;
	flow_end(ctx, flow, MOS_END_PORT_REUSE);
	flow_remove(ctx, flow);
	replay_syn(ctx, held, NULL);
	return flow_table_find(&ctx->table, &pkt->key, pkt->hash);
}

/* Keep a copy of a SYN on an established connection until the other side answers it. */
static bool hold_syn(struct mos_context *ctx, struct flow *flow, const struct mos_pkt *pkt)
{
	struct held_syn *held;

	if (!flow_cold(flow) || flow->cold->held)
		return false;
	held = malloc(sizeof *held + pkt->caplen);
	if (!held)
		return false;
	held->pkt = *pkt;
	held->pkt.frame = memcpy(held->frame, pkt->frame, pkt->caplen);
	held->pkt.mbuf = NULL;
	held->number = ctx->packets;
	flow->cold->held = held;
	return true;
}

/*
 * A SYN without ACK on a known 4-tuple: the same ISN is a retransmission, another one begins a
 * new connection when the old one can be over.  Returns the flow that goes on, or NULL.
 */
static struct flow *take_syn(struct mos_context *ctx, struct flow *flow, const struct mos_pkt *pkt, bool *held)
{
	const struct flow_half *half = &flow->half[flow_side_of(flow, pkt->from_hi)];

	if (!(half->flags & HALF_KNOWN) || half->isn == pkt->seq)
		return flow;
	if (!flow_gives_way(ctx, flow)) {
		*held = hold_syn(ctx, flow, pkt);
		return flow;
	}
	if (!(flow->flags & FLOW_ENDED))
		flow_end(ctx, flow, MOS_END_PORT_REUSE);
	flow_remove(ctx, flow);
	return NULL;
}

/* The flow of a TCP packet, if it has one. */
static struct flow *find_flow(struct mos_context *ctx, const struct mos_pkt *pkt, bool *held)
{
	struct flow *flow = flow_table_find(&ctx->table, &pkt->key, pkt->hash);

	/* the wheel may be a slot late: the exact deadline counts for the flow's own packets */
	if (flow && time_since(flow->last_ns, pkt->time_ns) >= ctx->shortest_ns &&
	    flow_deadline(ctx, flow) <= pkt->time_ns) {
		uint64_t serial = flow->serial;

		flow_due(ctx, flow);
		if (flow->serial != serial)
			return NULL;
	}
	if (flow && (pkt->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN)
		flow = take_syn(ctx, flow, pkt, held);
	else if (flow && flow->cold && flow->cold->held)
		flow = answer_held_syn(ctx, flow, pkt);
	return flow;
}

static void run_tcp(struct mos_context *ctx, const struct mos_pkt *pkt)
{
	bool held = false, first;
	struct flow *flow = find_flow(ctx, pkt, &held);
	enum mos_counter refused;

	first = !flow;
	if (!flow) {
		flow = flow_open(ctx, pkt, &refused);
		if (!flow && refused != MOS_CNT_COUNTERS) {
			ctx->counter[refused]++;
			return;
		}
	}
	if (!flow) {
		take_orphan(ctx, pkt, MOS_CNT_DELIVERED_ORPHAN_TCP);
		return;
	}
	if (held) { /* told and counted when it is answered */
		ctx->counter[MOS_CNT_DELIVERED]++;
		ctx->counter[MOS_CNT_DELIVERED_FLOW]++;
		return;
	}
	tcp_count(flow, flow_side_of(flow, pkt->from_hi), pkt);
	ctx->counter[MOS_CNT_DELIVERED]++;
	if (flow->flags & FLOW_ENDED) {
		ctx->counter[MOS_CNT_DELIVERED_LATE]++;
		run_late(ctx, flow, pkt);
		return;
	}
	ctx->counter[MOS_CNT_DELIVERED_FLOW]++;
	run_segment(ctx, flow, pkt, first);
}

void pipeline_packet(struct mos_context *ctx, struct mos_pkt *pkt)
{
	ctx->counter[MOS_CNT_RECEIVED]++;
	ctx->counter[MOS_CNT_RECEIVED_BYTES] += pkt->wirelen;
	ctx->packets++;
	tick(ctx, pkt);
	ctx->pkt = pkt;
	if (ctx->has_raw)
		run_raw(ctx, pkt);
	if (pkt->kind == PKT_FRAGMENT)
		frag_take(&ctx->fragments, pkt, ctx->now_ns);
	if (pkt->kind == PKT_TCP)
		run_tcp(ctx, pkt);
	else if (pkt->kind == PKT_OTHER)
		take_orphan(ctx, pkt, MOS_CNT_DELIVERED_ORPHAN_OTHER);
	else
		take_undecoded(ctx, pkt);
	ctx->pkt = NULL;
}
