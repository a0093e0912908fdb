/* tcp_judge.c - see tcp_judge.h. */
#include "tcp_judge.h"

#include "seq.h"
#include "tcp_opts.h"
#include "tcp_state.h"

enum {
	UNKNOWN_SHIFT = 14,  /* the largest window scale: RFC 7323 2.3 */
	FIRST_WINDOW = 65535 /* nothing larger can be offered before the handshake is over */
};

/* A timestamp this old may have wrapped since: RFC 7323 5.5. */
static const uint64_t TIMESTAMP_LIFE_NS = 24ull * 86400 * 1000000000;

/* The first evidence of a direction's numbers, when its SYN was not seen: `first` becomes rel 1. */
static void learn_isn(struct flow_half *half, uint32_t first)
{
	half->isn = first - 1;
	half->snd_max = 1;
	half->snd_una = 1;
	half->flags |= HALF_KNOWN;
}

/*
 * Picked up in the middle, offset 0 is the first number seen of the side itself: what the peer
 * acknowledged before may lie behind data that was under way when the capture began.
 */
static void rebase_midstream(struct segment *segment)
{
	struct flow_half *half = &segment->flow->half[segment->side];
	int64_t shift;

	if (!(segment->flow->flags & FLOW_MIDSTREAM) || half->packets != 1 || !(half->flags & HALF_KNOWN) ||
	    half->snd_max != 1)
		return;
	shift = (int32_t)(segment->pkt->seq - 1 - half->isn);
	half->isn += (uint32_t)shift;
	half->snd_una -= shift;
}

/* The largest window this side ever offered; without both SYNs its scale is unknown. */
static int64_t largest_window(const struct flow *flow, int side)
{
	int64_t window = flow->half[side].max_window;

	if (flow->half[0].flags & flow->half[1].flags & HALF_SYN)
		return window;
	return (window ? window : UINT16_MAX) << UNKNOWN_SHIFT;
}

static void reject(struct segment *segment, enum mos_error_reason reason, int64_t at, uint64_t length)
{
	segment->accepted = false;
	segment_raise(segment, reason, !segment->side, at, length);
}

/* An acknowledgement of what was never sent, or older than any the peer could send (RFC 5961 5.2). */
static bool ack_is_odd(const struct segment *segment)
{
	const struct flow *flow = segment->flow;
	const struct flow_half *acked = &flow->half[!segment->side];
	int64_t window = largest_window(flow, segment->side), top;

	if (!acked->packets)
		return false; /* one direction only was captured */
	if (segment->pkt->window > window)
		window = segment->pkt->window;
	top = rel_max(acked->snd_max, acked->snd_una);
	if (acked->flags & HALF_SYN && segment->ack_rel < 1)
		return true; /* older than the connection */
	return segment->ack_rel > top + window || segment->ack_rel < acked->snd_una - window;
}

/* Right edge of what the receiver of `side`'s data could take. */
static int64_t window_edge(const struct segment *segment)
{
	const struct flow *flow = segment->flow;
	int64_t from = rel_max(flow->half[segment->side].snd_una, half_rcv_nxt(flow, segment->side));

	return from + largest_window(flow, !segment->side);
}

/* PAWS (RFC 7323 5): new data with a timestamp older than the last one is an old duplicate. */
static bool timestamp_is_old(struct segment *segment)
{
	const struct flow *flow = segment->flow;
	const struct flow_half *half = &flow->half[segment->side];
	const struct mos_pkt *pkt = segment->pkt;

	if (!(flow->half[0].flags & flow->half[1].flags & HALF_TIMESTAMPS))
		return false;
	segment->has_timestamp = tcp_opts_timestamp(pkt->frame + pkt->l4_off + 20, pkt->tcp_opt_len,
	                                            &segment->ts_value);
	if (!segment->has_timestamp || !half->ts_recent || segment->end <= half_rcv_nxt(flow, segment->side))
		return false;
	/* Linux lets a clock that ticks between two processors be one behind */
	return (int32_t)(half->ts_recent - segment->ts_value) > 1 &&
	       time_since(flow->last_ns, segment->now_ns) < TIMESTAMP_LIFE_NS;
}

/* What a host in SYN_SENT takes as an answer to its SYN (RFC 9293 3.10.7.3). */
static bool answers_syn(const struct segment *segment)
{
	const struct flow_half *receiver = &segment->flow->half[!segment->side];

	if (receiver->state != MOS_TCP_SYN_SENT || !segment->has_ack)
		return true;
	/* data of the client that we missed may be acknowledged too, within a first window */
	return segment->ack_rel >= 1 && segment->ack_rel <= receiver->snd_max + FIRST_WINDOW;
}

static void judge_ack(struct segment *segment)
{
	struct flow_half *acked = &segment->flow->half[!segment->side];

	if (!(acked->flags & HALF_KNOWN))
		learn_isn(acked, segment->pkt->ack);
	segment->ack_rel = seq_to_rel(segment->pkt->ack, acked->isn, rel_max(acked->snd_max, acked->snd_una));
}

/* RFC 9293 3.10.7.3 and 3.10.7.4, "check the RST bit". */
static void judge_rst(struct segment *segment)
{
	const struct flow *flow = segment->flow;
	const struct flow_half *sender = &flow->half[segment->side], *receiver = &flow->half[!segment->side];
	int64_t rel = segment->rel;

	if (receiver->state == MOS_TCP_SYN_SENT) {
		/* not synchronized: what counts is that it answers our SYN */
		if (segment->has_ack && (segment->ack_rel < 1 || segment->ack_rel > receiver->snd_max))
			reject(segment, MOS_ERR_RST_OUT_OF_WINDOW, rel, 0);
		return;
	}
	if (!(sender->flags & HALF_KNOWN) || !receiver->packets)
		return;
	if (rel < rel_min(sender->snd_una, half_rcv_nxt(flow, segment->side)) || rel > window_edge(segment))
		reject(segment, MOS_ERR_RST_OUT_OF_WINDOW, rel, 0);
}

static void judge_syn(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	struct flow_half *sender = &segment->flow->half[segment->side];
	bool known = sender->flags & HALF_KNOWN;

	segment->rel = 0;
	if (known && pkt->seq != sender->isn) {
		if (segment->has_ack && sender->state == MOS_TCP_SYN_RCVD) {
			segment->syn_replaced = true;
		} else {
			segment->rel = seq_to_rel(pkt->seq, sender->isn, sender->snd_max);
			reject(segment, MOS_ERR_SYN_IN_WINDOW, segment->rel, 0);
		}
	}
	segment->data = segment->rel + 1;
	if (segment->accepted && known && !segment->syn_replaced && segment->pkt->payload_len && sender->snd_una >= 1)
		reject(segment, MOS_ERR_SYN_IN_WINDOW, segment->data, segment->pkt->payload_len);
	if (segment->accepted && segment->has_ack &&
	    (segment->ack_rel < 1 || ack_is_odd(segment) || !answers_syn(segment)))
		reject(segment, MOS_ERR_ACK_OUT_OF_WINDOW, segment->rel, 0);
}

/* NOP, NOP, timestamp: what most segments carry; nothing in it can be wrong. */
static bool usual_options(const struct mos_pkt *pkt)
{
	uint32_t value;

	return !pkt->tcp_opt_len || (pkt->tcp_opt_len == 12 && pkt->frame[pkt->l4_off + 20] == 1 &&
	                             tcp_opts_timestamp(pkt->frame + pkt->l4_off + 20, 12, &value));
}

/* What hosts discard, or treat each in its own way, is told; an unannounced signature is refused. */
static void judge_oddities(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	const struct flow_half *sender = &segment->flow->half[segment->side];
	uint32_t first = pkt->urgent ? pkt->urgent - 1u : 0;
	struct tcp_opts opts;

	if (pkt->short_frame)
		segment_raise(segment, MOS_ERR_SHORT_FRAME, !segment->side, segment->rel, pkt->payload_len);
	if (pkt->flags & TCP_URG && first < pkt->payload_len)
		segment_raise(segment, MOS_ERR_URGENT_DATA, !segment->side, segment->data + first, 1);
	if (usual_options(pkt))
		return;
	tcp_opts_parse(pkt->frame + pkt->l4_off + 20, pkt->tcp_opt_len, &opts);
	if (opts.md5 && !sender->md5 && sender->flags & HALF_SYN)
		reject(segment, MOS_ERR_BAD_OPTIONS, segment->rel, pkt->payload_len);
	else if (opts.malformed && pkt->payload_off - pkt->l4_off == pkt->tcp_opt_len + 20u)
		segment_raise(segment, MOS_ERR_BAD_OPTIONS, !segment->side, segment->rel, pkt->payload_len);
}

static void judge_data(struct segment *segment)
{
	const struct flow *flow = segment->flow;
	const struct flow_half *sender = &flow->half[segment->side];
	uint64_t length = (uint64_t)(segment->end - segment->rel);

	if (!segment->has_ack)
		reject(segment, MOS_ERR_NO_ACK_FLAG, segment->rel, length);
	else if (ack_is_odd(segment) || !answers_syn(segment))
		reject(segment, MOS_ERR_ACK_OUT_OF_WINDOW, segment->rel, length);
	else if (segment->end > sender->snd_max && flow->half[!segment->side].packets &&
	         segment->rel > window_edge(segment))
		reject(segment, MOS_ERR_OUT_OF_WINDOW, segment->rel, length);
	else if (timestamp_is_old(segment))
		reject(segment, MOS_ERR_OLD_TIMESTAMP, segment->rel, length);
	else if (sender->flags & HALF_FIN && segment->end > sender->snd_max)
		reject(segment, MOS_ERR_DATA_BEYOND_FIN, segment->rel, length);
	else if (segment->pkt->flags & TCP_FIN &&
	         (segment->end < sender->snd_max || (segment->end == sender->snd_max && !(sender->flags & HALF_FIN))))
		reject(segment, MOS_ERR_DATA_BEYOND_FIN, segment->rel, length);
}

void tcp_judge(struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	struct flow_half *sender = &segment->flow->half[segment->side];
	bool rst = pkt->flags & TCP_RST;

	segment->accepted = true;
	segment->has_ack = pkt->flags & TCP_ACK;
	if (segment->has_ack && (!rst || segment->flow->half[!segment->side].flags & HALF_KNOWN))
		judge_ack(segment);
	if (pkt->flags & TCP_SYN && !rst) {
		judge_syn(segment);
		segment->end = segment_data_end(segment) + (pkt->flags & TCP_FIN ? 1 : 0);
		return;
	}
	rebase_midstream(segment);
	if (!(sender->flags & HALF_KNOWN) && !rst) {
		if (!answers_syn(segment)) { /* not of this connection: it teaches nothing */
			segment->end = segment->rel = segment->data = 0;
			reject(segment, MOS_ERR_ACK_OUT_OF_WINDOW, 0, 0);
			return;
		}
		learn_isn(sender, pkt->seq);
	}
	segment->rel = seq_to_rel(pkt->seq, sender->isn, sender->snd_max);
	segment->data = segment->rel;
	segment->end = rst ? segment->rel : segment_data_end(segment) + (pkt->flags & TCP_FIN ? 1 : 0);
	if (rst)
		judge_rst(segment);
	else
		judge_data(segment);
	if (segment->accepted && (pkt->tcp_opt_len || pkt->flags & TCP_URG || pkt->short_frame))
		judge_oddities(segment);
}
