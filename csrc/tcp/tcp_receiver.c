/* tcp_receiver.c - see tcp_receiver.h. */
#include "tcp_receiver.h"

#include "seq.h"
#include "tcp_sender.h"
#include "tcp_state.h"

/* Second and fourth steps of "segment arrives": SYN. */
static void take_syn(struct segment *segment)
{
	tcp_move(segment, !segment->side, segment->has_ack ? GOT_SYN_ACK : GOT_SYN);
}

/* Fifth step: the ACK field. */
static void take_ack(struct segment *segment)
{
	const struct flow_half *own = &segment->flow->half[!segment->side];

	if (!tcp_is_synchronized(own->state) && segment->ack_rel >= 1)
		tcp_move(segment, !segment->side, GOT_ACK_OF_SYN);
	if (own->flags & HALF_FIN && segment->ack_rel >= own->snd_max)
		tcp_move(segment, !segment->side, GOT_ACK_OF_FIN);
}

/* Eighth step: a FIN counts when everything before it is there; else it waits. */
static void take_fin(struct segment *segment)
{
	struct flow_half *sender = &segment->flow->half[segment->side];

	if ((sender->flags & (HALF_FIN | HALF_FIN_TAKEN)) != HALF_FIN)
		return;
	if (half_rcv_nxt(segment->flow, segment->side) < sender->snd_max)
		return;
	sender->flags |= HALF_FIN_TAKEN;
	tcp_move(segment, !segment->side, GOT_FIN);
}

void tcp_receiver_update(struct segment *segment)
{
	if (!segment->accepted)
		return;
	if (segment->pkt->flags & TCP_RST) {
		tcp_move(segment, !segment->side, GOT_RST);
		return;
	}
	if (segment->pkt->flags & TCP_SYN)
		take_syn(segment);
	if (segment->has_ack)
		take_ack(segment);
	take_fin(segment);
}

int64_t tcp_readable_edge(const struct flow *flow, int side)
{
	const struct flow_half *half = &flow->half[side];
	const struct half_cold *cold = flow->cold ? &flow->cold->half[side] : NULL;
	int64_t edge = half_rcv_nxt(flow, side);

	if (half->flags & HALF_FIN && edge == half->snd_max)
		edge--;
	if (cold && cold->syn_data)
		return 1; /* the server has not said yet whether it takes data in a SYN */
	if (cold && cold->refused_end && cold->stream) {
		const struct hole *hole = ranges_next(&cold->stream->holes, cold->stream->next);

		return rel_min(edge, hole ? hole->start : cold->stream->top);
	}
	return edge;
}

bool tcp_skip_gap(struct flow *flow, int side, uint64_t now_ns, bool at_once, int64_t *at, uint64_t *bytes)
{
	const struct flow_half *half = &flow->half[side];
	struct half_cold *cold = &flow->cold->half[side];
	uint64_t packets = flow->half[0].packets + flow->half[1].packets;
	const struct hole *hole;
	int64_t to;

	if (!cold->holes.count || half->snd_una <= cold->rcv_nxt || cold->rcv_nxt >= half->snd_max) {
		cold->hold_ns = 0;
		return false;
	}
	if (!cold->hold_ns || cold->hold_una <= cold->rcv_nxt) {
		cold->hold_ns = now_ns ? now_ns : 1;
		cold->hold_packets = packets;
		cold->hold_una = half->snd_una;
	}
	if (!at_once && time_since(cold->hold_ns, now_ns) < GAP_HOLD_NS &&
	    packets - cold->hold_packets < GAP_HOLD_PACKETS)
		return false;
	hole = ranges_next(&cold->holes, cold->rcv_nxt);
	to = rel_min(hole->end, at_once ? half->snd_una : cold->hold_una);
	*at = cold->rcv_nxt;
	*bytes = (uint64_t)(to - cold->rcv_nxt);
	cold->gaps++;
	cold->gap_bytes += *bytes;
	cold->rcv_nxt = to;
	tcp_refresh_edge(flow, side);
	return true;
}
