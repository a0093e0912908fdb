/* test_ranges.c - the holes of one direction, against a byte for each number. */
// sources: tcp/ranges.c live.c
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "live.h"
#include "random.h"
#include "tcp/ranges.h"

/* Counts, order and sizes agree; returns false at the first fault, so that loops may stop. */
static bool is_sound(const struct ranges *ranges)
{
	int64_t bytes = 0, last = INT64_MIN;
	uint64_t count = 0;

	for (uint32_t c = 0; c < ranges->chunks; c++) {
		const struct ranges_chunk *chunk = &ranges->chunk[c];

		if (!CHECK(chunk->count > 0) || !CHECK(chunk->count <= chunk->room) ||
		    !CHECK(chunk->room <= RANGES_CHUNK))
			return false;
		for (uint32_t h = 0; h < chunk->count; h++) {
			if (!CHECK(chunk->hole[h].start >= last) || !CHECK(chunk->hole[h].end > chunk->hole[h].start))
				return false;
			last = chunk->hole[h].end;
			bytes += chunk->hole[h].end - chunk->hole[h].start;
			count++;
		}
	}
	return CHECK_EQ(ranges->count, count) && CHECK_EQ(ranges->bytes, bytes) &&
	       CHECK(ranges->chunks <= ranges->room);
}

static void end(struct ranges *ranges)
{
	ranges_free(ranges);
	CHECK_EQ(live_objects.ranges, 0);
	CHECK_EQ(ranges->count, 0);
	CHECK_EQ(ranges->bytes, 0);
}

/* `count` holes of `len` numbers, one every `step`, from 0. */
static struct ranges comb(int64_t count, int64_t len, int64_t step)
{
	struct ranges ranges = {0};

	for (int64_t i = 0; i < count; i++)
		CHECK_EQ(ranges_append(&ranges, i * step, i * step + len, (uint64_t)i + 1), 0);
	return ranges;
}

TEST(nothing_is_missing_at_first)
{
	struct ranges ranges = {0};
	struct ranges_fill fill = {5, 5};

	CHECK_EQ(ranges_missing(&ranges, INT64_MIN / 2, INT64_MAX / 2), 0);
	CHECK(ranges_next(&ranges, 0) == NULL);
	CHECK_EQ(ranges_fill(&ranges, 0, 100, &fill), 0);
	CHECK_EQ(fill.filled, 0);
	CHECK_EQ(fill.since_ns, 0);
	ranges_drop_first(&ranges);
	CHECK(is_sound(&ranges));
	end(&ranges);
	end(&ranges); /* twice does no harm */
}

TEST(a_hole_is_filled_from_every_side)
{
	static const struct {
		int64_t start, end, filled, left, holes;
	} cases[] = {
		{100, 200, 100, 0, 0}, /* exactly */
		{0, 300, 100, 0, 0},   /* more than all */
		{100, 150, 50, 50, 1}, /* the lower part */
		{0, 150, 50, 50, 1},   /* from below into it */
		{150, 200, 50, 50, 1}, /* the upper part */
		{150, 300, 50, 50, 1}, /* from it upwards */
		{120, 180, 60, 40, 2}, /* the middle */
		{100, 101, 1, 99, 1},  /* its first number */
		{199, 200, 1, 99, 1},  /* its last */
		{0, 100, 0, 100, 1},   /* touches it from below */
		{200, 300, 0, 100, 1}, /* touches it from above */
		{150, 150, 0, 100, 1}, /* nothing at all */
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ranges ranges = {0};
		struct ranges_fill fill;

		CHECK_EQ(ranges_append(&ranges, 100, 200, 7), 0);
		CHECK_EQ(ranges_missing(&ranges, cases[i].start, cases[i].end), cases[i].filled);
		CHECK_EQ(ranges_fill(&ranges, cases[i].start, cases[i].end, &fill), 0);
		CHECK_EQ(fill.filled, cases[i].filled);
		CHECK_EQ(fill.since_ns, cases[i].filled ? 7 : 0);
		CHECK_EQ(ranges.bytes, cases[i].left);
		CHECK_EQ(ranges.count, cases[i].holes);
		CHECK_EQ(ranges_missing(&ranges, cases[i].start, cases[i].end), 0);
		CHECK(is_sound(&ranges));
		end(&ranges);
	}
}

TEST(next_is_the_first_hole_that_ends_above)
{
	struct ranges ranges = comb(200, 2, 10);

	for (int64_t rel = -5; rel < 2000; rel++) {
		const struct hole *hole = ranges_next(&ranges, rel);
		int64_t expected = rel < 2 ? 0 : (rel - 2) / 10 * 10 + 10;

		if (expected > 1990) {
			CHECK(hole == NULL);
			continue;
		}
		REQUIRE(hole != NULL);
		CHECK_EQ(hole->start, expected);
		CHECK_EQ(hole->end, expected + 2);
		CHECK_EQ(hole->since_ns, expected / 10 + 1);
	}
	end(&ranges);
}

TEST(since_is_that_of_the_newest_hole_touched)
{
	struct ranges ranges = comb(10, 2, 10);
	struct ranges_fill fill;

	CHECK_EQ(ranges_fill(&ranges, 11, 41, &fill), 0);
	CHECK_EQ(fill.filled, 1 + 2 + 2 + 1);
	CHECK_EQ(fill.since_ns, 5);
	CHECK_EQ(ranges_missing(&ranges, 0, 100), 20 - 6);
	end(&ranges);
}

TEST(one_fill_goes_across_chunks)
{
	for (int64_t from = 0; from < 200; from += 9) {
		for (int64_t to = from + 1; to < 200; to += 13) {
			struct ranges ranges = comb(200, 4, 10);
			struct ranges_fill fill;

			CHECK_EQ(ranges_fill(&ranges, from * 10 + 1, to * 10 + 3, &fill), 0);
			CHECK_EQ(fill.filled, (to - from - 1) * 4 + 3 + 3);
			CHECK_EQ(fill.since_ns, to + 1);
			CHECK_EQ(ranges.count, 200 - (to - from - 1));
			CHECK(is_sound(&ranges));
			CHECK_EQ(ranges_missing(&ranges, 0, 2000), 800 - fill.filled);
			end(&ranges);
		}
	}
}

TEST(a_hole_is_split_anywhere_in_a_full_chunk)
{
	for (int64_t i = 0; i < 2 * RANGES_CHUNK; i++) {
		struct ranges ranges = comb(2 * RANGES_CHUNK, 6, 10);
		struct ranges_fill fill;
		const struct hole *hole;

		CHECK_EQ(ranges.chunk[0].count, RANGES_CHUNK);
		CHECK_EQ(ranges_fill(&ranges, i * 10 + 2, i * 10 + 3, &fill), 0);
		CHECK_EQ(fill.filled, 1);
		CHECK_EQ(fill.since_ns, i + 1);
		CHECK_EQ(ranges.count, 2 * RANGES_CHUNK + 1);
		CHECK(is_sound(&ranges));
		hole = ranges_next(&ranges, i * 10);
		REQUIRE(hole != NULL);
		CHECK_EQ(hole->end, i * 10 + 2);
		CHECK_EQ(hole->since_ns, i + 1);
		hole = ranges_next(&ranges, i * 10 + 2);
		REQUIRE(hole != NULL);
		CHECK_EQ(hole->start, i * 10 + 3);
		CHECK_EQ(hole->end, i * 10 + 6);
		CHECK_EQ(hole->since_ns, i + 1);
		end(&ranges);
	}
}

TEST(a_hole_is_inserted_anywhere)
{
	for (int64_t i = 0; i <= 2 * RANGES_CHUNK; i++) {
		struct ranges ranges = comb(2 * RANGES_CHUNK, 5, 10);
		const struct hole *hole;

		CHECK_EQ(ranges_insert(&ranges, i * 10 - 3, i * 10 - 1, 999), 0);
		CHECK_EQ(ranges.count, 2 * RANGES_CHUNK + 1);
		CHECK(is_sound(&ranges));
		hole = ranges_next(&ranges, i * 10 - 4);
		REQUIRE(hole != NULL);
		CHECK_EQ(hole->start, i * 10 - 3);
		CHECK_EQ(hole->end, i * 10 - 1);
		CHECK_EQ(hole->since_ns, 999);
		end(&ranges);
	}
}

TEST(adjacent_holes_stay_two)
{
	struct ranges ranges = {0};

	CHECK_EQ(ranges_append(&ranges, 10, 20, 1), 0);
	CHECK_EQ(ranges_append(&ranges, 20, 30, 2), 0);
	CHECK_EQ(ranges_missing(&ranges, 0, 100), 20);
	CHECK_EQ(ranges_next(&ranges, 20)->since_ns, 2);
	ranges_drop_first(&ranges);
	CHECK_EQ(ranges_next(&ranges, 0)->start, 20);
	CHECK(is_sound(&ranges));
	end(&ranges);
}

/* ---- a million holes ---------------------------------------------------------------------------------- */

enum {
	MILLION = 1000000
};

TEST(a_million_holes_appended_and_filled_in_any_order)
{
	struct ranges ranges = {0};
	struct ranges_fill fill;
	int64_t filled = 0;

	for (int64_t i = 0; i < MILLION; i++)
		if (ranges_append(&ranges, 2 * i, 2 * i + 1, 1))
			break;
	CHECK(is_sound(&ranges));
	CHECK_EQ(ranges.count, MILLION);
	for (int64_t i = 0; i < MILLION; i++) {
		int64_t at = i * 611953 % MILLION * 2;

		ranges_fill(&ranges, at, at + 2, &fill);
		filled += fill.filled;
	}
	CHECK_EQ(filled, MILLION);
	CHECK_EQ(ranges.chunks, 0);
	end(&ranges);
}

TEST(many_holes_split_out_of_one)
{
	enum {
		MANY = 300000
	};
	struct ranges ranges = {0};
	struct ranges_fill fill;

	CHECK_EQ(ranges_append(&ranges, 0, 2 * MANY, 9), 0);
	for (int64_t i = 0; i < MANY; i++) {
		int64_t at = i * 611953 % MANY * 2 + 1;

		if (ranges_fill(&ranges, at, at + 1, &fill) || fill.filled != 1 || fill.since_ns != 9)
			break;
	}
	CHECK(is_sound(&ranges));
	CHECK_EQ(ranges.count, MANY);
	CHECK_EQ(ranges.bytes, MANY);
	CHECK_EQ(ranges_missing(&ranges, 100001, 100101), 50);
	CHECK_EQ(ranges_fill(&ranges, 1, 2 * MANY - 3, &fill), 0);
	CHECK_EQ(fill.filled, MANY - 2);
	CHECK_EQ(ranges.count, 2);
	CHECK_EQ(ranges_next(&ranges, 5)->start, 2 * MANY - 2);
	end(&ranges);
}

TEST(a_million_holes_dropped_from_below)
{
	struct ranges ranges = comb(MILLION, 1, 2);

	for (int64_t i = 0; i < MILLION; i++) {
		if (ranges_next(&ranges, INT64_MIN)->start != 2 * i)
			break;
		ranges_drop_first(&ranges);
	}
	CHECK_EQ(ranges.count, 0);
	CHECK_EQ(ranges.bytes, 0);
	end(&ranges);
}

/* ---- against a naive model ---------------------------------------------------------------------------- */

enum {
	SPACE = 3000
};

/* since[i] = 0: number i is not missing; else since when. */
struct model {
	uint64_t since[SPACE];
	int64_t top;
};

static int64_t model_missing(const struct model *model, int64_t start, int64_t end, uint64_t *since)
{
	int64_t missing = 0;

	*since = 0;
	for (int64_t i = start > 0 ? start : 0; i < end && i < SPACE; i++) {
		missing += model->since[i] != 0;
		*since = model->since[i] > *since ? model->since[i] : *since;
	}
	return missing;
}

static void check_same(const struct ranges *ranges, const struct model *model)
{
	static uint64_t painted[SPACE];

	memset(painted, 0, sizeof painted);
	for (uint32_t c = 0; c < ranges->chunks; c++)
		for (uint32_t h = 0; h < ranges->chunk[c].count; h++)
			for (int64_t i = ranges->chunk[c].hole[h].start; i < ranges->chunk[c].hole[h].end; i++)
				painted[i] = ranges->chunk[c].hole[h].since_ns;
	CHECK_MEM(painted, model->since, sizeof painted);
}

static void append_random(struct ranges *ranges, struct model *model, uint64_t now)
{
	int64_t start = model->top + random_between(0, 6),
		stop = start + random_between(1, random_chance(10) ? 200 : 8);

	if (stop > SPACE)
		return;
	CHECK_EQ(ranges_append(ranges, start, stop, now), 0);
	for (int64_t i = start; i < stop; i++)
		model->since[i] = now;
	model->top = stop;
}

/* Numbers that were seen are lost again. */
static void insert_random(struct ranges *ranges, struct model *model, uint64_t now)
{
	int64_t start = random_between(0, SPACE - 1), stop = start;

	while (stop < SPACE && stop < start + 5 && !model->since[stop])
		model->since[stop++] = now;
	if (stop == start)
		return;
	CHECK_EQ(ranges_insert(ranges, start, stop, now), 0);
	if (stop > model->top)
		model->top = stop;
}

static void fill_random(struct ranges *ranges, struct model *model)
{
	int64_t start = random_between(-5, model->top), stop = start + random_between(0, random_chance(5) ? 900 : 12);
	struct ranges_fill fill;
	uint64_t since;
	int64_t missing = model_missing(model, start, stop, &since);

	CHECK_EQ(ranges_missing(ranges, start, stop), missing);
	CHECK_EQ(ranges_fill(ranges, start, stop, &fill), 0);
	CHECK_EQ(fill.filled, missing);
	CHECK_EQ(fill.since_ns, since);
	for (int64_t i = start > 0 ? start : 0; i < stop && i < SPACE; i++)
		model->since[i] = 0;
}

static void drop_random(struct ranges *ranges, struct model *model)
{
	const struct hole *hole = ranges_next(ranges, INT64_MIN);

	if (!hole)
		return;
	for (int64_t i = 0; i < hole->start; i++)
		CHECK_EQ(model->since[i], 0);
	for (int64_t i = hole->start; i < hole->end; i++)
		model->since[i] = 0;
	ranges_drop_first(ranges);
}

static void look_random(const struct ranges *ranges, const struct model *model)
{
	int64_t rel = random_between(-5, SPACE), at = rel < 0 ? 0 : rel;
	const struct hole *hole = ranges_next(ranges, rel);

	while (at < SPACE && !model->since[at])
		at++;
	CHECK_EQ(hole != NULL, at < SPACE);
	if (hole && at < SPACE) {
		CHECK(hole->start <= at && at < hole->end);
		CHECK_EQ(hole->since_ns, model->since[at]);
	}
}

TEST(random_segments_agree_with_the_model)
{
	static struct model model;

	random_begin("ranges");
	for (int round = 0; round < 60 && !check_failures; round++) {
		struct ranges ranges = {0};
		unsigned appends = (unsigned)random_between(5, 60);

		memset(&model, 0, sizeof model);
		for (uint64_t step = 1; step < 900 && !check_failures; step++) {
			if (random_chance(appends))
				append_random(&ranges, &model, step);
			else
				fill_random(&ranges, &model);
			if (random_chance(15))
				insert_random(&ranges, &model, step);
			if (random_chance(2))
				drop_random(&ranges, &model);
			look_random(&ranges, &model);
			if (step % 50 == 0) {
				is_sound(&ranges);
				check_same(&ranges, &model);
			}
		}
		is_sound(&ranges);
		check_same(&ranges, &model);
		end(&ranges);
	}
}
