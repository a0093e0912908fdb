/* rexmit.c - see rexmit.h. */
#include "rexmit.h"

#include "seq.h"

enum {
	FAST_DUP_ACKS = 2,
	DEFAULT_RTT_NS = 3000000
}; /* 3 ms: what Wireshark assumes without a handshake */

static uint64_t flow_rtt(const struct flow *flow)
{
	if (flow->flags & FLOW_HANDSHAKE_DONE)
		return flow->handshake_rtt_ns;
	for (int side = 0; side < 2; side++)
		if (flow->half[side].rtt_count)
			return flow->half[side].rtt_min_ns;
	return DEFAULT_RTT_NS;
}

/* A late filler: reordered if it came within a round trip of the segment that made the hole. */
static uint8_t filler_class(const struct segment *segment)
{
	const struct flow *flow = segment->flow;
	uint64_t since = flow->first_ns;

	if (half_has_holes(flow, segment->side)) {
		const struct hole *hole = ranges_next(&flow->cold->half[segment->side].holes, segment->rel);

		if (hole && hole->start < segment->end)
			since = hole->since_ns;
	}
	if (time_since(since, segment->now_ns) <= flow_rtt(flow))
		return MOS_SEG_OUT_OF_ORDER;
	return MOS_SEG_UNSEEN_RETRANSMISSION;
}

/* The number at the edge was sent into a closed window: seen, but the sender does not count it as sent. */
static bool probe_pending(const struct segment *segment)
{
	const struct flow_cold *cold = segment->flow->cold;

	return cold && cold->half[segment->side].probe;
}

/* How many numbers of [from, to) were never seen, or lie where holes were given up at their cap. */
static int64_t unseen(const struct half_cold *cold, int64_t from, int64_t to)
{
	int64_t forgotten = rel_min(to, cold->forgot_end) - rel_max(from, cold->forgot_start);

	return forgotten > 0 ? to - from : ranges_missing(&cold->holes, from, to);
}

/* How many of the segment's numbers were seen before. */
static int64_t seen_before(const struct segment *segment)
{
	const struct flow *flow = segment->flow;
	const struct flow_half *sender = &flow->half[segment->side];
	int64_t from = rel_max(segment->rel, sender->flags & HALF_SYN ? 0 : 1);
	int64_t to = rel_min(segment->end, sender->snd_max);

	if (probe_pending(segment) && segment->end > sender->snd_max)
		return 1;
	if (to <= from)
		return 0;
	if (!flow->cold)
		return to - from;
	return to - from - unseen(&flow->cold->half[segment->side], from, to);
}

/* The same below the first number of a flow picked up in the middle. */
static int64_t seen_below(const struct segment *segment)
{
	const struct half_cold *cold = segment->flow->cold ? &segment->flow->cold->half[segment->side] : NULL;
	int64_t from, to = rel_min(segment->end, 1);

	if (!cold || !cold->below)
		return 0;
	from = rel_max(segment->rel, 1 - cold->below);
	return to > from ? to - from - ranges_missing(&cold->below_holes, from, to) : 0;
}

static uint8_t retransmission_class(const struct segment *segment)
{
	const struct flow_half *sender = &segment->flow->half[segment->side];

	if (segment->end <= sender->snd_una)
		return MOS_SEG_SPURIOUS_RETRANSMISSION;
	if (sender->dup_acks >= FAST_DUP_ACKS && segment->rel == sender->snd_una)
		return MOS_SEG_FAST_RETRANSMISSION;
	return MOS_SEG_RETRANSMISSION;
}

/* Zero-window probes and keep-alives: at most one byte at the edge. */
static uint8_t probe_class(const struct segment *segment)
{
	const struct flow_half *sender = &segment->flow->half[segment->side];
	const struct flow_half *receiver = &segment->flow->half[!segment->side];
	bool closed = receiver->flags & HALF_ACKED && !receiver->window;
	uint32_t len = segment->pkt->payload_len;

	if (segment->pkt->flags & (TCP_SYN | TCP_FIN) || len > 1)
		return MOS_SEG_NORMAL;
	if (closed && len == 1 && segment->rel == sender->snd_max)
		return MOS_SEG_ZERO_WINDOW_PROBE;
	if (segment->rel == sender->snd_max - 1)
		return MOS_SEG_KEEP_ALIVE;
	return MOS_SEG_NORMAL;
}

void rexmit_classify(struct segment *segment)
{
	const struct flow_half *sender = &segment->flow->half[segment->side];

	segment->seg_class = MOS_SEG_NORMAL;
	segment->rexmit = false;
	if (segment->rel > sender->snd_max || segment->pkt->flags & TCP_RST || !(sender->flags & HALF_KNOWN) ||
	    segment->syn_replaced || (segment->pkt->flags & TCP_SYN && segment->rel))
		return; /* a SYN with another ISN repeats nothing */
	segment->seg_class = probe_class(segment);
	if (segment->rel == sender->snd_max && !probe_pending(segment))
		return;
	segment->rexmit = seen_before(segment) + seen_below(segment) > 0;
	if (segment->seg_class != MOS_SEG_NORMAL || segment->end == segment->rel)
		return;
	segment->seg_class = segment->rexmit ? retransmission_class(segment) : filler_class(segment);
}

void rtt_start(struct segment *segment)
{
	struct flow_half *half = &segment->flow->half[segment->side];

	if (half->rtt_sample_ns)
		return;
	half->rtt_sample_ns = segment->now_ns + 1; /* 0 = none, also in captures that begin at 0 */
	half->rtt_sample_end = (uint32_t)segment->end;
}

void rtt_cancel(struct segment *segment)
{
	struct flow_half *half = &segment->flow->half[segment->side];

	if (half->rtt_sample_ns && (int32_t)((uint32_t)segment->rel - half->rtt_sample_end) < 0)
		half->rtt_sample_ns = 0;
}

void rtt_acked(struct flow_half *half, int64_t ack_rel, uint64_t now_ns)
{
	uint64_t rtt;

	if (!half->rtt_sample_ns || (int32_t)((uint32_t)ack_rel - half->rtt_sample_end) < 0)
		return;
	rtt = time_since(half->rtt_sample_ns - 1, now_ns);
	half->rtt_sample_ns = 0;
	if (!half->rtt_count || rtt < half->rtt_min_ns)
		half->rtt_min_ns = rtt;
	if (rtt > half->rtt_max_ns)
		half->rtt_max_ns = rtt;
	half->rtt_sum_ns += rtt;
	half->rtt_count++;
}
