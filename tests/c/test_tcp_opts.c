/* test_tcp_opts.c - TCP options: every kind with every length, cut anywhere. */
// sources: tcp/tcp_opts.c
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "flow/flow.h"
#include "random.h"
#include "tcp/tcp_opts.h"

/* Parse a block of exactly this size, so that a read beyond it is seen. */
static struct tcp_opts parse(const void *bytes, uint32_t len)
{
	uint8_t *block = malloc(len ? len : 1);
	struct tcp_opts opts;

	if (len)
		memcpy(block, bytes, len);
	memset(&opts, 0xa5, sizeof opts);
	tcp_opts_parse(block, len, &opts);
	free(block);
	return opts;
}

static void check_nothing(const struct tcp_opts *opts)
{
	CHECK_EQ(opts->mss, 0);
	CHECK_EQ(opts->wscale, WSCALE_NONE);
	CHECK_EQ(opts->sack_permitted, false);
	CHECK_EQ(opts->timestamps, false);
}

TEST(no_options)
{
	struct tcp_opts opts = parse("", 0);

	check_nothing(&opts);
	opts = parse("\0\0\0\0", 4);
	check_nothing(&opts);
	opts = parse("\1\1\1\1", 4);
	check_nothing(&opts);
}

TEST(a_linux_syn)
{
	struct tcp_opts opts = parse("\x02\x04\x05\xb4\x04\x02\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88\x01\x03\x03\x07",
	                             20);

	CHECK_EQ(opts.mss, 1460);
	CHECK_EQ(opts.wscale, 7);
	CHECK(opts.sack_permitted);
	CHECK(opts.timestamps);
	CHECK_EQ(opts.ts_value, 0x11223344);
	CHECK_EQ(opts.ts_echo, 0x55667788);
}

TEST(a_list_that_is_cut_keeps_what_came_before)
{
	static const char syn[] = "\x02\x04\x05\xb4\x04\x02\x08\x0a\x11\x22\x33\x44\x55\x66\x77\x88\x01\x03\x03\x07";

	for (uint32_t len = 0; len <= 20; len++) {
		struct tcp_opts opts = parse(syn, len);

		CHECK_EQ(opts.mss, len >= 4 ? 1460 : 0);
		CHECK_EQ(opts.sack_permitted, len >= 6);
		CHECK_EQ(opts.timestamps, len >= 16);
		CHECK_EQ(opts.wscale, len >= 20 ? 7 : WSCALE_NONE);
	}
}

TEST(window_scale_is_at_most_14)
{
	for (unsigned shift = 0; shift < 256; shift++) {
		uint8_t bytes[3] = {3, 3, (uint8_t)shift};
		struct tcp_opts opts = parse(bytes, 3);

		CHECK_EQ(opts.wscale, shift > 14 ? 14 : shift);
	}
}

TEST(every_kind_with_every_length)
{
	for (unsigned kind = 2; kind < 256; kind++) {
		for (unsigned said = 0; said < 256; said++) {
			uint8_t bytes[44];
			struct tcp_opts opts;

			memset(bytes, 9, sizeof bytes);
			bytes[0] = (uint8_t)kind;
			bytes[1] = (uint8_t)said;
			if (said >= 2 && said <= 37)
				memcpy(bytes + said, "\x02\x04\x02\x18",
				       4); /* what follows is read only if it is well-formed */
			opts = parse(bytes, 40);
			CHECK_EQ(opts.wscale, kind == 3 && said == 3 ? 9 : WSCALE_NONE);
			CHECK_EQ(opts.sack_permitted, kind == 4 && said == 2);
			CHECK_EQ(opts.timestamps, kind == 8 && said == 10);
			if (said < 2 || said > 40)
				CHECK_EQ(opts.mss, 0);
			else if (said <= 36)
				CHECK_EQ(opts.mss, 536);
		}
	}
}

TEST(length_zero_ends_the_list)
{
	struct tcp_opts opts = parse("\x02\x04\x05\xb4\x05\x00\x03\x03\x07\x00", 10);

	CHECK_EQ(opts.mss, 1460);
	CHECK_EQ(opts.wscale, WSCALE_NONE);
	opts = parse("\x08\x00\x02\x04\x05\xb4", 6);
	check_nothing(&opts);
}

TEST(end_of_list_ends_it)
{
	struct tcp_opts opts = parse("\x00\x02\x04\x05\xb4\x00\x00\x00", 8);

	check_nothing(&opts);
}

/* The timestamp by the whole parser. */
static bool slow(const uint8_t *bytes, uint32_t len, uint32_t *value)
{
	struct tcp_opts opts = parse(bytes, len);

	*value = opts.ts_value;
	return opts.timestamps;
}

static void check_paths_agree(const uint8_t *bytes, uint32_t len)
{
	uint8_t *block = malloc(len ? len : 1);
	uint32_t fast_value = 0, slow_value = 0;
	bool is_fast, is_slow;

	memcpy(block, bytes, len);
	is_fast = tcp_opts_timestamp(block, len, &fast_value);
	is_slow = slow(block, len, &slow_value);
	free(block);
	CHECK_EQ(is_fast, is_slow);
	if (is_slow)
		CHECK_EQ(fast_value, slow_value);
}

TEST(the_timestamp_in_every_place)
{
	for (uint32_t before = 0; before <= 30; before++) {
		uint8_t bytes[40];
		uint32_t value = 0;

		memset(bytes, 1, sizeof bytes);
		memcpy(bytes + before, "\x08\x0a\xde\xad\xbe\xef\x01\x02\x03\x04", 10);
		CHECK(tcp_opts_timestamp(bytes, 40, &value));
		CHECK_EQ(value, 0xdeadbeef);
		for (uint32_t len = 0; len <= 40; len++) {
			CHECK_EQ(tcp_opts_timestamp(bytes, len, &value), len >= before + 10);
			check_paths_agree(bytes, len);
		}
	}
}

TEST(fast_path_equals_slow_path)
{
	random_begin("tcp options");
	for (int round = 0; round < 400000 && !check_failures; round++) {
		static const uint8_t likely[] = {0, 1, 1, 1, 2, 3, 4, 5, 8, 8, 10, 10};
		uint8_t bytes[40];
		uint32_t len = random_chance(60) ? (uint32_t)random_below(11) * 4 : (uint32_t)random_below(41);

		for (uint32_t i = 0; i < 40; i++)
			bytes[i] = random_chance(80) ? likely[random_below(12)] : (uint8_t)random_next();
		if (random_chance(60))
			memcpy(bytes, "\1\1\x08\x0a", 4);
		check_paths_agree(bytes, len);
	}
}
