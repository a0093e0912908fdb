/* test_pages.c - bytes by position: storage, its cap, and what is given back. */
// sources: tcp/pages.c live.c
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "live.h"
#include "random.h"
#include "tcp/pages.h"

static struct page_pool pool;

static void finish(struct pages *pages)
{
	pages_free(pages, &pool);
	CHECK_EQ(pool.used, 0);
	CHECK_EQ(live_objects.pages, 0);
	page_pool_free(&pool);
	CHECK_EQ(pool.cached, 0);
}

static void check_holds(const struct pages *pages, int64_t at, const char *text)
{
	char got[64] = {0};

	pages_read(pages, at, (uint8_t *)got, strlen(text));
	CHECK_STR(got, text);
}

static int write_text(struct pages *pages, int64_t at, const char *text)
{
	return pages_write(pages, &pool, at, (const uint8_t *)text, strlen(text));
}

TEST(bytes_come_back)
{
	struct pages pages = {0};

	page_pool_init(&pool, 1 << 20);
	CHECK_EQ(write_text(&pages, 5, "hello"), 0);
	CHECK_EQ(write_text(&pages, PAGE_BYTES - 3, "across"), 0);
	CHECK_EQ(write_text(&pages, INT64_C(5) * PAGE_BYTES, "far"), 0);
	CHECK_EQ(pool.used, 3); /* what lies between takes nothing */
	check_holds(&pages, 5, "hello");
	check_holds(&pages, PAGE_BYTES - 3, "across");
	check_holds(&pages, 5 * PAGE_BYTES, "far");
	CHECK_EQ(write_text(&pages, 7, "LL"), 0);
	check_holds(&pages, 5, "heLLo");
	CHECK_EQ(pages_write(&pages, &pool, 100 * PAGE_BYTES, NULL, 0), 0);
	CHECK_EQ(pool.used, 3);
	finish(&pages);
}

TEST(pages_below_the_first_one)
{
	struct pages pages = {0};

	page_pool_init(&pool, 1 << 20);
	for (int64_t i = 20; i >= 0; i--)
		CHECK_EQ(write_text(&pages, i * PAGE_BYTES + 9, "x"), 0);
	for (int64_t i = 0; i <= 20; i++)
		check_holds(&pages, i * PAGE_BYTES + 9, "x");
	CHECK_EQ(pool.used, 21);
	finish(&pages);
}

TEST(no_page_reads_as_zero)
{
	struct pages pages = {0};
	uint8_t got[3] = {1, 1, 1};

	page_pool_init(&pool, 1 << 20);
	pages_read(&pages, 77, got, 3);
	CHECK_MEM(got, "\0\0\0", 3);
	write_text(&pages, 0, "a");
	write_text(&pages, 3 * PAGE_BYTES, "b");
	memset(got, 1, 3);
	pages_read(&pages, PAGE_BYTES + 5, got, 3);
	CHECK_MEM(got, "\0\0\0", 3);
	finish(&pages);
}

TEST(compare_gives_the_first_difference)
{
	struct pages pages = {0};
	static uint8_t bytes[3 * PAGE_BYTES];

	page_pool_init(&pool, 1 << 20);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7);
	CHECK_EQ(pages_write(&pages, &pool, 100, bytes, sizeof bytes), 0);
	CHECK_EQ(pages_compare(&pages, 100, bytes, sizeof bytes), 0);
	CHECK_EQ(pages_compare(&pages, 100, bytes, 0), 0);
	for (size_t i = 0; i < sizeof bytes; i += 97) {
		bytes[i] ^= 1;
		CHECK_EQ(pages_compare(&pages, 100, bytes, sizeof bytes), i + 1);
		bytes[i] ^= 1;
	}
	finish(&pages);
}

TEST(views_end_with_the_page)
{
	struct pages pages = {0};
	const uint8_t *data = NULL;

	page_pool_init(&pool, 1 << 20);
	CHECK_EQ(pages_view(&pages, 5, &data), 0);
	write_text(&pages, PAGE_BYTES - 2, "abcd");
	CHECK_EQ(pages_view(&pages, PAGE_BYTES - 2, &data), 2);
	CHECK_MEM(data, "ab", 2);
	CHECK_EQ(pages_view(&pages, PAGE_BYTES, &data), PAGE_BYTES);
	CHECK_MEM(data, "cd", 2);
	CHECK_EQ(pages_view(&pages, 2 * PAGE_BYTES, &data), 0);
	finish(&pages);
}

TEST(release_gives_whole_pages_back)
{
	struct pages pages = {0};

	page_pool_init(&pool, 1 << 20);
	for (int64_t i = 0; i < 10; i++)
		write_text(&pages, i * PAGE_BYTES, "x");
	pages_release(&pages, &pool, 3 * PAGE_BYTES - 1);
	CHECK_EQ(pool.used, 8);
	pages_release(&pages, &pool, 3 * PAGE_BYTES);
	CHECK_EQ(pool.used, 7);
	pages_release(&pages, &pool, 0); /* below: nothing */
	CHECK_EQ(pool.used, 7);
	check_holds(&pages, 3 * PAGE_BYTES, "x");
	pages_release(&pages, &pool, INT64_C(1000000) * PAGE_BYTES);
	CHECK_EQ(pool.used, 0);
	CHECK_EQ(write_text(&pages, INT64_C(1000000) * PAGE_BYTES + 7, "again"), 0);
	check_holds(&pages, INT64_C(1000000) * PAGE_BYTES + 7, "again");
	finish(&pages);
}

TEST(the_cap_is_shared_and_holds)
{
	struct pages one = {0}, two = {0};
	static uint8_t bytes[6 * PAGE_BYTES];

	page_pool_init(&pool, 4 * PAGE_BYTES + 100);
	CHECK_EQ(pages_write(&one, &pool, 0, bytes, 3 * PAGE_BYTES), 0);
	CHECK_EQ(write_text(&two, 0, "kept"), 0);
	CHECK_EQ(pages_write(&two, &pool, 2, bytes, 2 * PAGE_BYTES), -ENOMEM);
	check_holds(&two, 0, "kept"); /* nothing was changed */
	CHECK_EQ(pages_write(&one, &pool, 3 * PAGE_BYTES, bytes, 1), -ENOMEM);
	CHECK(pool.used <= 4);
	pages_release(&one, &pool, 2 * PAGE_BYTES);
	CHECK_EQ(pages_write(&two, &pool, 2, bytes, 2 * PAGE_BYTES), 0);
	pages_free(&one, &pool);
	finish(&two);
}

TEST(a_window_that_slides_far_takes_no_more)
{
	struct pages pages = {0};
	uint8_t bytes[1000] = {0};

	page_pool_init(&pool, 8 * PAGE_BYTES);
	for (int64_t at = 0; at < INT64_C(30000000); at += 1000) {
		memset(bytes, (int)(at / 1000), sizeof bytes);
		if (pages_write(&pages, &pool, at, bytes, sizeof bytes)) {
			CHECK(0);
			break;
		}
		pages_release(&pages, &pool, at - 8000);
	}
	CHECK(pages.room < 64);
	CHECK(pool.used <= 8);
	finish(&pages);
}

TEST(random_writes_agree_with_the_model)
{
	enum {
		SPACE = 40000
	};
	static uint8_t model[SPACE], written[SPACE], bytes[SPACE];

	random_begin("pages");
	for (int round = 0; round < 50 && !check_failures; round++) {
		struct pages pages = {0};
		int64_t origin = (int64_t)random_below(UINT64_C(1) << 40), base = 0;

		page_pool_init(&pool, 1 << 20);
		memset(written, 0, sizeof written);
		for (int step = 0; step < 200; step++) {
			int64_t at = random_between(base, SPACE - 1),
				len = random_between(0, random_chance(80) ? 300 : 9000);

			len = len > SPACE - at ? SPACE - at : len;
			for (int64_t i = at; i < at + len; i++) {
				model[i] = bytes[i] = (uint8_t)random_next();
				written[i] = 1;
			}
			CHECK_EQ(pages_write(&pages, &pool, origin + at, bytes + at, (size_t)len), 0);
			if (random_chance(3)) {
				base = random_between(base, SPACE - 1);
				pages_release(&pages, &pool, origin + base);
			}
		}
		for (int64_t i = base; i < SPACE; i++) {
			uint8_t got = 0;

			pages_read(&pages, origin + i, &got, 1);
			if (written[i])
				CHECK_EQ(got, model[i]);
		}
		finish(&pages);
	}
}
