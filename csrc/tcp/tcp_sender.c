/* tcp_sender.c - see tcp_sender.h. */
#include "tcp_sender.h"

#include "rexmit.h"
#include "seq.h"
#include "tcp_opts.h"
#include "tcp_state.h"

static inline void count_flag(struct flow *flow, int side, uint8_t *low, size_t high)
{
	if (++*low || !flow_cold(flow))
		return;
	++*(uint64_t *)((char *)&flow->cold->half[side] + high);
}

void tcp_count(struct flow *flow, int side, const struct mos_pkt *pkt)
{
	struct flow_half *half = &flow->half[side];

	half->packets++;
	half->wire_bytes += pkt->wirelen + pkt->fragments_wire;
	half->payload_bytes += pkt->payload_len;
	if (!(pkt->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return;
	if (pkt->flags & TCP_SYN)
		count_flag(flow, side, &half->syn, offsetof(struct half_cold, syn_hi));
	if (pkt->flags & TCP_FIN)
		count_flag(flow, side, &half->fin, offsetof(struct half_cold, fin_hi));
	if (pkt->flags & TCP_RST)
		count_flag(flow, side, &half->rst, offsetof(struct half_cold, rst_hi));
}

void tcp_count_class(struct flow *flow, int side, uint8_t seg_class)
{
	if (seg_class != MOS_SEG_NORMAL && flow_cold(flow))
		flow->cold->half[side].seg_class[seg_class]++;
}

void tcp_refresh_edge(struct flow *flow, int side)
{
	struct half_cold *cold = &flow->cold->half[side];
	const struct hole *hole = ranges_next(&cold->holes, cold->rcv_nxt);

	if (!hole)
		cold->rcv_nxt = flow->half[side].snd_max;
	else if (hole->start > cold->rcv_nxt)
		cold->rcv_nxt = hole->start;
}

/* A SYN or SYN/ACK begins (or, with another ISN, begins again) a direction. */
static void take_syn(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	struct flow_half *half = &segment->flow->half[segment->side];
	struct tcp_opts opts;

	if (segment->syn_replaced) {
		if (segment->flow->cold)
			ranges_free(&segment->flow->cold->half[segment->side].holes);
		half->flags &= (uint8_t)~HALF_KNOWN;
		half->rtt_sample_ns = 0;
	}
	if (!(half->flags & HALF_KNOWN)) {
		half->isn = pkt->seq;
		half->snd_max = 0;
		half->snd_una = 0;
	}
	half->flags |= HALF_KNOWN | HALF_SYN;
	tcp_opts_parse(pkt->frame + pkt->l4_off + 20, pkt->tcp_opt_len, &opts);
	half->wscale = opts.wscale;
	half->mss = opts.mss;
	half->md5 = opts.md5;
	if (opts.sack_permitted)
		half->flags |= HALF_SACK;
	if (opts.timestamps)
		half->flags |= HALF_TIMESTAMPS;
	if (!segment->has_ack) {
		segment->flow->handshake_rtt_ns = segment->now_ns;
		segment->flow->flags |= FLOW_HANDSHAKE_RUNS;
	}
}

/* The same acknowledgement again, with nothing else in the segment (Wireshark's conditions). */
static bool is_duplicate_ack(const struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	const struct flow_half *sender = &segment->flow->half[segment->side];
	const struct flow_half *acked = &segment->flow->half[!segment->side];

	return !pkt->payload_len && !(pkt->flags & (TCP_SYN | TCP_FIN | TCP_RST)) && pkt->window &&
	       pkt->window == sender->window && segment->rel == sender->snd_max && sender->flags & HALF_ACKED &&
	       !(acked->flags & HALF_PROBED);
}

/* The peer acknowledged the byte of a probe: it is part of the stream after all. */
static void take_probe_ack(struct segment *segment)
{
	struct flow_half *acked = &segment->flow->half[!segment->side];
	struct half_cold *cold = segment->flow->cold ? &segment->flow->cold->half[!segment->side] : NULL;

	if (!cold || !cold->probe || segment->ack_rel <= acked->snd_max)
		return;
	cold->probe = false;
	cold->probe_taken = true;
	acked->snd_max++;
	if (cold->holes.count)
		tcp_refresh_edge(segment->flow, !segment->side);
}

static void take_handshake_rtt(struct segment *segment)
{
	struct flow *flow = segment->flow;

	if (!(flow->flags & FLOW_HANDSHAKE_RUNS) || segment->side != MOS_SIDE_CLI || segment->pkt->flags & TCP_SYN)
		return;
	flow->flags &= (uint8_t)~FLOW_HANDSHAKE_RUNS;
	if (flow->half[MOS_SIDE_SVR].flags & HALF_SYN) {
		flow->flags |= FLOW_HANDSHAKE_DONE;
		flow->handshake_rtt_ns = time_since(flow->handshake_rtt_ns, segment->now_ns);
	}
}

static void take_ack(struct segment *segment)
{
	struct flow *flow = segment->flow;
	struct flow_half *acked = &flow->half[!segment->side];

	take_handshake_rtt(segment);
	take_probe_ack(segment);
	if (segment->ack_rel > acked->snd_una) {
		rtt_acked(acked, segment->ack_rel, segment->now_ns);
		acked->snd_una = segment->ack_rel;
		acked->dup_acks = 0;
	} else if (segment->ack_rel == acked->snd_una && is_duplicate_ack(segment)) {
		if (acked->dup_acks < UINT8_MAX)
			acked->dup_acks++;
		if (flow_cold(flow))
			flow->cold->half[segment->side].duplicate_ack++;
	}
	/* who acknowledges the FIN has processed it, whatever we missed before it */
	if ((acked->flags & (HALF_FIN | HALF_FIN_TAKEN)) == HALF_FIN && segment->ack_rel >= acked->snd_max) {
		acked->flags |= HALF_FIN_TAKEN;
		tcp_move(segment, segment->side, GOT_FIN);
	}
}

/* Sequence numbers that were never captured because the snap length cut them off. */
static void note_cut(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	const struct flow_half *half = &segment->flow->half[segment->side];
	int64_t from = segment->data + pkt->payload_cap, to = segment_data_end(segment), fresh;

	if (pkt->payload_cap >= pkt->payload_len || !flow_cold(segment->flow))
		return;
	struct half_cold *cold = &segment->flow->cold->half[segment->side];
	fresh = to - rel_max(from, half->snd_max);
	if (fresh < 0)
		fresh = 0;
	if (from < half->snd_max)
		fresh += ranges_missing(&cold->holes, from, rel_min(to, half->snd_max));
	if (fresh) {
		cold->cut_bytes += (uint64_t)fresh;
		cold->gap_bytes += (uint64_t)fresh;
		cold->gaps++;
	}
}

/* Numbers that start above the highest one seen: everything between is a hole. */
static void open_hole(struct segment *segment)
{
	struct flow *flow = segment->flow;
	struct flow_half *half = &flow->half[segment->side];
	struct half_cold *cold;

	if (!flow_cold(flow)) {
		segment_raise(segment, MOS_ERR_NO_MEMORY, !segment->side, half->snd_max, 0);
		return;
	}
	cold = &flow->cold->half[segment->side];
	if (!cold->holes.count)
		cold->rcv_nxt = half->snd_max;
	if (ranges_append(&cold->holes, half->snd_max, segment->rel, segment->now_ns)) {
		segment_raise(segment, MOS_ERR_NO_MEMORY, !segment->side, half->snd_max, 0);
		return;
	}
	segment->hole_opened = true;
	segment->hole_at = half->snd_max;
}

/* The sender of a zero-window probe goes on as if it had not sent the byte (RFC 9293 3.8.6.1). */
static void take_probe(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	struct half_cold *cold;

	if (!flow_cold(segment->flow))
		return;
	cold = &segment->flow->cold->half[segment->side];
	if (!cold->probe && pkt->payload_cap)
		cold->probe_byte = pkt->frame[pkt->payload_off];
	cold->probe = true;
}

/* Bytes below the first number of a flow picked up in the middle: counted, never delivered. */
static void take_below(struct segment *segment)
{
	int64_t from = segment->data, to = rel_min(segment_data_end(segment), 1), low;
	struct ranges_fill fill;
	struct half_cold *cold;
	int rc = 0;

	if (from >= to || segment->flow->half[segment->side].flags & HALF_SYN || !flow_cold(segment->flow))
		return;
	cold = &segment->flow->cold->half[segment->side];
	low = 1 - cold->below;
	if (to < low)
		rc = ranges_insert(&cold->below_holes, to, low, segment->now_ns);
	else if (to > low)
		rc = ranges_fill(&cold->below_holes, rel_max(from, low), to, &fill);
	if (!rc)
		cold->below = rel_max(cold->below, 1 - from);
}

/* Mark the segment's numbers as seen. */
static void take_numbers(struct segment *segment)
{
	struct flow *flow = segment->flow;
	struct flow_half *half = &flow->half[segment->side];
	bool holes = half_has_holes(flow, segment->side);

	if (segment->seg_class == MOS_SEG_ZERO_WINDOW_PROBE) {
		take_probe(segment);
		return;
	}
	note_cut(segment);
	take_below(segment);
	if (flow->cold && segment->end > half->snd_max)
		flow->cold->half[segment->side].probe = false;
	if (segment->rel == half->snd_max) {
		rtt_start(segment);
		half->snd_max = segment->end;
	} else if (segment->rel > half->snd_max) {
		open_hole(segment);
		rtt_start(segment);
		half->snd_max = segment->end;
		holes = half_has_holes(flow, segment->side);
	} else {
		struct ranges_fill fill;

		if (segment->rexmit)
			rtt_cancel(segment);
		if (holes && ranges_fill(&flow->cold->half[segment->side].holes, segment->rel,
		                         rel_min(segment->end, half->snd_max), &fill))
			segment_raise(segment, MOS_ERR_NO_MEMORY, !segment->side, segment->rel, 0);
		half->snd_max = rel_max(half->snd_max, segment->end);
	}
	if (holes)
		tcp_refresh_edge(flow, segment->side);
}

/*
 * RFC 7323 4.3 remembers the timestamp of a segment that begins at or before the last ACK sent.
 * That ACK may not have been captured yet: what is in order will be acknowledged.
 */
static void take_timestamp(struct segment *segment)
{
	struct flow_half *half = &segment->flow->half[segment->side];

	if (!segment->has_timestamp || segment->rel > segment->edge)
		return;
	if (!half->ts_recent || !seq_before(segment->ts_value, half->ts_recent))
		half->ts_recent = segment->ts_value;
}

static void take_window(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	struct flow *flow = segment->flow;
	struct flow_half *half = &flow->half[segment->side];
	uint32_t window = pkt->window;

	if (!(pkt->flags & TCP_SYN)) /* a SYN's window is never scaled: RFC 7323 2.2 */
		window <<= half_window_shift(flow, segment->side);
	half->window = pkt->window;
	if (window > half->max_window)
		half->max_window = window;
	if (segment->has_ack)
		half->flags |= HALF_ACKED;
	if (!pkt->window && !(pkt->flags & (TCP_SYN | TCP_FIN | TCP_RST)) && flow_cold(flow))
		flow->cold->half[segment->side].zero_window++;
}

/* Did the server take data of the client's SYN (RFC 7413)?  Then it may send before our ACK. */
static bool fast_open(const struct segment *segment)
{
	return segment->side == MOS_SIDE_SVR && segment->flow->half[MOS_SIDE_CLI].snd_una > 1;
}

static void move_sender(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	const struct flow_half *other = &segment->flow->half[!segment->side];
	int side = segment->side;

	if (pkt->flags & TCP_SYN) {
		/* sent again it proves nothing new, but for a SYN/ACK that answers a crossing SYN */
		if (!segment->rexmit || segment->flow->half[side].state == MOS_TCP_SYN_SENT)
			tcp_move(segment, side, segment->has_ack ? SENT_SYN_ACK : SENT_SYN);
		return;
	}
	tcp_move(segment, side, SENT_ACK);
	if ((pkt->payload_len || pkt->flags & TCP_FIN) && !fast_open(segment))
		tcp_move(segment, side, SENT_DATA);
	if (pkt->flags & TCP_FIN && !(segment->flow->half[side].flags & HALF_FIN)) {
		segment->flow->half[side].flags |= HALF_FIN;
		tcp_move(segment, side,
		         other->flags & HALF_FIN && segment->ack_rel < other->snd_max ? SENT_CROSSING_FIN : SENT_FIN);
	}
}

void tcp_sender_update(struct segment *segment)
{
	struct flow_half *half = &segment->flow->half[segment->side];
	bool fresh_syn = segment->pkt->flags & TCP_SYN && !(half->flags & HALF_KNOWN);

	segment->edge = half_rcv_nxt(segment->flow, segment->side);
	if (!fresh_syn)
		rexmit_classify(segment);
	tcp_count_class(segment->flow, segment->side, segment->seg_class);
	if (!segment->accepted)
		return;
	if (segment->pkt->flags & TCP_RST) {
		if (segment->has_ack) /* a refusal answers the SYN; as an acknowledgement it counts no further */
			rtt_acked(&segment->flow->half[!segment->side], segment->ack_rel, segment->now_ns);
		tcp_move(segment, segment->side, SENT_RST);
		return;
	}
	if (segment->pkt->flags & TCP_SYN)
		take_syn(segment);
	if (segment->has_ack)
		take_ack(segment);
	if (segment->end > segment->rel)
		take_numbers(segment);
	take_timestamp(segment);
	take_window(segment);
	half->flags &= (uint8_t)~HALF_PROBED;
	if (segment->seg_class == MOS_SEG_KEEP_ALIVE || segment->seg_class == MOS_SEG_ZERO_WINDOW_PROBE)
		half->flags |= HALF_PROBED;
	move_sender(segment);
}
