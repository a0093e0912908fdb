/* api_flow.c - the calls on a flow's socket: addresses, options, bytes, packet, figures. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../tcp/seq.h"
#include "../tcp/tcp_receiver.h"
#include "api.h"
#include "bytes.h"
#include "context.h"
#include "figures.h"
#include "flow_life.h"

int api_find_flow(struct mos_context *ctx, int64_t sock, int listening, struct flow **flow, uint32_t *index)
{
	int rc = context_check(ctx);

	if (rc)
		return rc;
	if (flow_sock_find(ctx, sock, flow, index))
		return 0;
	if (mon_socket_find(ctx, sock))
		return context_fail(ctx, listening,
		                    "%" PRId64
		                    " is a listening socket; this call needs a flow's socket, as callbacks get it",
		                    sock);
	return context_fail(ctx, -EBADF,
	                    "%" PRId64 " is not a socket of this context, or was closed, or its flow has ended", sock);
}

int api_check_side(struct mos_context *ctx, int side)
{
	if (side == MOS_SIDE_CLI || side == MOS_SIDE_SVR)
		return 0;
	return context_fail(ctx, -EINVAL, "side %d: give MOS_SIDE_CLI or MOS_SIDE_SVR", side);
}

int mos_getpeername(struct mos_context *ctx, int64_t sock, int side, char host[64], uint16_t *port)
{
	struct flow *flow;
	uint32_t index;
	int rc = api_find_flow(ctx, sock, -ENOTCONN, &flow, &index);

	if (!rc)
		rc = api_check_side(ctx, side);
	if (!rc)
		figures_address(flow, side, host, port);
	return rc;
}

static int64_t get_overlap(const struct flow *flow, uint32_t index, int side)
{
	return flow->set->watch[index].overlap[side];
}

/* What is stored of this socket's buffer size when nobody set it. */
static int64_t get_buffer(const struct mos_context *ctx, const struct flow *flow, uint32_t index, int side)
{
	const struct watch *watch = &flow->set->watch[index];

	if (!watch_reads(watch, side))
		return 0;
	return watch->buffer[side] > 0 ? watch->buffer[side] : (int64_t)ctx->config.rmem_size;
}

static int64_t get_option(struct mos_context *ctx, const struct flow *flow, uint32_t index, int option)
{
	switch (option) {
	case MOS_TCP_STATE_CLI:
		return flow->half[MOS_SIDE_CLI].state;
	case MOS_TCP_STATE_SVR:
		return flow->half[MOS_SIDE_SVR].state;
	case MOS_TIMESTAMP:
		return (int64_t)flow->last_ns;
	case MOS_CLIBUF:
		return get_buffer(ctx, flow, index, MOS_SIDE_CLI);
	case MOS_SVRBUF:
		return get_buffer(ctx, flow, index, MOS_SIDE_SVR);
	case MOS_CLIOVERLAP:
		return get_overlap(flow, index, MOS_SIDE_CLI);
	case MOS_SVROVERLAP:
		return get_overlap(flow, index, MOS_SIDE_SVR);
	default:
		return context_fail(ctx, -ENOSYS, "option %#x cannot be read, or not with this call", option);
	}
}

int64_t mos_getsockopt(struct mos_context *ctx, int64_t sock, int level, int option)
{
	struct flow *flow;
	uint32_t index;
	int rc = api_find_flow(ctx, sock, -ENOTSOCK, &flow, &index);

	if (!rc && level != SOL_MONSOCKET)
		rc = context_fail(ctx, -ENOSYS, "level %#x: give SOL_MONSOCKET", level);
	return rc ? rc : get_option(ctx, flow, index, option);
}

/* The switches of a listening socket or of one flow's watch. */
struct switches {
	int64_t *buffer;
	uint8_t *overlap, *stopped;
};

static int set_option(struct mos_context *ctx, struct switches at, int option, int64_t value)
{
	switch (option) {
	case MOS_CLIBUF:
	case MOS_SVRBUF:
		if (value < 0 || value > 1 << 30)
			return context_fail(ctx, -EINVAL, "a buffer has 0 to 1073741824 bytes, not %" PRId64, value);
		at.buffer[option == MOS_CLIBUF ? MOS_SIDE_CLI : MOS_SIDE_SVR] = value;
		return 0;
	case MOS_CLIOVERLAP:
	case MOS_SVROVERLAP:
		if (value < 0 || value >= MOS_OVERLAP_POLICIES)
			return context_fail(
				ctx, -EINVAL,
				"overlap policy %" PRId64 " is not known; give a MOS_OVERLAP_POLICY_ constant", value);
		at.overlap[option == MOS_CLIOVERLAP ? MOS_SIDE_CLI : MOS_SIDE_SVR] = (uint8_t)value;
		return 0;
	case MOS_STOP_MON:
		if (value < MOS_SIDE_CLI || value > MOS_SIDE_BOTH)
			return context_fail(ctx, -EINVAL,
			                    "side %" PRId64 ": give MOS_SIDE_CLI, MOS_SIDE_SVR or MOS_SIDE_BOTH",
			                    value);
		*at.stopped |= value == MOS_SIDE_BOTH ? 3 : (uint8_t)(1 << value);
		return 0;
	default:
		return context_fail(ctx, -ENOSYS, "option %#x cannot be set", option);
	}
}

/* Bring a flow's streams in line with its switches. */
static void apply(struct mos_context *ctx, struct flow *flow)
{
	watch_set_refresh(flow->set);
	for (int side = 0; flow->cold && side < 2; side++) {
		struct stream *stream = flow->cold->half[!side].stream;

		if (!stream)
			continue;
		if (flow->set->read[side]) {
			stream->rmem = watch_set_buffer(ctx, flow->set, side);
			stream->policy = bytes_overlap_policy(flow, side);
			continue;
		}
		bytes_switch_off(ctx, flow, side);
	}
}

int mos_setsockopt(struct mos_context *ctx, int64_t sock, int level, int option, int64_t value)
{
	struct mon_socket *socket = context_check(ctx) ? NULL : mon_socket_find(ctx, sock);
	struct watch_set *set;
	struct flow *flow;
	uint32_t index;
	int rc;

	if (ctx && level != SOL_MONSOCKET)
		return context_fail(ctx, -ENOSYS, "level %#x: give SOL_MONSOCKET", level);
	if (socket) {
		rc = set_option(ctx, (struct switches){socket->buffer, socket->overlap, &socket->stopped}, option,
		                value);
		watch_set_unref(ctx, ctx->last_set);
		ctx->last_set = NULL;
		return rc;
	}
	rc = api_find_flow(ctx, sock, -ENOTSOCK, &flow, &index);
	if (rc)
		return rc;
	set = watch_set_own(ctx, flow);
	if (!set)
		return context_fail(ctx, -ENOMEM, "no memory to change the flow's options");
	struct watch *watch = &set->watch[index];
	rc = set_option(ctx, (struct switches){watch->buffer, watch->overlap, &watch->stopped}, option, value);
	if (!rc)
		apply(ctx, flow);
	return rc;
}

static void fill_tcp(const struct mos_context *ctx, struct mos_packet *packet)
{
	const struct mos_pkt *pkt = ctx->pkt;

	packet->tcp_offset = pkt->l4_off;
	packet->payload_offset = pkt->payload_off;
	packet->payload_len = pkt->payload_len;
	packet->payload_captured = pkt->payload_cap;
	packet->seq = pkt->seq;
	packet->ack = pkt->ack;
	packet->window = pkt->window;
	packet->flags = pkt->flags;
	if (!ctx->segment)
		return;
	packet->segment_class = ctx->segment->seg_class;
	packet->is_rexmit = ctx->segment->rexmit;
	if (pkt->payload_len && ctx->segment->data >= 1)
		packet->offset = (uint64_t)ctx->segment->data - 1;
}

int mos_getlastpkt(struct mos_context *ctx, int64_t sock, int side, struct mos_packet *packet)
{
	struct flow *flow;
	uint32_t index;
	int rc = context_check(ctx);

	(void)side; /* there is one packet at hand, whichever stack looks at it */
	if (rc)
		return rc;
	if (!mon_socket_find(ctx, sock) && !flow_sock_find(ctx, sock, &flow, &index))
		return api_find_flow(ctx, sock, -EBADF, &flow, &index);
	if (!ctx->pkt)
		return context_fail(
			ctx, -EACCES,
			"there is no packet here: timers, MOS_ON_CONN_END and MOS_ON_CONN_NEW_DATA at MOS_NULL have none");
	*packet = (struct mos_packet){
		.frame = ctx->pkt->frame,
		.time_ns = ctx->pkt->time_ns,
		.number = ctx->packets,
		.offset = UINT64_MAX,
		.frame_len = ctx->pkt->caplen,
		.wire_len = ctx->pkt->wirelen,
		.eth_offset = ctx->pkt->l2_off,
		.ip_offset = ctx->pkt->l3_off,
		.tcp_offset = UINT32_MAX,
		.payload_offset = UINT32_MAX,
		.in_port = ctx->pkt->port,
	};
	if (ctx->pkt->kind == PKT_TCP)
		fill_tcp(ctx, packet);
	return 0;
}

uint64_t mos_packet_number(struct mos_context *ctx)
{
	return ctx && ctx->pkt ? ctx->packets : 0;
}

int mos_getlasterror(struct mos_context *ctx, struct mos_error *error)
{
	int rc = context_check(ctx);

	if (!rc && ctx->error.reason == MOS_ERR_NONE)
		rc = context_fail(ctx, -EACCES, "there is no error here: only callbacks of MOS_ON_ERROR have one");
	if (!rc)
		*error = ctx->error;
	return rc;
}

int mos_getfigures(struct mos_context *ctx, int64_t sock, struct mos_flow_figures *figures)
{
	struct flow *flow;
	uint32_t index;
	int rc = api_find_flow(ctx, sock, -ENOTCONN, &flow, &index);

	if (!rc)
		figures_fill(flow, figures);
	return rc;
}
