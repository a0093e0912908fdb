/*
 * pages.h - bytes by position: fixed pages under a growing window of a stream.
 *
 * A position is a rel number (seq.h).  Which positions hold meaningful bytes is the stream's
 * business; this is storage only.
 * Errors: -ENOMEM, also when the pool's cap is reached; nothing is then changed.
 * Threads: a pool belongs to one context.  Ownership: pages_free() gives everything back.
 */
#ifndef MOS_TCP_PAGES_H
#define MOS_TCP_PAGES_H

#include <stddef.h>
#include <stdint.h>

enum {
	PAGE_SHIFT = 11,
	PAGE_BYTES = 1 << PAGE_SHIFT
};

/* Free pages and the cap of a context. */
struct page_pool {
	void *free_list;
	uint64_t used, cached, max; /* pages */
};

struct pages {
	uint8_t **page; /* page[head + i] holds page number first + i; NULL = none yet */
	int64_t first;
	uint32_t head, count, room;
};

void page_pool_init(struct page_pool *pool, uint64_t max_bytes);
void page_pool_free(struct page_pool *pool);
/* PAGE_BYTES bytes, aligned for any type; NULL when memory or the cap is out. */
void *page_pool_take(struct page_pool *pool);
void page_pool_give(struct page_pool *pool, void *page);

int pages_write(struct pages *pages, struct page_pool *pool, int64_t at, const uint8_t *data, size_t len);
/* Positions without a page read as zero; the rest of a page that was written to is undefined. */
void pages_read(const struct pages *pages, int64_t at, uint8_t *data, size_t len);
/* A pointer to the byte at `at` and how many follow it in its page; 0 if there is no page. */
size_t pages_view(const struct pages *pages, int64_t at, const uint8_t **data);
/* 0 if the stored bytes equal data; else the index of the first different byte, plus 1. */
size_t pages_compare(const struct pages *pages, int64_t at, const uint8_t *data, size_t len);
/* Forget everything below `at`. */
void pages_release(struct pages *pages, struct page_pool *pool, int64_t at);
void pages_free(struct pages *pages, struct page_pool *pool);

#endif
