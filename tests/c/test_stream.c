/* test_stream.c - received bytes, against one value and one flag for every position. */
// sources: tcp/stream.c tcp/stream_read.c tcp/overlap.c tcp/seg_tree.c tcp/pages.c tcp/ranges.c live.c
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "live.h"
#include "random.h"
#include "tcp/stream.h"

static struct page_pool pool;

/* ---- data that dies when the burst is over --------------------------------------------------------------- */

/* Every segment's bytes have their own block, spoiled and freed after stream_settle(). */
static uint8_t *burst_block[4096];
static size_t burst_size[4096];
static int burst_blocks;

static uint8_t *burst_data(const uint8_t *bytes, size_t len)
{
	uint8_t *block = malloc(len ? len : 1);

	if (len)
		memcpy(block, bytes, len);
	burst_size[burst_blocks] = len;
	burst_block[burst_blocks++] = block;
	return block;
}

static void settle(struct stream *stream, int64_t unread_from)
{
	stream_settle(stream, &pool, unread_from);
	while (burst_blocks > 0) {
		burst_blocks--;
		memset(burst_block[burst_blocks], 0xdd, burst_size[burst_blocks]);
		free(burst_block[burst_blocks]);
	}
}

/* Nothing of a test is left. */
static void finish(struct stream *stream)
{
	settle(stream, INT64_MAX);
	stream_free(stream, &pool);
	CHECK_EQ(pool.used, 0);
	page_pool_free(&pool);
	CHECK_EQ(live_objects.pages, 0);
	CHECK_EQ(live_objects.ranges, 0);
}

static struct stream *begin(int64_t at, uint64_t max_bytes)
{
	struct stream *stream = stream_new(at);

	page_pool_init(&pool, max_bytes);
	stream->rmem = 65536;
	return stream;
}

static struct stream_put put_text(struct stream *stream, int64_t at, const char *text)
{
	struct stream_put put = {0};

	stream_put(stream, &pool, at, burst_data((const uint8_t *)text, strlen(text)), (uint32_t)strlen(text), &put);
	return put;
}

/* What a reader gets at `at`, as text. */
static const char *read_text(const struct stream *stream, int64_t at, int64_t limit)
{
	static char text[256];
	size_t len = stream_read(stream, at, (uint8_t *)text, sizeof text - 1, limit);

	text[len] = '\0';
	return text;
}

static struct stream_put conflict_text(const struct stream *stream, int64_t at, const char *text)
{
	struct stream_put put = {.conflict_at = -1, .conflict_bytes = 77, .no_memory = true};

	stream_conflict(stream, at, (const uint8_t *)text, (uint32_t)strlen(text), &put);
	return put;
}

/* ---- by hand ---------------------------------------------------------------------------------------------- */

TEST(in_order_bytes_are_read_in_place_and_never_stored)
{
	struct stream *stream = begin(1, 1 << 20);

	put_text(stream, 1, "hello ");
	CHECK_EQ(stream_advance(stream, 7), 6);
	put_text(stream, 7, "world");
	CHECK_EQ(stream_advance(stream, 12), 5);
	CHECK_STR(read_text(stream, 1, stream->next), "hello world");
	CHECK_STR(read_text(stream, 4, stream->next), "lo world");
	CHECK_STR(read_text(stream, 4, 9), "lo wo");
	CHECK_EQ(pool.used, 0);
	settle(stream, 12);
	CHECK_EQ(pool.used, 0);
	CHECK_EQ(stream->base, 12);
	CHECK_STR(read_text(stream, 1, stream->next), "");
	CHECK_EQ(stream_missing(stream, 1, stream->next), 11);
	finish(stream);
}

TEST(unread_bytes_outlive_the_burst)
{
	struct stream *stream = begin(1, 1 << 20);

	put_text(stream, 1, "hello ");
	stream_advance(stream, 7);
	put_text(stream, 7, "world");
	stream_advance(stream, 12);
	settle(stream, 4);
	CHECK_EQ(stream->base, 4);
	CHECK_STR(read_text(stream, 4, stream->next), "lo world");
	CHECK_STR(read_text(stream, 3, stream->next), "");
	put_text(stream, 12, "!");
	stream_advance(stream, 13);
	CHECK_STR(read_text(stream, 4, stream->next), "lo world!");
	settle(stream, 13);
	CHECK_EQ(pool.used, 1); /* the page that position 13 will be in */
	finish(stream);
}

TEST(history_keeps_what_was_read_up_to_rmem)
{
	struct stream *stream = begin(1, 1 << 20);

	stream->history = true;
	stream->rmem = 8;
	put_text(stream, 1, "0123456789abcdef");
	stream_advance(stream, 17);
	settle(stream, 17);
	CHECK_EQ(stream->base, 9);
	CHECK_STR(read_text(stream, 9, stream->next), "89abcdef");
	finish(stream);
}

TEST(out_of_order_bytes_wait_for_the_hole)
{
	struct stream *stream = begin(1, 1 << 20);

	put_text(stream, 5, "efg");
	CHECK_EQ(stream->top, 8);
	CHECK_EQ(stream->next, 1);
	CHECK_STR(read_text(stream, 5, stream->top), "efg"); /* ppeek beyond the hole */
	CHECK_STR(read_text(stream, 5, stream->next), "");
	CHECK_EQ(stream_missing(stream, 1, stream->top), 4);
	CHECK_EQ(stream_missing(stream, 3, stream->top), 2);
	CHECK_EQ(stream_missing(stream, 5, stream->top), 0);
	settle(stream, 1);
	put_text(stream, 1, "abcd");
	CHECK_EQ(stream_advance(stream, 8), 7);
	CHECK_STR(read_text(stream, 1, stream->next), "abcdefg");
	finish(stream);
}

TEST(a_gap_is_skipped_and_may_still_be_filled)
{
	struct stream *stream = begin(1, 1 << 20);

	put_text(stream, 1, "ab");
	stream_advance(stream, 3);
	put_text(stream, 6, "fg");
	CHECK_EQ(stream_advance(stream, 8), 2);
	CHECK_STR(read_text(stream, 1, stream->next), "ab");
	CHECK_EQ(stream_missing(stream, 3, stream->next), 3);
	CHECK_STR(read_text(stream, 6, stream->next), "fg");
	put_text(stream, 4, "d");
	CHECK_STR(read_text(stream, 4, stream->next), "d");
	CHECK_EQ(stream_missing(stream, 3, stream->next), 1);
	settle(stream, 5);
	CHECK_EQ(stream_missing(stream, 5, stream->next), 1);
	CHECK_STR(read_text(stream, 6, stream->next), "fg");
	finish(stream);
}

TEST(advance_beyond_what_was_ever_stored_is_a_gap)
{
	struct stream *stream = begin(1, 1 << 20);

	put_text(stream, 1, "ab");
	CHECK_EQ(stream_advance(stream, 10), 2);
	CHECK_EQ(stream->top, 10);
	CHECK_EQ(stream_advance(stream, 10), 0);
	CHECK_EQ(stream_advance(stream, 5), 0);
	CHECK_EQ(stream->next, 10);
	CHECK_EQ(stream_missing(stream, 3, stream->next), 7);
	CHECK_EQ(stream_advance(stream, 20), 0);
	CHECK_EQ(stream_missing(stream, 3, stream->next), 17);
	put_text(stream, 20, "xy");
	CHECK_EQ(stream_advance(stream, 22), 2);
	CHECK_STR(read_text(stream, 20, stream->next), "xy");
	settle(stream, 22);
	CHECK_EQ(stream->holes.count, 0);
	finish(stream);
}

TEST(first_keeps_the_first_copy_and_last_the_last)
{
	for (int policy = MOS_OVERLAP_POLICY_FIRST; policy <= MOS_OVERLAP_POLICY_LAST; policy++) {
		bool first = policy == MOS_OVERLAP_POLICY_FIRST;
		struct stream *stream = begin(1, 1 << 20);

		stream->policy = (uint8_t)policy;
		put_text(stream, 1, "abcd");
		stream_advance(stream, 5);
		put_text(stream, 3, "XYZ");
		stream_advance(stream, 6);
		CHECK_STR(read_text(stream, 1, stream->next), first ? "abcdZ" : "abXYZ");
		put_text(stream, 8, "hij");
		put_text(stream, 5, "123456789");
		stream_advance(stream, 14);
		CHECK_STR(read_text(stream, 1, stream->next), first ? "abcdZ23hij789" : "abXY123456789");
		settle(stream, 1);
		CHECK_STR(read_text(stream, 1, stream->next), first ? "abcdZ23hij789" : "abXY123456789");
		finish(stream);
	}
}

TEST(conflicts_name_the_first_byte_and_count_to_the_end_of_each_run)
{
	struct stream *stream = begin(1, 1 << 20);
	struct stream_put put;

	put_text(stream, 1, "abcdef");
	stream_advance(stream, 7);
	put_text(stream, 9, "ijkl"); /* 7 and 8 are missing */
	CHECK_EQ(conflict_text(stream, 1, "abcdef").conflict_bytes, 0);
	CHECK_EQ(conflict_text(stream, 1, "abcdefXYijkl").conflict_bytes, 0);
	CHECK(!conflict_text(stream, 1, "abc").no_memory);
	put = conflict_text(stream, 2, "bXde");
	CHECK_EQ(put.conflict_at, 3);
	CHECK_EQ(put.conflict_bytes, 3);
	put = conflict_text(stream, 5, "XfXXiXkl!");
	CHECK_EQ(put.conflict_at, 5);
	CHECK_EQ(put.conflict_bytes, 2 + 3);
	put = conflict_text(stream, -2, "???Xbc");
	CHECK_EQ(put.conflict_at, 1);
	CHECK_EQ(put.conflict_bytes, 3);
	CHECK_EQ(conflict_text(stream, 13, "new").conflict_bytes, 0);
	CHECK_EQ(conflict_text(stream, 7, "gh").conflict_bytes, 0);
	CHECK_STR(read_text(stream, 1, stream->next), "abcdef"); /* nothing was changed */
	finish(stream);
}

TEST(restart_forgets_all)
{
	struct stream *stream = begin(1, 1 << 20);

	put_text(stream, 1, "refused");
	put_text(stream, 20, "beyond");
	stream_restart(stream, &pool, 1);
	CHECK_EQ(pool.used, 0);
	CHECK_EQ(stream->top, 1);
	CHECK_EQ(stream->holes.count, 0);
	CHECK_EQ(conflict_text(stream, 1, "other").conflict_bytes, 0);
	put_text(stream, 1, "taken");
	CHECK_EQ(stream_advance(stream, 6), 5);
	settle(stream, 1);
	CHECK_STR(read_text(stream, 1, stream->next), "taken");
	finish(stream);
}

TEST(old_and_empty_segments_change_nothing)
{
	struct stream *stream = begin(100, 1 << 20);

	put_text(stream, 50, "far below");
	put_text(stream, 98, "ab"); /* ends at the base */
	put_text(stream, 100, "");
	put_text(stream, 500, "");
	CHECK_EQ(stream->top, 100);
	CHECK_EQ(stream->pieces, 0);
	put_text(stream, 98, "abcd");
	CHECK_EQ(stream_advance(stream, 102), 2);
	CHECK_STR(read_text(stream, 100, stream->next), "cd");
	CHECK_EQ(stream->lost_bytes, 0);
	finish(stream);
}

/* ---- without memory ---------------------------------------------------------------------------------------- */

TEST(bytes_without_memory_are_holes_and_counted)
{
	struct stream *stream = begin(1, PAGE_BYTES); /* one page */
	static uint8_t many[3 * PAGE_BYTES];
	struct stream_put put = {0};

	put_text(stream, 100, "in the page");
	stream_put(stream, &pool, 3000, burst_data(many, 5000), 5000, &put);
	CHECK(put.no_memory);
	CHECK_EQ(stream->lost_bytes, 5000);
	CHECK_EQ(stream->top, 111);
	CHECK_STR(read_text(stream, 100, stream->top), "in the page");
	stream_advance(stream, 8000);
	CHECK_EQ(stream_missing(stream, 111, stream->next), 8000 - 111);
	finish(stream);
}

TEST(overlap_does_not_count_stored_bytes_as_lost)
{
	struct stream *stream = begin(1, PAGE_BYTES);
	static uint8_t many[3 * PAGE_BYTES];
	struct stream_put put = {0};

	stream_put(stream, &pool, 11, burst_data(many, 1000), 1000, &put);
	CHECK(!put.no_memory);
	stream_put(stream, &pool, 511, burst_data(many, 5000), 5000, &put); /* 500 are there, 4500 are not */
	CHECK(put.no_memory);
	CHECK(stream->lost_bytes >= 4500 - PAGE_BYTES);
	CHECK(stream->lost_bytes <= 4500);
	finish(stream);
}

/* LAST copies pieces to pages before it overwrites; without memory they must not turn into garbage. */
TEST(pieces_without_memory_do_not_become_garbage)
{
	struct stream *stream = begin(1, 0); /* no page at all */
	uint8_t got[8];

	stream->policy = MOS_OVERLAP_POLICY_LAST;
	put_text(stream, 1, "abcdef");
	stream_advance(stream, 7);
	CHECK_STR(read_text(stream, 1, stream->next), "abcdef");
	put_text(stream, 3, "XY");
	for (int64_t at = 1; at < 7; at++)
		if (stream_read(stream, at, got, 1, stream->next) == 1)
			CHECK(got[0] == (uint8_t) "abcdef"[at - 1] || got[0] == (uint8_t) "abXYef"[at - 1]);
	CHECK(stream->lost_bytes >= 2);
	finish(stream);
}

/* A piece that finds no page must not take bytes with it that were stored before. */
TEST(settle_without_memory_loses_only_what_finds_no_page)
{
	struct stream *stream = begin(1, PAGE_BYTES);
	static uint8_t many[PAGE_BYTES];
	struct stream_put put = {0};
	uint64_t there = 0;

	put_text(stream, 1, "kept");
	stream_advance(stream, 5);
	settle(stream, 1);
	stream_put(stream, &pool, 5, burst_data(many, PAGE_BYTES), PAGE_BYTES, &put);
	stream_advance(stream, 5 + PAGE_BYTES);
	settle(stream, 1);
	CHECK_STR(read_text(stream, 1, 5), "kept");
	for (int64_t at = 1; at < stream->next; at++)
		there += stream_run(stream, at, stream->next) > 0;
	CHECK_EQ(there + stream->lost_bytes, 4 + PAGE_BYTES);
	CHECK(stream->lost_bytes > 0);
	finish(stream);
}

/* ---- against a naive model ---------------------------------------------------------------------------------- */

enum {
	SPACE = 9000,
	LONGEST = 3000
};

/* Index i is position origin + i. */
static struct {
	int64_t origin, base, next, top, reader;
	uint8_t value[SPACE], there[SPACE];
} model;

static uint8_t truth[SPACE];

static bool model_there(int64_t at)
{
	return at >= model.base && at < model.top && model.there[at - model.origin];
}

static void model_put(int64_t at, const uint8_t *data, int64_t len, uint8_t policy)
{
	for (int64_t i = 0; i < len; i++) {
		if (at + i < model.base || (policy == MOS_OVERLAP_POLICY_FIRST && model_there(at + i)))
			continue;
		model.value[at + i - model.origin] = data[i];
		model.there[at + i - model.origin] = 1;
		if (at + i >= model.top)
			model.top = at + i + 1;
	}
}

static struct stream_put model_conflict(int64_t at, const uint8_t *data, int64_t len)
{
	struct stream_put put = {0};
	bool differs = false;

	for (int64_t i = 0; i < len; i++) {
		if (!model_there(at + i)) {
			differs = false;
			continue;
		}
		if (!differs && model.value[at + i - model.origin] != data[i]) {
			differs = true;
			if (!put.conflict_bytes)
				put.conflict_at = at + i;
		}
		put.conflict_bytes += differs;
	}
	return put;
}

/* First position that is not there, from next on. */
static int64_t model_edge(void)
{
	int64_t at = model.next;

	while (model_there(at))
		at++;
	return at;
}

static void check_read(const struct stream *stream, int64_t at, int64_t limit)
{
	static uint8_t got[SPACE + 1];
	size_t len = random_below(SPACE), run = 0, expected;
	const uint8_t *view = NULL;
	uint64_t missing = 0;

	while (at + (int64_t)run < limit && model_there(at + (int64_t)run))
		run++;
	while (at + (int64_t)missing < limit && !model_there(at + (int64_t)missing))
		missing++;
	CHECK_EQ(stream_run(stream, at, limit), run);
	CHECK_EQ(stream_missing(stream, at, limit), missing);
	expected = run < len ? run : len;
	memset(got, 0xa5, sizeof got);
	CHECK_EQ(stream_read(stream, at, got, len, limit), expected);
	if (expected)
		CHECK_MEM(got, model.value + (at - model.origin), expected);
	CHECK_EQ(got[expected], 0xa5);
	expected = stream_view(stream, at, limit, &view);
	CHECK_EQ(expected > 0, run > 0);
	CHECK(expected <= run);
	if (expected && expected <= run)
		CHECK_MEM(view, model.value + (at - model.origin), expected);
}

static void check_all(const struct stream *stream)
{
	CHECK_EQ(stream->base, model.base);
	CHECK_EQ(stream->next, model.next);
	CHECK_EQ(stream->top, model.top);
	for (int64_t at = model.base; at < model.top;) {
		size_t run = stream_run(stream, at, model.top);

		check_read(stream, at, model.top);
		at += run ? (int64_t)run : (int64_t)stream_missing(stream, at, model.top);
		if (check_failures)
			return;
	}
}

/* A segment somewhere around the edge, mostly with the true bytes. */
static void put_random(struct stream *stream, unsigned wrong)
{
	int64_t at = random_between(model.base - 40, model.top + 1500), len = random_between(0, 60);
	struct stream_put put = {0}, expected;
	uint8_t bytes[LONGEST];

	if (random_chance(50))
		at = random_chance(70) ? model.top : model.next;
	if (random_chance(20))
		len = random_between(0, LONGEST);
	if (at < model.origin)
		at = model.origin;
	if (at + len > model.origin + SPACE)
		len = model.origin + SPACE - at;
	if (len <= 0)
		return;
	memcpy(bytes, truth + (at - model.origin), (size_t)len);
	while (random_chance(wrong))
		bytes[random_below((uint64_t)len)] ^= 0x55;
	expected = model_conflict(at, bytes, len);
	stream_conflict(stream, at, bytes, (uint32_t)len, &put);
	CHECK_EQ(put.conflict_bytes, expected.conflict_bytes);
	if (expected.conflict_bytes)
		CHECK_EQ(put.conflict_at, expected.conflict_at);
	stream_put(stream, &pool, at, burst_data(bytes, (size_t)len), (uint32_t)len, &put);
	CHECK(!put.no_memory);
	model_put(at, bytes, len, stream->policy);
}

static void advance_random(struct stream *stream)
{
	int64_t to = model_edge(), grown = 0;

	if (random_chance(8)) /* a gap is given up, perhaps beyond all that is stored */
		to = random_between(model.next, model.top + (random_chance(10) ? 300 : 0));
	if (to > model.origin + SPACE)
		to = model.origin + SPACE;
	for (int64_t at = model.next; at < to; at++)
		grown += model_there(at);
	CHECK_EQ(stream_advance(stream, to), grown);
	if (to > model.next)
		model.next = to;
	if (to > model.top)
		model.top = to;
}

static void settle_random(struct stream *stream)
{
	int64_t keep;

	if (random_chance(60))
		model.reader = random_chance(50) ? model.next : random_between(model.reader, model.next);
	keep = stream->history ? model.reader - stream->rmem : model.reader;
	if (keep > model.base)
		model.base = keep;
	settle(stream, model.reader);
}

static void run_model(uint8_t policy, bool history, unsigned wrong)
{
	static const int64_t origins[] = {1, INT64_C(0x7ffffc00), INT64_C(0xfffffff0), INT64_C(0x7ffffffffff0)};
	int64_t origin = origins[random_below(4)];
	struct stream *stream = begin(origin, 1 << 20);

	memset(&model, 0, sizeof model);
	model.origin = model.base = model.next = model.top = model.reader = origin;
	stream->policy = policy;
	stream->history = history;
	stream->rmem = history ? (uint32_t)random_below(4000) : 65536;
	for (int step = 0; step < 400 && model.top < origin + SPACE && !check_failures; step++) {
		put_random(stream, wrong);
		if (random_chance(70))
			advance_random(stream);
		check_read(stream, random_between(model.base, model.top), random_chance(50) ? model.next : model.top);
		check_read(stream, model.reader, model.next);
		if (random_chance(15))
			settle_random(stream);
		if (random_chance(5))
			check_all(stream);
	}
	check_all(stream);
	CHECK_EQ(stream->lost_bytes, 0);
	finish(stream);
}

TEST(random_segments_agree_with_the_model)
{
	random_begin("stream");
	for (int i = 0; i < SPACE; i++)
		truth[i] = (uint8_t)random_next();
	for (int round = 0; round < 400 && !check_failures; round++)
		run_model((uint8_t)(round & 1), round >> 1 & 1, round >> 2 & 1 ? 50 : 3);
}

/* ---- a small pool ------------------------------------------------------------------------------------------- */

/* Each byte that is there is the true one, and all that is not there was counted, or never came. */
static void check_capped(const struct stream *stream, const uint8_t *sent, int64_t origin, uint64_t lost_before)
{
	uint64_t gone = 0;
	uint8_t got;

	CHECK(pool.used <= pool.max);
	for (int64_t at = model.reader; at < stream->top; at++) {
		if (stream_read(stream, at, &got, 1, stream->top) == 1)
			CHECK_EQ(got, truth[at - origin]);
		else
			gone += sent[at - origin];
		if (check_failures)
			return;
	}
	CHECK(gone <= stream->lost_bytes - lost_before);
}

static void put_capped(struct stream *stream, uint8_t *sent, int64_t origin)
{
	int64_t at = random_chance(50) ? stream->top : random_between(stream->base, stream->top + 2500);
	int64_t len = random_between(1, LONGEST);
	struct stream_put put = {0};
	uint64_t lost = stream->lost_bytes;

	if (at + len > origin + SPACE)
		len = origin + SPACE - at;
	if (len <= 0)
		return;
	stream_put(stream, &pool, at, burst_data(truth + (at - origin), (size_t)len), (uint32_t)len, &put);
	CHECK(!put.no_memory || stream->lost_bytes > lost);
	memset(sent + (at - origin), 1, (size_t)len);
}

static void run_capped(uint8_t policy)
{
	static uint8_t sent[SPACE];
	int64_t origin = random_between(1, 5000);
	struct stream *stream = begin(origin, random_below(4) * PAGE_BYTES);

	memset(sent, 0, sizeof sent);
	model.reader = origin;
	stream->policy = policy;
	for (int step = 0; step < 60 && stream->top < origin + SPACE && !check_failures; step++) {
		put_capped(stream, sent, origin);
		if (random_chance(60))
			stream_advance(stream, stream->next + (int64_t)stream_run(stream, stream->next, stream->top));
		if (random_chance(5))
			stream_advance(stream, stream->top);
		check_capped(stream, sent, origin, 0);
		if (!random_chance(30))
			continue;
		settle(stream, model.reader);
		check_capped(stream, sent, origin, 0);
		if (random_chance(40) && stream->next > model.reader) {
			model.reader = random_between(model.reader, stream->next);
			settle(stream, model.reader);
			check_capped(stream, sent, origin, 0);
		}
	}
	finish(stream);
}

TEST(a_small_pool_loses_bytes_but_never_invents_them)
{
	random_begin("stream, small pool");
	for (int i = 0; i < SPACE; i++)
		truth[i] = (uint8_t)random_next();
	for (int round = 0; round < 300 && !check_failures; round++)
		run_capped((uint8_t)(round & 1));
}

TEST(a_full_pool_recovers_when_readers_go_on)
{
	struct stream *stream = begin(1, 2 * PAGE_BYTES);
	static uint8_t many[3 * PAGE_BYTES];
	struct stream_put put = {0};

	stream_put(stream, &pool, 1, burst_data(many, sizeof many), sizeof many, &put);
	stream_advance(stream, 1 + (int64_t)sizeof many);
	settle(stream, 1);
	CHECK(stream->lost_bytes > 0);
	settle(stream, stream->next);
	CHECK(pool.used <= 1);
	for (int i = 0; i < 20; i++) {
		uint64_t lost = stream->lost_bytes;

		put_text(stream, stream->top, "again");
		stream_advance(stream, stream->top);
		settle(stream, stream->next - 5);
		CHECK_STR(read_text(stream, stream->next - 5, stream->next), "again");
		CHECK_EQ(stream->lost_bytes, lost);
	}
	finish(stream);
}
