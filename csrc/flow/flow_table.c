/* flow_table.c - see flow_table.h. */
#include "flow_table.h"

#include <stdlib.h>
#include <string.h>

#include "../live.h"

enum {
	FIRST_BUCKETS = 1024,
	MAX_BUCKETS = 1 << 27,
	MOVE_AT_ONCE = 4 /* buckets moved at each insertion: growth ends long before the next one */
};

static const uint32_t PASSED = 1u << 31;
static const uint32_t ALL_USED = (1u << BUCKET_ENTRIES) - 1;

static struct bucket *new_buckets(uint32_t count)
{
	struct bucket *bucket = aligned_alloc(64, (size_t)count * sizeof *bucket);

	if (bucket)
		memset(bucket, 0, (size_t)count * sizeof *bucket);
	return bucket;
}

int flow_table_init(struct flow_table *table, uint32_t max_flows, const uint64_t *seed)
{
	memset(table, 0, sizeof *table);
	table->now.bucket = new_buckets(FIRST_BUCKETS);
	if (!table->now.bucket)
		return -ENOMEM;
	table->now.mask = FIRST_BUCKETS - 1;
	table->max_flows = max_flows;
	table->free_head = FLOW_NONE;
	flow_hash_secret_init(&table->secret, seed);
	return 0;
}

void flow_table_free(struct flow_table *table)
{
	for (uint32_t i = 0; i < table->chunks; i++)
		free(table->chunk[i]);
	live_add(&live_objects.flow_chunks, -(int64_t)table->chunks);
	free(table->chunk);
	free(table->now.bucket);
	free(table->old.bucket);
	memset(table, 0, sizeof *table);
}

struct flow *flow_index_find(struct flow_table *table, const struct flow_index *index, const struct flow_key *key,
                             uint32_t hash)
{
	for (uint32_t b = hash & index->mask, n = 0; n <= index->mask; b = (b + 1) & index->mask, n++) {
		const struct bucket *bucket = &index->bucket[b];

		for (uint32_t match = bucket_match(bucket, hash); match; match &= match - 1) {
			struct flow *flow = flow_at(table, bucket->number[__builtin_ctz(match)]);

			if (flow_key_equal(&flow->key, key))
				return flow;
		}
		if (!(bucket->used & PASSED))
			break;
	}
	return NULL;
}

static void index_put(struct flow_index *index, uint32_t hash, uint32_t number)
{
	uint32_t b = hash & index->mask;

	while ((index->bucket[b].used & ALL_USED) == ALL_USED) {
		if (!(index->bucket[b].used & PASSED)) {
			index->bucket[b].used |= PASSED;
			index->passed++;
		}
		b = (b + 1) & index->mask;
	}
	struct bucket *bucket = &index->bucket[b];
	int i = __builtin_ctz(~bucket->used);
	bucket->hash[i] = hash;
	bucket->number[i] = number;
	bucket->used |= 1u << i;
	index->entries++;
}

static bool index_take(struct flow_index *index, uint32_t hash, uint32_t number)
{
	for (uint32_t b = hash & index->mask, n = 0; n <= index->mask; b = (b + 1) & index->mask, n++) {
		struct bucket *bucket = &index->bucket[b];

		for (int i = 0; i < BUCKET_ENTRIES; i++) {
			if (bucket->number[i] != number || bucket->hash[i] != hash || !(bucket->used >> i & 1))
				continue;
			bucket->used &= ~(1u << i);
			index->entries--;
			return true;
		}
		if (!(bucket->used & PASSED))
			break;
	}
	return false;
}

static void move_buckets(struct flow_table *table, uint32_t count)
{
	while (count-- && table->moved <= table->old.mask) {
		struct bucket *bucket = &table->old.bucket[table->moved++];

		for (int i = 0; i < BUCKET_ENTRIES; i++)
			if (bucket->used >> i & 1)
				index_put(&table->now, bucket->hash[i], bucket->number[i]);
		table->old.entries -= (uint32_t)__builtin_popcount(bucket->used & ALL_USED);
		bucket->used &= PASSED; /* searches that pass through here go on */
	}
	if (table->moved > table->old.mask) {
		free(table->old.bucket);
		table->old.bucket = NULL;
	}
}

/*
 * Begin to move to a larger index when it is three quarters full, or when removals have left many
 * passed buckets: to a fresh one of the same size if it is at most half full, since a fuller one
 * would soon be passed everywhere again.  Without memory the old one goes on.
 */
static void grow_if_due(struct flow_table *table)
{
	struct flow_index *now = &table->now;
	uint64_t room = (uint64_t)(now->mask + 1) * BUCKET_ENTRIES;
	uint32_t buckets = now->mask + 1;
	struct bucket *bucket;

	if (table->old.bucket) {
		move_buckets(table, MOVE_AT_ONCE);
		return;
	}
	if (now->entries * 4ull < room * 3 && now->passed <= buckets / 8)
		return;
	if (now->entries * 2ull > room) {
		if (buckets >= MAX_BUCKETS)
			return;
		buckets *= 2;
	}
	bucket = new_buckets(buckets);
	if (!bucket)
		return;
	table->old = *now;
	table->moved = 0;
	*now = (struct flow_index){.bucket = bucket, .mask = buckets - 1};
}

static int add_chunk(struct flow_table *table)
{
	struct flow **chunk = realloc(table->chunk, (table->chunks + 1) * sizeof *chunk);

	if (!chunk)
		return -ENOMEM;
	table->chunk = chunk;
	chunk[table->chunks] = aligned_alloc(64, sizeof(struct flow) * FLOW_CHUNK);
	if (!chunk[table->chunks])
		return -ENOMEM;
	table->chunks++;
	live_add(&live_objects.flow_chunks, 1);
	return 0;
}

/* A free number; its record is zero but for the generation, which survives. */
static struct flow *take_record(struct flow_table *table)
{
	uint32_t number = table->free_head, generation = 0;
	struct flow *flow;

	if (number == FLOW_NONE) {
		if (table->numbers == table->chunks << FLOW_CHUNK_SHIFT && add_chunk(table))
			return NULL;
		number = table->numbers++;
		flow = flow_at(table, number);
	} else {
		flow = flow_at(table, number);
		table->free_head = flow->next;
		generation = flow->generation;
	}
	memset(flow, 0, sizeof *flow);
	flow->number = number;
	flow->generation = generation + 1;
	flow->next = flow->prev = FLOW_NONE;
	return flow;
}

struct flow *flow_table_create(struct flow_table *table, const struct flow_key *key, uint32_t hash)
{
	struct flow *flow;

	if (table->count >= table->max_flows)
		return NULL;
	grow_if_due(table);
	if (table->now.entries >= (uint64_t)table->now.mask * BUCKET_ENTRIES)
		return NULL; /* growth failed for want of memory, and the index is full */
	flow = take_record(table);
	if (!flow)
		return NULL;
	flow->key = *key;
	flow->serial = ++table->next_serial;
	index_put(&table->now, hash, flow->number);
	table->count++;
	return flow;
}

void flow_table_remove(struct flow_table *table, struct flow *flow)
{
	uint32_t hash = flow_key_hash(&flow->key, &table->secret);

	if (!index_take(&table->now, hash, flow->number) && table->old.bucket)
		index_take(&table->old, hash, flow->number);
	flow_cold_free(flow);
	flow->serial = 0;
	flow->next = table->free_head;
	table->free_head = flow->number;
	table->count--;
}

struct flow_cold *flow_cold(struct flow *flow)
{
	if (!flow->cold)
		flow->cold = calloc(1, sizeof *flow->cold);
	return flow->cold;
}

void flow_cold_free(struct flow *flow)
{
	if (!flow->cold)
		return;
	for (int side = 0; side < 2; side++) {
		ranges_free(&flow->cold->half[side].holes);
		ranges_free(&flow->cold->half[side].below_holes);
	}
	free(flow->cold);
	flow->cold = NULL;
}
