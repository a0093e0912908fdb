/* stream.c - see stream.h. */
#include "stream.h"

#include <stdlib.h>
#include <string.h>

#include "seq.h"

struct stream *stream_new(int64_t at)
{
	struct stream *stream = calloc(1, sizeof *stream);

	if (!stream)
		return NULL;
	stream->start = stream->base = stream->next = stream->top = at;
	seg_tree_init(&stream->held);
	return stream;
}

void stream_free(struct stream *stream, struct page_pool *pool)
{
	if (!stream)
		return;
	pages_free(&stream->pages, pool);
	ranges_free(&stream->holes);
	seg_tree_free(&stream->held, pool);
	free(stream->piece);
	free(stream);
}

static bool push_piece(struct stream *stream, int64_t at, const uint8_t *data, uint32_t len)
{
	if (stream->pieces == stream->room) {
		uint32_t room = stream->room ? stream->room * 2 : 4;
		struct stream_piece *piece = realloc(stream->piece, room * sizeof *piece);

		if (!piece)
			return false;
		stream->piece = piece;
		stream->room = room;
	}
	stream->piece[stream->pieces++] = (struct stream_piece){at, data, len};
	return true;
}

/* Copy pieces to pages where an overlap is about to change bytes under them; on failure they stay. */
static int flatten(struct stream *stream, struct page_pool *pool)
{
	for (uint32_t i = 0; i < stream->pieces; i++) {
		const struct stream_piece *piece = &stream->piece[i];
		int rc = pages_write(&stream->pages, pool, piece->at, piece->data, piece->len);

		if (rc)
			return rc;
	}
	stream->pieces = 0;
	return 0;
}

/* The stream is whole up to here: its host has delivered what is below. */
static int64_t whole_until(const struct stream *stream)
{
	return stream->next + (int64_t)stream_run(stream, stream->next, INT64_MAX);
}

/* Where the new copy of [at, end) is kept. */
static struct overlap_win new_wins(struct stream *stream, struct page_pool *pool, int64_t at, int64_t end, bool fin)
{
	struct overlap_win win = {at, at};
	int64_t edge;

	if (stream->policy == MOS_OVERLAP_POLICY_LAST)
		win.to = end;
	if (!overlap_has_boundaries(stream->policy) || (at == stream->top && at == stream->next))
		return win;
	edge = whole_until(stream);
	overlap_deliver(&stream->held, pool, edge);
	at = rel_max(at, edge);
	if (stream->policy == MOS_OVERLAP_POLICY_LINUX)
		end += fin;
	/* without memory for its boundaries the first copy stays */
	if (at < end && overlap_take(&stream->held, pool, stream->policy, edge, at, end, &win))
		win.to = win.from;
	return win;
}

/* The old copy stays: write only where bytes are missing. */
static int write_missing(struct stream *stream, struct page_pool *pool, int64_t at, const uint8_t *data, int64_t end)
{
	int64_t from = at;

	while (at < end) {
		size_t run = stream_run(stream, at, end);
		size_t n;
		int rc;

		if (run) {
			at += (int64_t)run;
			continue;
		}
		n = (size_t)stream_missing(stream, at, end);
		rc = pages_write(&stream->pages, pool, at, data + (at - from), n);
		if (rc)
			return rc;
		at += (int64_t)n;
	}
	return 0;
}

/* The new copy stays. */
static int write_over(struct stream *stream, struct page_pool *pool, int64_t at, const uint8_t *data, int64_t end)
{
	const struct stream_piece *last = stream->pieces ? &stream->piece[stream->pieces - 1] : NULL;
	int rc = at < end && last && at < last->at + last->len ? flatten(stream, pool) : 0;

	return rc || at >= end ? rc : pages_write(&stream->pages, pool, at, data, (size_t)(end - at));
}

/* Bytes below top: overlap and hole filling. */
static int put_below(struct stream *stream, struct page_pool *pool, int64_t at, const uint8_t *data, int64_t end,
                     const struct overlap_win *win)
{
	int64_t from = rel_min(rel_max(win->from, at), end), to = rel_min(rel_max(win->to, from), end);
	struct ranges_fill fill;
	int rc = write_missing(stream, pool, at, data, from);

	if (!rc)
		rc = write_over(stream, pool, from, data + (from - at), to);
	if (!rc)
		rc = write_missing(stream, pool, to, data + (to - at), end);
	return rc ? rc : ranges_fill(&stream->holes, at, end, &fill);
}

/* Bytes at or above top. */
static int put_above(struct stream *stream, struct page_pool *pool, int64_t at, const uint8_t *data, uint32_t len)
{
	bool in_order = at == stream->top && stream->top == stream->next;
	int rc = 0;

	if (!in_order || !push_piece(stream, at, data, len))
		rc = pages_write(&stream->pages, pool, at, data, len);
	if (!rc && at > stream->top)
		rc = ranges_append(&stream->holes, stream->top, at, 0);
	if (!rc)
		stream->top = at + len;
	return rc;
}

/* [at, end) found no memory: with LAST the new copy of it, else what is not there. */
static uint64_t count_lost(const struct stream *stream, int64_t at, int64_t end)
{
	int64_t below = rel_min(end, stream->top), lost = rel_max(end - rel_max(at, stream->top), 0);

	if (stream->policy == MOS_OVERLAP_POLICY_LAST)
		return (uint64_t)(lost + rel_max(below - at, 0));
	return (uint64_t)(lost + ranges_missing(&stream->holes, at, below));
}

void stream_put(struct stream *stream, struct page_pool *pool, int64_t at, const uint8_t *data, uint32_t len,
                struct stream_put *put)
{
	int64_t end = at + len;
	struct overlap_win win;
	int rc = 0;

	if (at < stream->base) {
		int64_t skip = rel_min(stream->base - at, len);

		at += skip;
		data += skip;
	}
	win = new_wins(stream, pool, at, end, put->fin);
	if (at >= end)
		return;
	if (at < stream->top)
		rc = put_below(stream, pool, at, data, rel_min(end, stream->top), &win);
	if (!rc && end > stream->top) {
		int64_t skip = at < stream->top ? stream->top - at : 0;

		at += skip;
		rc = put_above(stream, pool, at, data + skip, (uint32_t)(end - at));
	}
	if (rc) {
		put->no_memory = true;
		stream->lost_bytes += count_lost(stream, at, end);
	}
	if (stream->held.root != SEG_NONE)
		overlap_deliver(&stream->held, pool, whole_until(stream));
}

void stream_restart(struct stream *stream, struct page_pool *pool, int64_t at)
{
	pages_free(&stream->pages, pool);
	ranges_free(&stream->holes);
	seg_tree_free(&stream->held, pool);
	stream->pieces = 0;
	stream->base = stream->next = stream->top = at;
}

int64_t stream_advance(struct stream *stream, int64_t next)
{
	int64_t grown;

	if (next <= stream->next)
		return 0;
	if (next > stream->top) {
		/* given up without ever being stored; without memory the reader simply stands still */
		if (ranges_append(&stream->holes, stream->top, next, 0))
			return 0;
		stream->top = next;
	}
	grown = next - stream->next - ranges_missing(&stream->holes, stream->next, next);
	stream->next = next;
	return grown;
}

/* A piece that found no page becomes a hole; without memory even for that, all below it goes too. */
static void lose_piece(struct stream *stream, int64_t at, int64_t end)
{
	stream->lost_bytes += (uint64_t)(end - at);
	if (ranges_insert(&stream->holes, at, end, 0))
		stream->base = rel_max(stream->base, end);
}

/* Copy what is unread of the pieces. */
static void keep_pieces(struct stream *stream, struct page_pool *pool, int64_t from)
{
	for (uint32_t i = 0; i < stream->pieces; i++) {
		const struct stream_piece *piece = &stream->piece[i];
		int64_t skip = rel_max(from - piece->at, 0);

		if (skip >= piece->len)
			continue;
		if (pages_write(&stream->pages, pool, piece->at + skip, piece->data + skip,
		                (size_t)(piece->len - skip)))
			lose_piece(stream, piece->at + skip, piece->at + piece->len);
	}
	stream->pieces = 0;
}

void stream_settle(struct stream *stream, struct page_pool *pool, int64_t unread_from)
{
	int64_t keep = stream->history ? rel_max(unread_from - stream->rmem, stream->base) : unread_from;
	const struct hole *hole;

	keep = rel_min(rel_max(keep, stream->base), stream->next);
	keep_pieces(stream, pool, keep);
	if (stream->held.root != SEG_NONE)
		overlap_deliver(&stream->held, pool, stream->next);
	stream->base = rel_max(stream->base, keep);
	pages_release(&stream->pages, pool, stream->base);
	while ((hole = ranges_next(&stream->holes, INT64_MIN)) && hole->end <= stream->base)
		ranges_drop_first(&stream->holes);
}
