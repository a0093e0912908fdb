/* pages.c - see pages.h. */
#include "pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../live.h"

enum {
	KEEP_CACHED = 256,
	PAGE_MASK = PAGE_BYTES - 1
};

void page_pool_init(struct page_pool *pool, uint64_t max_bytes)
{
	*pool = (struct page_pool){.max = max_bytes >> PAGE_SHIFT};
}

void *page_pool_take(struct page_pool *pool)
{
	void *page = pool->free_list;

	if (pool->used >= pool->max)
		return NULL;
	if (page) {
		memcpy(&pool->free_list, page, sizeof pool->free_list);
		pool->cached--;
	} else {
		page = malloc(PAGE_BYTES);
		if (!page)
			return NULL;
	}
	pool->used++;
	live_add(&live_objects.pages, 1);
	return page;
}

void page_pool_give(struct page_pool *pool, void *page)
{
	pool->used--;
	live_add(&live_objects.pages, -1);
	if (pool->cached >= KEEP_CACHED) {
		free(page);
		return;
	}
	memcpy(page, &pool->free_list, sizeof pool->free_list);
	pool->free_list = page;
	pool->cached++;
}

void page_pool_free(struct page_pool *pool)
{
	while (pool->free_list) {
		void *page = pool->free_list;

		memcpy(&pool->free_list, page, sizeof pool->free_list);
		free(page);
	}
	pool->cached = 0;
}

/* Make the slots [from, to] of page numbers exist. */
static int reserve(struct pages *pages, int64_t from, int64_t to)
{
	uint32_t before = 0, need;
	uint8_t **page;

	if (!pages->count) {
		pages->first = from;
		pages->head = 0;
	}
	if (from < pages->first)
		before = (uint32_t)(pages->first - from);
	need = before + pages->count;
	if (to >= pages->first + pages->count)
		need += (uint32_t)(to + 1 - pages->first - pages->count);
	if (!before && pages->head + need <= pages->room) {
		memset(&pages->page[pages->head + pages->count], 0, (need - pages->count) * sizeof *page);
		pages->count = need;
		return 0;
	}
	page = calloc(need + need / 2 + 2, sizeof *page);
	if (!page)
		return -ENOMEM;
	if (pages->count)
		memcpy(page + before, pages->page + pages->head, pages->count * sizeof *page);
	free(pages->page);
	*pages = (struct pages){page, pages->first - before, 0, need, need + need / 2 + 2};
	return 0;
}

static uint8_t **slot(const struct pages *pages, int64_t number)
{
	return &pages->page[pages->head + (uint32_t)(number - pages->first)];
}

/* Take the pages that [at, at + len) needs; on failure those already taken stay for later. */
static int fill_slots(struct pages *pages, struct page_pool *pool, int64_t at, size_t len)
{
	int64_t from = at >> PAGE_SHIFT, to = (at + (int64_t)len - 1) >> PAGE_SHIFT;

	if (reserve(pages, from, to))
		return -ENOMEM;
	for (int64_t number = from; number <= to; number++) {
		uint8_t **page = slot(pages, number);

		if (!*page && !(*page = page_pool_take(pool)))
			return -ENOMEM;
	}
	return 0;
}

int pages_write(struct pages *pages, struct page_pool *pool, int64_t at, const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	if (fill_slots(pages, pool, at, len))
		return -ENOMEM;
	while (len) {
		size_t offset = (size_t)at & PAGE_MASK, n = PAGE_BYTES - offset < len ? PAGE_BYTES - offset : len;

		memcpy(*slot(pages, at >> PAGE_SHIFT) + offset, data, n);
		at += (int64_t)n;
		data += n;
		len -= n;
	}
	return 0;
}

/* The page with position `at`, or NULL. */
static const uint8_t *page_at(const struct pages *pages, int64_t at)
{
	int64_t number = at >> PAGE_SHIFT;

	if (number < pages->first || number >= pages->first + pages->count)
		return NULL;
	return *slot(pages, number);
}

void pages_read(const struct pages *pages, int64_t at, uint8_t *data, size_t len)
{
	while (len) {
		size_t offset = (size_t)at & PAGE_MASK, n = PAGE_BYTES - offset < len ? PAGE_BYTES - offset : len;
		const uint8_t *page = page_at(pages, at);

		if (page)
			memcpy(data, page + offset, n);
		else
			memset(data, 0, n);
		at += (int64_t)n;
		data += n;
		len -= n;
	}
}

size_t pages_view(const struct pages *pages, int64_t at, const uint8_t **data)
{
	const uint8_t *page = page_at(pages, at);
	size_t offset = (size_t)at & PAGE_MASK;

	if (!page)
		return 0;
	*data = page + offset;
	return PAGE_BYTES - offset;
}

size_t pages_compare(const struct pages *pages, int64_t at, const uint8_t *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		size_t offset = (size_t)(at + (int64_t)done) & PAGE_MASK;
		size_t n = PAGE_BYTES - offset < len - done ? PAGE_BYTES - offset : len - done;
		const uint8_t *page = page_at(pages, at + (int64_t)done);

		if (page && memcmp(page + offset, data + done, n))
			for (size_t i = 0; i < n; i++)
				if (page[offset + i] != data[done + i])
					return done + i + 1;
		done += n;
	}
	return 0;
}

void pages_release(struct pages *pages, struct page_pool *pool, int64_t at)
{
	int64_t number = at >> PAGE_SHIFT;

	while (pages->count && pages->first < number) {
		uint8_t *page = pages->page[pages->head];

		if (page)
			page_pool_give(pool, page);
		pages->head++;
		pages->first++;
		pages->count--;
	}
}

void pages_free(struct pages *pages, struct page_pool *pool)
{
	pages_release(pages, pool, INT64_MAX);
	free(pages->page);
	*pages = (struct pages){0};
}
