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

#include "flow.h"
#include "timer_wheel.h"

enum { FLOW_CHUNK_SHIFT = 10, FLOW_CHUNK = 1 << FLOW_CHUNK_SHIFT, BUCKET_ENTRIES = 7 };

struct bucket {
	uint32_t hash[BUCKET_ENTRIES];
	uint32_t used;  /* bit i: entry i is taken; bit 31: an insertion once went past this bucket */
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
	uint32_t numbers;           /* flow numbers handed out so far */
	uint32_t free_head;         /* list through flow.next */
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

	for (int i = 0; i < BUCKET_ENTRIES; i++) {
		if (bucket->hash[i] != hash || !(bucket->used >> i & 1))
			continue;
		const char *line = (const char *)flow_at(table, bucket->number[i]);
		__builtin_prefetch(line);
		__builtin_prefetch(line + 64);
		__builtin_prefetch(line + 128);
		__builtin_prefetch(line + 192);
		__builtin_prefetch(line + 256);
		return;
	}
}

#endif
