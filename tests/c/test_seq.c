/* test_seq.c - 32-bit numbers on the wire, 64-bit numbers inside, and the wrap between them. */
#include "check.h"
#include "random.h"
#include "tcp/seq.h"

TEST(a_wrap_at_every_position)
{
	for (uint32_t back = 0; back < 3000; back++) {
		uint32_t isn = 0u - back;

		for (int64_t rel = 0; rel < 3000; rel += 7) {
			CHECK_EQ(rel_to_seq(rel, isn), isn + (uint32_t)rel);
			CHECK_EQ(seq_to_rel(isn + (uint32_t)rel, isn, rel + 1000), rel);
			CHECK_EQ(seq_to_rel(isn + (uint32_t)rel, isn, rel > 1000 ? rel - 1000 : 0), rel);
		}
		if (check_failures)
			return;
	}
}

TEST(numbers_before_the_isn_are_negative)
{
	CHECK_EQ(seq_to_rel(99, 100, 0), -1);
	CHECK_EQ(seq_to_rel(0xffffffff, 0, 0), -1);
	CHECK_EQ(seq_to_rel(0xffffff00, 0x10, 5), -0x110);
}

TEST(half_the_circle_either_way)
{
	const int64_t nears[] = {
		0, 1, INT64_C(1) << 31, INT64_C(1) << 32, (INT64_C(1) << 32) - 1, INT64_C(77) << 32, INT64_C(1) << 60};
	const int64_t steps[] = {0, 1, 1000, 0x7fffffff, -1, -1000, -0x7fffffff};

	for (size_t n = 0; n < sizeof nears / sizeof *nears; n++)
		for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
			for (uint32_t isn = 0; isn < 5; isn++) {
				int64_t rel = nears[n] + steps[i];

				CHECK_EQ(seq_to_rel(rel_to_seq(rel, isn * 0x3fffffff), isn * 0x3fffffff, nears[n]),
				         rel);
			}
}

TEST(random_numbers_come_back)
{
	random_begin("seq");
	for (int i = 0; i < 1000000 && !check_failures; i++) {
		uint32_t isn = (uint32_t)random_next();
		int64_t near = (int64_t)(random_next() >> random_between(2, 63));
		int64_t rel = near + (int32_t)(random_next() >> random_between(32, 62));

		CHECK_EQ(seq_to_rel(rel_to_seq(rel, isn), isn, near), rel);
	}
}

TEST(before_in_the_circle)
{
	CHECK(seq_before(1, 2));
	CHECK(!seq_before(2, 1));
	CHECK(!seq_before(2, 2));
	CHECK(seq_before(0xffffffff, 0));
	CHECK(!seq_before(0, 0xffffffff));
	CHECK(seq_before(0x80000001, 0));
	CHECK(seq_before(0, 0x7fffffff));
}

TEST(smaller_and_larger)
{
	CHECK_EQ(rel_max(-5, 3), 3);
	CHECK_EQ(rel_min(-5, 3), -5);
	CHECK_EQ(rel_max(INT64_MAX, INT64_MIN), INT64_MAX);
	CHECK_EQ(rel_min(INT64_MAX, INT64_MIN), INT64_MIN);
}
