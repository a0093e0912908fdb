/* test_timer_wheel.c - deadlines from nanoseconds to decades, and a clock that jumps. */
// sources: flow/timer_wheel.c flow/flow_table.c flow/flow_key.c tcp/ranges.c live.c
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "flow/flow_table.h"
#include "random.h"

enum {
	ENTRIES = 3000
};

#define SLOT (UINT64_C(1) << WHEEL_TICK_SHIFT)
#define SECOND UINT64_C(1000000000)
#define YEAR (365 * 86400 * SECOND)
#define TODAY (54 * YEAR)

static struct flow_table table;
static struct wheel wheel;
static uint64_t deadline[ENTRIES]; /* 0 = not filed */

static void begin(uint32_t entries)
{
	const uint64_t seed = 1;

	wheel_init(&wheel);
	flow_table_init(&table, entries, &seed);
	for (uint32_t i = 0; i < entries; i++) {
		struct flow_key key = {.scope = 4, .ports = i};

		flow_table_create(&table, &key, flow_key_hash(&key, &table.secret));
	}
	memset(deadline, 0, sizeof deadline);
}

static void file(uint32_t number, uint64_t at)
{
	deadline[number] = at;
	wheel_file(&wheel, &table, number, at);
}

/* The owner's part: what comes up early is filed again.  Gives how many came up. */
static uint32_t run(uint64_t now, uint32_t *due)
{
	uint32_t taken = 0, number;

	*due = 0;
	if (wheel_idle(&wheel, now))
		return 0;
	while (wheel_take(&wheel, &table, now, &number)) {
		taken++;
		if (!CHECK(number < ENTRIES) || !CHECK(deadline[number] != 0) || !CHECK(taken < 1000000))
			break;
		if (deadline[number] > now) {
			wheel_file(&wheel, &table, number, deadline[number]);
			continue;
		}
		deadline[number] = 0;
		++*due;
	}
	return taken;
}

/* Nothing is more than a slot late. */
static void check_none_late(uint64_t now)
{
	uint64_t filed = 0;

	for (uint32_t i = 0; i < ENTRIES; i++) {
		filed += deadline[i] != 0;
		if (deadline[i])
			CHECK((deadline[i] >> WHEEL_TICK_SHIFT) + 1 > now >> WHEEL_TICK_SHIFT);
	}
	CHECK_EQ(wheel.count, filed);
}

TEST(an_empty_wheel_gives_nothing)
{
	uint32_t due;

	begin(1);
	CHECK_EQ(run(0, &due), 0);
	CHECK_EQ(run(TODAY, &due), 0);
	CHECK_EQ(run(TODAY + 100 * YEAR, &due), 0);
	wheel_remove(&wheel, &table, 0); /* it is in no slot */
	CHECK_EQ(wheel.count, 0);
	flow_table_free(&table);
}

TEST(one_deadline_of_any_size)
{
	for (uint64_t ahead = 1; ahead < 200 * YEAR; ahead *= 3) {
		uint32_t due;

		begin(1);
		run(TODAY, &due);
		file(0, TODAY + ahead);
		run(TODAY + ahead - 1, &due);
		CHECK_EQ(due, 0);
		CHECK_EQ(wheel.count, 1);
		run(TODAY + ahead + SLOT, &due);
		CHECK_EQ(due, 1);
		CHECK_EQ(wheel.count, 0);
		flow_table_free(&table);
	}
}

TEST(a_later_entry_may_be_due_first)
{
	uint32_t due;

	begin(3);
	file(0, TODAY + 3600 * SECOND); /* the first entry does not start the clock at its deadline */
	file(1, TODAY + 10 * SECOND);
	file(2, TODAY + SECOND);
	run(TODAY + SECOND + SLOT, &due);
	CHECK_EQ(due, 1);
	run(TODAY + 10 * SECOND + SLOT, &due);
	CHECK_EQ(due, 1);
	run(TODAY + 3600 * SECOND - 1, &due);
	CHECK_EQ(due, 0);
	run(TODAY + 3600 * SECOND + SLOT, &due);
	CHECK_EQ(due, 1);
	flow_table_free(&table);
}

TEST(a_deadline_in_the_past_comes_up_at_the_next_slot)
{
	uint32_t due;

	begin(2);
	run(TODAY, &due);
	file(0, TODAY - YEAR);
	file(1, 0 + 1);
	run(TODAY + SLOT, &due);
	CHECK_EQ(due, 2);
	flow_table_free(&table);
}

TEST(never_is_far_away)
{
	uint32_t due;

	begin(1);
	run(TODAY, &due);
	file(0, UINT64_MAX);
	for (int i = 1; i < 300; i++) {
		run(TODAY + (uint64_t)i * YEAR, &due);
		CHECK_EQ(due, 0);
		CHECK_EQ(wheel.count, 1);
	}
	wheel_remove(&wheel, &table, 0);
	CHECK_EQ(wheel.count, 0);
	flow_table_free(&table);
}

TEST(every_entry_of_a_slot_can_be_removed)
{
	uint32_t due;

	for (uint32_t gone = 0; gone < 5; gone++) {
		begin(5);
		run(TODAY, &due);
		for (uint32_t i = 0; i < 5; i++)
			file(i, TODAY + SECOND);
		wheel_remove(&wheel, &table, gone);
		wheel_remove(&wheel, &table, gone); /* twice does no harm */
		deadline[gone] = 0;
		CHECK_EQ(wheel.count, 4);
		run(TODAY + 2 * SECOND, &due);
		CHECK_EQ(due, 4);
		CHECK_EQ(deadline[(gone + 1) % 5], 0);
		flow_table_free(&table);
	}
}

TEST(an_entry_taken_out_can_be_filed_again_at_once)
{
	uint32_t due, rounds = 0;

	begin(1);
	run(TODAY, &due);
	file(0, TODAY + SECOND);
	for (uint64_t now = TODAY; now < TODAY + 100 * SECOND; now += SLOT / 2) {
		run(now, &due);
		rounds += due;
		if (due)
			file(0, now + SECOND);
	}
	CHECK(rounds >= 98 && rounds <= 100);
	flow_table_free(&table);
}

/* ---- against a model --------------------------------------------------------------------------------------- */

/* From nanoseconds to decades. */
static uint64_t random_span(void)
{
	return random_next() >> (2 + random_below(60));
}

static uint64_t random_jump(void)
{
	return random_chance(60) ? random_below(4 * SLOT) : random_chance(95) ? random_span() >> 6 : random_span() >> 2;
}

static void random_life(uint64_t start)
{
	uint64_t now = start;
	uint32_t due;

	begin(ENTRIES);
	if (random_chance(50))
		run(now, &due);
	for (int step = 0; step < 400 && now < UINT64_MAX / 2 && !check_failures; step++) {
		for (uint64_t n = random_below(40); n > 0; n--) {
			uint32_t i = (uint32_t)random_below(ENTRIES);

			if (deadline[i] && random_chance(30)) {
				wheel_remove(&wheel, &table, i);
				deadline[i] = 0;
			} else if (deadline[i]) {
				deadline[i] += random_span() >> 4; /* later is free */
			} else {
				file(i, now + random_span() + 1);
			}
		}
		now += random_jump();
		run(now, &due);
		check_none_late(now);
	}
	flow_table_free(&table);
}

TEST(random_deadlines_agree_with_the_model)
{
	random_begin("timer wheel");
	for (int round = 0; round < 40 && !check_failures; round++)
		random_life(round % 3 == 0 ? 0 : round % 3 == 1 ? TODAY : random_below(TODAY));
}

TEST(a_jump_of_fifty_years_is_cheap)
{
	struct timespec before, after;
	uint32_t due, taken = 0;
	int64_t used;

	begin(ENTRIES);
	run(TODAY, &due);
	for (uint32_t i = 0; i < ENTRIES; i++)
		file(i, TODAY + 3600 * SECOND + i * SECOND);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	taken = run(TODAY + 50 * YEAR, &due);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	CHECK_EQ(due, ENTRIES);
	CHECK_EQ(taken, ENTRIES); /* each comes up once, not on its way down the levels */
	for (int i = 1; i < 5; i++) {
		file(0, TODAY + (uint64_t)(50 * i + 40) * YEAR);
		run(TODAY + (uint64_t)(50 * i + 50) * YEAR, &due);
		CHECK_EQ(due, 1);
	}
	used = (after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec;
	CHECK(used < 200 * 1000000ll);
	flow_table_free(&table);
}

TEST(idle_is_true_until_something_may_be_due)
{
	uint32_t due;

	begin(1);
	run(TODAY, &due);
	CHECK(wheel_idle(&wheel, TODAY));
	CHECK(wheel_idle(&wheel, TODAY - YEAR));
	file(0, TODAY + SECOND);
	run(TODAY + SECOND / 2, &due);
	CHECK(wheel_idle(&wheel, TODAY + SECOND / 2));
	CHECK(!wheel_idle(&wheel, TODAY + SECOND + SLOT));
	flow_table_free(&table);
}
