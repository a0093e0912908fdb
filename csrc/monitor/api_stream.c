/* api_stream.c - the calls that read what a side received: peek, ppeek, fragments, buffer info. */
#include <inttypes.h>

#include "../tcp/seq.h"
#include "api.h"
#include "bytes.h"

/* The stream that `side` receives, if this socket reads it. */
static int find_stream(struct mos_context *ctx, int64_t sock, int side, struct flow **flow, uint32_t *index,
                       struct stream **stream)
{
	int rc = api_find_flow(ctx, sock, -EBADF, flow, index);

	if (!rc)
		rc = api_check_side(ctx, side);
	if (rc)
		return rc;
	if (!watch_reads(&(*flow)->set->watch[*index], side))
		return context_fail(
			ctx, -EACCES,
			"this socket does not read what the %s receives: register MOS_ON_CONN_NEW_DATA, or set %s with "
			"mtcp_setsockopt(), on the listening socket",
			side == MOS_SIDE_CLI ? "client" : "server", side == MOS_SIDE_CLI ? "MOS_CLIBUF" : "MOS_SVRBUF");
	*stream = (*flow)->cold ? (*flow)->cold->half[!side].stream : NULL;
	return 0;
}

/* What every reader consumed is gone for users, unless history keeps it, even if it is still stored. */
static int64_t lowest(const struct flow *flow, const struct stream *stream, int side)
{
	return stream->history ? stream->base
	                       : rel_max(stream->base, rel_min(bytes_unread_from(flow, side), stream->next));
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
	reader->at[side] = rel_max(reader->at[side], stream->start);
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
	if (!stream || at < lowest(flow, stream, side) || !stream_run(stream, at, INT64_MAX))
		return context_fail(ctx, -ENODATA, "no byte is stored at offset %" PRIu64, offset);
	return (int64_t)stream_read(stream, at, buf, len, INT64_MAX);
}

int64_t mos_getfragments(struct mos_context *ctx, int64_t sock, int side, struct mos_fragment *fragment, size_t max)
{
	struct stream *stream;
	struct flow *flow;
	uint32_t index;
	int64_t count = 0;
	int rc = find_stream(ctx, sock, side, &flow, &index, &stream);

	if (rc || !stream)
		return rc;
	for (int64_t at = lowest(flow, stream, side); at < stream->top;) {
		size_t run = stream_run(stream, at, stream->top);

		if (!run) {
			at += (int64_t)stream_missing(stream, at, stream->top);
			continue;
		}
		if ((size_t)count < max)
			fragment[count] = (struct mos_fragment){(uint64_t)at - 1, run};
		count++;
		at += (int64_t)run;
	}
	return count;
}

int mos_getbufferinfo(struct mos_context *ctx, int64_t sock, int side, struct mos_buffer_info *info)
{
	struct stream *stream;
	struct flow *flow;
	uint32_t index;
	int rc = find_stream(ctx, sock, side, &flow, &index, &stream);

	if (rc)
		return rc;
	*info = (struct mos_buffer_info){.init_seq = flow->half[!side].isn + 1};
	if (!stream)
		return 0;
	info->last_byte_read = (uint64_t)rel_max(flow->cold->reader ? flow->cold->reader[index].at[side] : 1,
	                                         stream->start) -
	                       1;
	info->next_byte_expected = (uint64_t)stream->next - 1;
	info->last_byte_received = (uint64_t)stream->top - 1;
	return 0;
}
