/* figures.c - see figures.h. */
#include "figures.h"

#include <arpa/inet.h>

#include "../tcp/seq.h"
#include "digest.h"

void figures_address(const struct flow *flow, int side, char host[64], uint16_t *port)
{
	bool hi = (side == MOS_SIDE_CLI) == ((flow->flags & FLOW_CLIENT_HI) != 0);
	uint32_t ports = flow->key.ports;

	inet_ntop(flow_key_is_ipv6(&flow->key) ? AF_INET6 : AF_INET, hi ? flow->key.hi : flow->key.lo, host, 64);
	*port = ntohs((uint16_t)(hi ? ports >> 16 : ports));
}

/* Distinct stream bytes seen and captured. */
static uint64_t stream_bytes(const struct flow *flow, int side)
{
	const struct flow_half *half = &flow->half[side];
	const struct half_cold *cold = flow->cold ? &flow->cold->half[side] : NULL;
	int64_t bytes = rel_max(half->snd_max - 1, 0);

	if (half->flags & HALF_FIN)
		bytes--;
	if (cold)
		bytes += cold->below - cold->below_holes.bytes - cold->holes.bytes - (int64_t)cold->cut_bytes;
	return bytes > 0 ? (uint64_t)bytes : 0;
}

/* Captured, but behind a hole that is still open. */
static uint64_t undelivered_bytes(const struct flow *flow, int side)
{
	const struct flow_half *half = &flow->half[side];
	int64_t edge = half_rcv_nxt(flow, side), beyond = half->snd_max - edge;

	if (beyond <= 0)
		return 0;
	if (half->flags & HALF_FIN)
		beyond--;
	return (uint64_t)(beyond - ranges_missing(&flow->cold->half[side].holes, edge, half->snd_max));
}

static void fill_cold(const struct half_cold *cold, struct mos_direction_figures *figures)
{
	figures->syn += cold->syn_hi << 8;
	figures->fin += cold->fin_hi << 8;
	figures->rst += cold->rst_hi << 8;
	figures->retransmission = cold->seg_class[MOS_SEG_RETRANSMISSION];
	figures->fast_retransmission = cold->seg_class[MOS_SEG_FAST_RETRANSMISSION];
	figures->spurious_retransmission = cold->seg_class[MOS_SEG_SPURIOUS_RETRANSMISSION];
	figures->unseen_retransmission = cold->seg_class[MOS_SEG_UNSEEN_RETRANSMISSION];
	figures->out_of_order = cold->seg_class[MOS_SEG_OUT_OF_ORDER];
	figures->keep_alive = cold->seg_class[MOS_SEG_KEEP_ALIVE];
	figures->zero_window_probe = cold->seg_class[MOS_SEG_ZERO_WINDOW_PROBE];
	figures->duplicate_ack = cold->duplicate_ack;
	figures->zero_window = cold->zero_window;
	figures->gaps = cold->gaps;
	figures->gap_bytes = cold->gap_bytes;
}

static void fill_direction(const struct flow *flow, int side, struct mos_direction_figures *figures)
{
	const struct flow_half *half = &flow->half[side];

	*figures = (struct mos_direction_figures){
		.packets = half->packets,
		.wire_bytes = half->wire_bytes,
		.payload_bytes = half->payload_bytes,
		.stream_bytes = stream_bytes(flow, side),
		.undelivered_bytes = undelivered_bytes(flow, side),
		.syn = half->syn,
		.fin = half->fin,
		.rst = half->rst,
		.rtt_min_ns = half->rtt_count ? half->rtt_min_ns : NOT_MEASURED,
		.rtt_mean_ns = half->rtt_count ? half->rtt_sum_ns / half->rtt_count : NOT_MEASURED,
		.rtt_max_ns = half->rtt_count ? half->rtt_max_ns : NOT_MEASURED,
		.max_window = half->packets ? half->max_window : NOT_MEASURED,
		.mss = half->mss ? half->mss : NOT_MEASURED,
		.sack_permitted = (half->flags & HALF_SACK) != 0,
		.timestamps = (half->flags & HALF_TIMESTAMPS) != 0,
		.window_scale = half->wscale,
	};
	if (flow->cold)
		fill_cold(&flow->cold->half[side], figures);
}

void figures_fill(const struct flow *flow, struct mos_flow_figures *figures)
{
	*figures = (struct mos_flow_figures){
		.flow_id = flow->serial,
		.start_ns = flow->first_ns,
		.end_ns = flow->last_ns,
		.handshake_rtt_ns = flow->flags & FLOW_HANDSHAKE_DONE ? flow->handshake_rtt_ns : NOT_MEASURED,
		.client_state = flow->half[MOS_SIDE_CLI].state,
		.server_state = flow->half[MOS_SIDE_SVR].state,
		.end_reason = flow->end_reason,
		.midstream = (flow->flags & FLOW_MIDSTREAM) != 0,
	};
	community_id(&flow->key, figures->community_id);
	figures_address(flow, MOS_SIDE_CLI, figures->client, &figures->client_port);
	figures_address(flow, MOS_SIDE_SVR, figures->server, &figures->server_port);
	for (int side = 0; side < 2; side++)
		fill_direction(flow, side, &figures->dir[side]);
}
