/*
 * flow_table.h - find, create and remove flows.
 *
 * Two parts.  The index: buckets of one cache line with seven (hash, flow number) entries; it
 * grows by moving a few buckets at every insertion, so no packet pays for a whole rehash.  The
 * records: chunks of flows, made on demand, never moved; a flow number is stable for a life.
 * An entry says which of a flow's two keys it stands for, so a translated connection (NAT) is
 * found by either.
 *
 * Bulk lookups: flow_table_prefetch_bucket() for every packet of a burst, then
 * flow_table_prefetch_flow(), then flow_table_find().
 *
 * Units: ns.  Errors: NULL when memory is out or max_flows is reached.
 * Threads: the context's own.  Ownership: the table owns its flows.
 */
#ifndef MOS_FLOW_TABLE_H
#define MOS_FLOW_TABLE_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "flow.h"
#include "timer_wheel.h"

enum {
	FLOW_CHUNK_SHIFT = 10,
	FLOW_CHUNK = 1 << FLOW_CHUNK_SHIFT,
	BUCKET_ENTRIES = 7
};

struct bucket {
	uint32_t hash[BUCKET_ENTRIES];
	uint32_t used; /* bit i: entry i is taken; bit 31: an insertion once went past this bucket */
	uint32_t number[BUCKET_ENTRIES];
	uint32_t pad;
};

_Static_assert(sizeof(struct bucket) == 64, "a bucket is one cache line");

struct flow_index {
	struct bucket *bucket;
	uint32_t mask; /* buckets - 1 */
	uint32_t entries;
	uint32_t passed; /* buckets with the passed bit: they lengthen searches */
};

struct flow_table {
	struct flow_index now, old; /* old.bucket is NULL when no growth is under way */
	uint32_t moved;             /* buckets of `old` below this one are empty */
	struct flow **chunk;
	uint32_t chunks;
	uint32_t numbers;   /* flow numbers handed out so far */
	uint32_t free_head; /* list through flow.next */
	uint32_t count, max_flows;
	uint64_t next_serial;
	struct flow_hash_secret secret;
};

int flow_table_init(struct flow_table *table, uint32_t max_flows, const uint64_t *seed);
void flow_table_free(struct flow_table *table);

/* A zeroed flow with its key, number, generation and serial set, and in the index. */
struct flow *flow_table_create(struct flow_table *table, const struct flow_key *key, uint32_t hash);
void flow_table_remove(struct flow_table *table, struct flow *flow);

static inline struct flow *flow_at(struct flow_table *table, uint32_t number)
{
	return &table->chunk[number >> FLOW_CHUNK_SHIFT][number & (FLOW_CHUNK - 1)];
}

/* True when `number` is a flow in use. */
static inline bool flow_in_use(struct flow_table *table, uint32_t number)
{
	return number < table->numbers && flow_at(table, number)->serial;
}

/* Bit i: entry i of the bucket is in use and has this hash. */
static inline uint32_t bucket_match(const struct bucket *bucket, uint32_t hash)
{
#ifdef __SSE2__
	const __m128i want = _mm_set1_epi32((int)hash), *lane = (const __m128i *)bucket;
	uint32_t low = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(lane[0], want)));
	uint32_t high = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpeq_epi32(lane[1], want)));

	return (low | high << 4) & bucket->used & ((1u << BUCKET_ENTRIES) - 1);
#else
	uint32_t match = 0;

	for (int i = 0; i < BUCKET_ENTRIES; i++)
		match |= (uint32_t)(bucket->hash[i] == hash) << i;
	return match & bucket->used;
#endif
}

struct flow *flow_index_find(struct flow_table *table, const struct flow_index *index, const struct flow_key *key,
                             uint32_t hash);

static inline struct flow *flow_table_find(struct flow_table *table, const struct flow_key *key, uint32_t hash)
{
	struct flow *flow = flow_index_find(table, &table->now, key, hash);

	if (!flow && table->old.bucket)
		flow = flow_index_find(table, &table->old, key, hash);
	return flow;
}

static inline void flow_table_prefetch_bucket(const struct flow_table *table, uint32_t hash)
{
	__builtin_prefetch(&table->now.bucket[hash & table->now.mask]);
	if (table->old.bucket)
		__builtin_prefetch(&table->old.bucket[hash & table->old.mask]);
}

/* The flow that probably has this hash, its lines on their way to the cache. */
static inline void flow_table_prefetch_flow(struct flow_table *table, uint32_t hash)
{
	const struct bucket *bucket = &table->now.bucket[hash & table->now.mask];
	uint32_t match = bucket_match(bucket, hash);

	if (match) {
		const char *line = (const char *)flow_at(table, bucket->number[__builtin_ctz(match)]);

		__builtin_prefetch(line);
		__builtin_prefetch(line + 64);
		__builtin_prefetch(line + 128);
		__builtin_prefetch(line + 192);
		__builtin_prefetch(line + 256);
	}
}

#endif
