/* ranges.c - see ranges.h. */
#include "ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../live.h"

/* Index of the first chunk whose last hole ends above rel; == chunks if none. */
static uint32_t find_chunk(const struct ranges *ranges, int64_t rel)
{
	uint32_t low = 0, high = ranges->chunks;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ranges->chunk[mid].until > rel)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Index of the first hole in the chunk that ends above rel; == count if none. */
static uint32_t find_hole(const struct ranges_chunk *chunk, int64_t rel)
{
	uint32_t low = 0, high = chunk->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (chunk->hole[mid].end > rel)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Room for one more chunk header; a quarter more each time keeps the copies linear in all. */
static int reserve_chunk(struct ranges *ranges)
{
	uint32_t room = ranges->room ? ranges->room + ranges->room / 4 + 4 : 1;
	struct ranges_chunk *chunk;

	if (ranges->chunks < ranges->room)
		return 0;
	chunk = realloc(ranges->chunk, room * sizeof *chunk);
	if (!chunk)
		return -ENOMEM;
	ranges->chunk = chunk;
	ranges->room = room;
	return 0;
}

static int new_chunk(struct ranges *ranges, uint32_t index, uint32_t room)
{
	struct hole *hole;
	int rc = reserve_chunk(ranges);

	if (rc)
		return rc;
	hole = malloc(room * sizeof *hole);
	if (!hole)
		return -ENOMEM;
	live_add(&live_objects.ranges, 1);
	memmove(&ranges->chunk[index + 1], &ranges->chunk[index], (ranges->chunks - index) * sizeof *ranges->chunk);
	ranges->chunk[index] = (struct ranges_chunk){.room = room, .hole = hole};
	ranges->chunks++;
	return 0;
}

static void delete_chunk(struct ranges *ranges, uint32_t index)
{
	free(ranges->chunk[index].hole);
	live_add(&live_objects.ranges, -1);
	ranges->chunks--;
	memmove(&ranges->chunk[index], &ranges->chunk[index + 1], (ranges->chunks - index) * sizeof *ranges->chunk);
}

static int grow_chunk(struct ranges_chunk *chunk)
{
	uint32_t room = chunk->room * 2 < RANGES_CHUNK ? chunk->room * 2 : RANGES_CHUNK;
	struct hole *hole = realloc(chunk->hole, room * sizeof *hole);

	if (!hole)
		return -ENOMEM;
	chunk->hole = hole;
	chunk->room = room;
	return 0;
}

/* Move the upper half of a full chunk into a new one behind it. */
static int split_chunk(struct ranges *ranges, uint32_t index)
{
	struct ranges_chunk *lower, *upper;
	int rc = new_chunk(ranges, index + 1, RANGES_CHUNK);

	if (rc)
		return rc;
	lower = &ranges->chunk[index];
	upper = lower + 1;
	upper->count = lower->count / 2;
	lower->count -= upper->count;
	memcpy(upper->hole, lower->hole + lower->count, upper->count * sizeof *upper->hole);
	upper->until = lower->until;
	lower->until = lower->hole[lower->count - 1].end;
	return 0;
}

int ranges_append(struct ranges *ranges, int64_t start, int64_t end, uint64_t now_ns)
{
	struct ranges_chunk *last = ranges->chunks ? &ranges->chunk[ranges->chunks - 1] : NULL;
	int rc = 0;

	if (!last || last->count == RANGES_CHUNK)
		rc = new_chunk(ranges, ranges->chunks, last ? RANGES_CHUNK : 2);
	else if (last->count == last->room)
		rc = grow_chunk(last);
	if (rc)
		return rc;
	last = &ranges->chunk[ranges->chunks - 1];
	last->hole[last->count++] = (struct hole){start, end, now_ns};
	last->until = end;
	ranges->count++;
	ranges->bytes += end - start;
	return 0;
}

/* Make room for one more hole in front of hole *h of chunk *c; both may move on. */
static int open_place(struct ranges *ranges, uint32_t *c, uint32_t *h)
{
	struct ranges_chunk *chunk = &ranges->chunk[*c];
	int rc = 0;

	if (chunk->count == RANGES_CHUNK) {
		rc = split_chunk(ranges, *c);
		if (!rc && *h >= ranges->chunk[*c].count)
			*h -= ranges->chunk[(*c)++].count;
	} else if (chunk->count == chunk->room) {
		rc = grow_chunk(chunk);
	}
	if (rc)
		return rc;
	chunk = &ranges->chunk[*c];
	memmove(&chunk->hole[*h + 1], &chunk->hole[*h], (chunk->count - *h) * sizeof *chunk->hole);
	chunk->count++;
	ranges->count++;
	return 0;
}

/* Cut [start, end), which lies strictly inside a hole, out of it: one hole becomes two. */
static int split_hole(struct ranges *ranges, uint32_t c, uint32_t h, int64_t start, int64_t end)
{
	struct hole *hole;
	int rc = open_place(ranges, &c, &h);

	if (rc)
		return rc;
	hole = &ranges->chunk[c].hole[h];
	hole[0] = hole[1];
	hole[0].end = start;
	hole[1].start = end;
	return 0;
}

int ranges_insert(struct ranges *ranges, int64_t start, int64_t end, uint64_t now_ns)
{
	uint32_t c = find_chunk(ranges, start), h;
	int rc;

	if (c == ranges->chunks)
		return ranges_append(ranges, start, end, now_ns);
	h = find_hole(&ranges->chunk[c], start);
	rc = open_place(ranges, &c, &h);
	if (rc)
		return rc;
	ranges->chunk[c].hole[h] = (struct hole){start, end, now_ns};
	ranges->bytes += end - start;
	return 0;
}

/* Take holes [from, to) out of a chunk; frees the chunk when nothing is left of it. */
static void delete_holes(struct ranges *ranges, uint32_t c, uint32_t from, uint32_t to)
{
	struct ranges_chunk *chunk = &ranges->chunk[c];

	if (from == to)
		return;
	memmove(&chunk->hole[from], &chunk->hole[to], (chunk->count - to) * sizeof *chunk->hole);
	chunk->count -= to - from;
	ranges->count -= to - from;
	if (!chunk->count)
		delete_chunk(ranges, c);
	else if (from == chunk->count)
		chunk->until = chunk->hole[from - 1].end;
}

/* Fill inside one chunk, from hole h on; the holes covered whole are deleted at the end. */
static void fill_chunk(struct ranges *ranges, uint32_t c, uint32_t h, int64_t start, int64_t end,
                       struct ranges_fill *fill)
{
	struct ranges_chunk *chunk = &ranges->chunk[c];
	uint32_t first_gone = 0, gone = 0;

	for (; h < chunk->count && chunk->hole[h].start < end; h++) {
		struct hole *hole = &chunk->hole[h];
		int64_t from = hole->start > start ? hole->start : start;
		int64_t to = hole->end < end ? hole->end : end;

		fill->filled += to - from;
		if (hole->since_ns > fill->since_ns)
			fill->since_ns = hole->since_ns;
		if (from == hole->start && to == hole->end) {
			if (!gone++)
				first_gone = h;
		} else if (from == hole->start) {
			hole->start = to;
		} else {
			hole->end = from;
			if (h == chunk->count - 1)
				chunk->until = from;
		}
	}
	delete_holes(ranges, c, first_gone, first_gone + gone);
}

int ranges_fill(struct ranges *ranges, int64_t start, int64_t end, struct ranges_fill *fill)
{
	*fill = (struct ranges_fill){0, 0};
	while (start < end) {
		uint32_t c = find_chunk(ranges, start), h;
		struct hole *hole;
		int64_t before = fill->filled;

		if (c == ranges->chunks)
			break;
		h = find_hole(&ranges->chunk[c], start);
		hole = &ranges->chunk[c].hole[h];
		if (hole->start >= end)
			break;
		if (hole->start < start && hole->end > end) {
			uint64_t since = hole->since_ns;
			int rc = split_hole(ranges, c, h, start, end);

			if (rc)
				return rc;
			*fill = (struct ranges_fill){end - start, since};
			break;
		}
		fill_chunk(ranges, c, h, start, end, fill);
		if (fill->filled == before)
			break;
	}
	ranges->bytes -= fill->filled;
	return 0;
}

int64_t ranges_missing(const struct ranges *ranges, int64_t start, int64_t end)
{
	int64_t missing = 0;

	for (uint32_t c = find_chunk(ranges, start); c < ranges->chunks; c++) {
		const struct ranges_chunk *chunk = &ranges->chunk[c];

		for (uint32_t h = find_hole(chunk, start); h < chunk->count; h++) {
			const struct hole *hole = &chunk->hole[h];

			if (hole->start >= end)
				return missing;
			missing += (hole->end < end ? hole->end : end) - (hole->start > start ? hole->start : start);
		}
	}
	return missing;
}

const struct hole *ranges_next(const struct ranges *ranges, int64_t rel)
{
	uint32_t c = find_chunk(ranges, rel);

	if (c == ranges->chunks)
		return NULL;
	return &ranges->chunk[c].hole[find_hole(&ranges->chunk[c], rel)];
}

void ranges_drop_first(struct ranges *ranges)
{
	if (!ranges->chunks)
		return;
	ranges->bytes -= ranges->chunk[0].hole[0].end - ranges->chunk[0].hole[0].start;
	delete_holes(ranges, 0, 0, 1);
}

void ranges_free(struct ranges *ranges)
{
	while (ranges->chunks)
		delete_chunk(ranges, ranges->chunks - 1);
	free(ranges->chunk);
	*ranges = (struct ranges){0};
}
