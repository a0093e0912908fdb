/* stream_read.c - see stream.h: what looks at the bytes and changes nothing. */
#include <string.h>

#include "seq.h"
#include "stream.h"

/* The piece that holds position `at`, or NULL: the position then is in the pages. */
static const struct stream_piece *piece_at(const struct stream *stream, int64_t at)
{
	for (uint32_t i = stream->pieces; i-- > 0;) {
		const struct stream_piece *piece = &stream->piece[i];

		if (at >= piece->at && at < piece->at + piece->len)
			return piece;
	}
	return NULL;
}

/* The nearest piece that begins at or after `at` ends a run of pages. */
static int64_t pages_until(const struct stream *stream, int64_t at, int64_t end)
{
	for (uint32_t i = 0; i < stream->pieces; i++)
		if (stream->piece[i].at >= at && stream->piece[i].at < end)
			end = stream->piece[i].at;
	return end;
}

size_t stream_run(const struct stream *stream, int64_t at, int64_t limit)
{
	const struct hole *hole = ranges_next(&stream->holes, at);
	int64_t end = rel_min(stream->top, limit);

	if (at < stream->base || at >= end || (hole && hole->start <= at))
		return 0;
	return (size_t)((hole ? rel_min(hole->start, end) : end) - at);
}

uint64_t stream_missing(const struct stream *stream, int64_t at, int64_t limit)
{
	int64_t from = at;

	while (at < limit) {
		const struct hole *hole;

		if (at < stream->base) {
			at = rel_min(stream->base, limit);
			continue;
		}
		hole = ranges_next(&stream->holes, at);
		if (!hole || hole->start > at)
			break;
		at = rel_min(hole->end, limit);
	}
	return (uint64_t)(at - from);
}

static size_t compare_run(const struct stream *stream, int64_t at, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		const struct stream_piece *piece = piece_at(stream, at + (int64_t)done);
		size_t n = len - done, different;

		if (piece) {
			size_t skip = (size_t)(at + (int64_t)done - piece->at);

			if (piece->len - skip < n)
				n = piece->len - skip;
			if (!memcmp(piece->data + skip, data + done, n)) {
				done += n;
				continue;
			}
			for (size_t i = 0; i < n; i++)
				if (piece->data[skip + i] != data[done + i])
					return done + i + 1;
		}
		n = (size_t)(pages_until(stream, at + (int64_t)done, at + (int64_t)len) - at) - done;
		different = pages_compare(&stream->pages, at + (int64_t)done, data + done, n);
		if (different)
			return done + different;
		done += n;
	}
	return 0;
}

void stream_conflict(const struct stream *stream, int64_t at, const uint8_t *data, uint32_t len, struct stream_put *put)
{
	int64_t end = rel_min(at + len, stream->top), from = at;

	*put = (struct stream_put){0};
	at = rel_max(at, stream->base);
	while (at < end) {
		size_t run = stream_run(stream, at, end), different;

		if (!run) {
			at += (int64_t)stream_missing(stream, at, end);
			continue;
		}
		different = compare_run(stream, at, data + (at - from), run);
		if (different) {
			if (!put->conflict_bytes)
				put->conflict_at = at + (int64_t)different - 1;
			put->conflict_bytes += run - (different - 1);
		}
		at += (int64_t)run;
	}
}

size_t stream_read(const struct stream *stream, int64_t at, uint8_t *data, size_t len, int64_t limit)
{
	size_t run = stream_run(stream, at, limit), done = 0;

	if (run > len)
		run = len;
	while (done < run) {
		int64_t here = at + (int64_t)done;
		const struct stream_piece *piece = piece_at(stream, here);
		size_t n = run - done;

		if (piece) {
			size_t skip = (size_t)(here - piece->at);

			if (piece->len - skip < n)
				n = piece->len - skip;
			memcpy(data + done, piece->data + skip, n);
		} else {
			n = (size_t)(pages_until(stream, here, here + (int64_t)n) - here);
			pages_read(&stream->pages, here, data + done, n);
		}
		done += n;
	}
	return run;
}

size_t stream_view(const struct stream *stream, int64_t at, int64_t limit, const uint8_t **data)
{
	size_t run = stream_run(stream, at, limit), there;
	const struct stream_piece *piece;

	if (!run)
		return 0;
	piece = piece_at(stream, at);
	if (piece) {
		*data = piece->data + (at - piece->at);
		there = piece->len - (size_t)(at - piece->at);
	} else {
		there = pages_view(&stream->pages, at, data);
		run = (size_t)(pages_until(stream, at, at + (int64_t)run) - at);
	}
	return there < run ? there : run;
}
