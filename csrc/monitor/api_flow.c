/* api_flow.c - the calls on a flow's socket: addresses, options, bytes, packet, figures. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../tcp/seq.h"
#include "../tcp/tcp_receiver.h"
#include "bytes.h"
#include "context.h"
#include "figures.h"
#include "flow_life.h"

/* The flow of a socket id; errno as the manual says: EBADF, or `listening` for a listening socket. */
static int find(struct mos_context *ctx, int64_t sock, int listening, struct flow **flow, uint32_t *index)
{
	int rc = context_check(ctx);

	if (rc)
		return rc;
	if (flow_sock_find(ctx, sock, flow, index))
		return 0;
	if (mon_socket_find(ctx, sock))
		return context_fail(ctx, listening, "%" PRId64 " is a listening socket; this call needs a flow's socket, as callbacks get it",
		                    sock);
	return context_fail(ctx, -EBADF, "%" PRId64 " is not a socket of this context, or was closed, or its flow has ended", sock);
}

static int check_side(struct mos_context *ctx, int side)
{
	if (side == MOS_SIDE_CLI || side == MOS_SIDE_SVR)
		return 0;
	return context_fail(ctx, -EINVAL, "side %d: give MOS_SIDE_CLI or MOS_SIDE_SVR", side);
}

int mos_getpeername(struct mos_context *ctx, int64_t sock, int side, char host[64], uint16_t *port)
{
	struct flow *flow;
	uint32_t index;
	int rc = find(ctx, sock, -ENOTCONN, &flow, &index);

	if (!rc)
		rc = check_side(ctx, side);
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
	int rc = find(ctx, sock, -ENOTSOCK, &flow, &index);

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
		if (value != MOS_OVERLAP_POLICY_FIRST && value != MOS_OVERLAP_POLICY_LAST)
			return context_fail(ctx, -EINVAL, "overlap policy %" PRId64 " is not known", value);
		at.overlap[option == MOS_CLIOVERLAP ? MOS_SIDE_CLI : MOS_SIDE_SVR] = (uint8_t)value;
		return 0;
	case MOS_STOP_MON:
		if (value < MOS_SIDE_CLI || value > MOS_SIDE_BOTH)
			return context_fail(ctx, -EINVAL, "side %" PRId64 ": give MOS_SIDE_CLI, MOS_SIDE_SVR or MOS_SIDE_BOTH", value);
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
			continue;
		}
		stream_free(stream, &ctx->pool);
		flow->cold->half[!side].stream = NULL;
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
		rc = set_option(ctx, (struct switches){socket->buffer, socket->overlap, &socket->stopped}, option, value);
		watch_set_unref(ctx, ctx->last_set);
		ctx->last_set = NULL;
		return rc;
	}
	rc = find(ctx, sock, -ENOTSOCK, &flow, &index);
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

/* The stream that `side` receives, if this socket reads it. */
static int find_stream(struct mos_context *ctx, int64_t sock, int side, struct flow **flow, uint32_t *index,
                       struct stream **stream)
{
	int rc = find(ctx, sock, -EBADF, flow, index);

	if (!rc)
		rc = check_side(ctx, side);
	if (rc)
		return rc;
	if (!watch_reads(&(*flow)->set->watch[*index], side))
		return context_fail(ctx, -EACCES,
		                    "this socket does not read what the %s receives: register MOS_ON_CONN_NEW_DATA, or set %s with "
		                    "mtcp_setsockopt(), on the listening socket",
		                    side == MOS_SIDE_CLI ? "client" : "server", side == MOS_SIDE_CLI ? "MOS_CLIBUF" : "MOS_SVRBUF");
	*stream = (*flow)->cold ? (*flow)->cold->half[!side].stream : NULL;
	return 0;
}

/* Step over what is missing at the reader's position; tells how much, once. */
static int64_t step_over(struct mos_context *ctx, const struct stream *stream, int64_t *at, uint64_t *missed)
{
	*missed = stream_missing(stream, *at, stream->next);
	*at += (int64_t)*missed;
	if (!*missed)
		return 0;
	return context_fail(ctx, -ENODATA, "%" PRIu64 " bytes were lost before this point of the stream", *missed);
}

int64_t mos_readable(struct mos_context *ctx, int64_t sock, int side, uint64_t *missed)
{
	struct flow_reader *reader;
	struct stream *stream;
	struct flow *flow;
	uint32_t index;
	int64_t rc = find_stream(ctx, sock, side, &flow, &index, &stream);

	*missed = 0;
	if (rc || !stream)
		return rc;
	reader = flow_reader(flow, index);
	if (!reader)
		return context_fail(ctx, -ENOMEM, "no memory for the reading position");
	rc = step_over(ctx, stream, &reader->at[side], missed);
	return rc ? rc : (int64_t)stream_run(stream, reader->at[side], stream->next);
}

int64_t mos_peek(struct mos_context *ctx, int64_t sock, int side, uint8_t *buf, size_t len, uint64_t *missed)
{
	int64_t rc = mos_readable(ctx, sock, side, missed);
	struct stream *stream;
	struct flow *flow;
	uint32_t index;
	size_t done = 0;

	if (rc <= 0)
		return rc;
	find_stream(ctx, sock, side, &flow, &index, &stream);
	int64_t *at = &flow->cold->reader[index].at[side];
	done = stream_read(stream, *at, buf, len, stream->next);
	*at += (int64_t)done;
	return (int64_t)done;
}

int64_t mos_ppeek(struct mos_context *ctx, int64_t sock, int side, uint8_t *buf, size_t len, uint64_t offset)
{
	struct stream *stream;
	struct flow *flow;
	uint32_t index;
	int rc = find_stream(ctx, sock, side, &flow, &index, &stream);
	int64_t at = offset < INT64_MAX ? (int64_t)offset + 1 : INT64_MAX;

	if (rc)
		return rc;
	if (!stream || !stream_run(stream, at, INT64_MAX))
		return context_fail(ctx, -ENODATA, "no byte is stored at offset %" PRIu64, offset);
	return (int64_t)stream_read(stream, at, buf, len, INT64_MAX);
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
		return find(ctx, sock, -EBADF, &flow, &index);
	if (!ctx->pkt)
		return context_fail(ctx, -EACCES, "there is no packet here: timers, MOS_ON_CONN_END and MOS_ON_CONN_NEW_DATA at MOS_NULL have none");
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
	int rc = find(ctx, sock, -ENOTCONN, &flow, &index);

	if (!rc)
		figures_fill(flow, figures);
	return rc;
}
