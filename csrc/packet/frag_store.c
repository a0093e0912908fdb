/* frag_store.c - see frag_store.h. */
#include "frag_store.h"

#include <stdlib.h>

#include "../live.h"

enum {
	MALLOC_OVERHEAD = 16, /* charged for every allocation */
	MIN_BUCKETS = 64,
	MAX_BUCKETS = 1 << 20
};

/* As many buckets as datagrams fit. */
bool frag_store_ready(struct frag_table *table)
{
	uint32_t count = MIN_BUCKETS;

	if (table->bucket)
		return true;
	while (count < MAX_BUCKETS && count < table->max_bytes / sizeof(struct frag_datagram))
		count *= 2;
	table->bucket = calloc(count, sizeof(struct frag_datagram *));
	if (!table->bucket)
		return false;
	table->mask = count - 1;
	live_add(&live_objects.tables, 1);
	return true;
}

static uint32_t bucket_of(const struct frag_table *table, const struct frag_key *key)
{
	const struct flow_hash_secret *secret = table->decoder->secret;

	/* word 5 is free where there is a protocol */
	return (flow_key_hash(&key->ip, secret) + (uint32_t)(secret->word[5] * key->proto >> 32)) & table->mask;
}

struct frag_datagram *frag_store_find(const struct frag_table *table, const struct frag_key *key)
{
	struct frag_datagram *datagram = table->bucket[bucket_of(table, key)];

	while (datagram && memcmp(&datagram->key, key, sizeof *key) != 0)
		datagram = datagram->chain;
	return datagram;
}

static void charge(struct frag_table *table, struct frag_datagram *datagram, uint64_t bytes)
{
	datagram->bytes += bytes;
	table->bytes += bytes;
}

static uint64_t piece_cost(uint32_t bytes)
{
	return sizeof(struct frag_piece) + bytes + MALLOC_OVERHEAD;
}

void frag_store_drop(struct frag_table *table, struct frag_datagram *datagram)
{
	while (datagram->piece) {
		struct frag_piece *piece = datagram->piece;

		datagram->piece = piece->next;
		charge(table, datagram, -piece_cost(piece->head_len + piece->captured));
		free(piece);
	}
	datagram->first = NULL;
}

void frag_store_remove(struct frag_table *table, struct frag_datagram *datagram)
{
	struct frag_datagram **link = &table->bucket[bucket_of(table, &datagram->key)];

	while (*link != datagram)
		link = &(*link)->chain;
	*link = datagram->chain;
	*(datagram->older ? &datagram->older->newer : &table->oldest) = datagram->newer;
	*(datagram->newer ? &datagram->newer->older : &table->newest) = datagram->older;
	frag_store_drop(table, datagram);
	charge(table, datagram, -datagram->bytes);
	free(datagram);
}

static void give_up(struct frag_table *table, struct frag_datagram *datagram, enum mos_counter why)
{
	if (!datagram->dead)
		table->counter[why]++;
	frag_store_remove(table, datagram);
}

void frag_store_expire(struct frag_table *table, uint64_t now_ns)
{
	while (table->timeout_ns && table->oldest && now_ns - table->oldest->first_ns >= table->timeout_ns)
		give_up(table, table->oldest, MOS_CNT_DATAGRAMS_TIMED_OUT);
}

/* Evict the oldest datagrams, but not `keep`, until `bytes` more fit; false: they never will. */
static bool make_room(struct frag_table *table, uint64_t bytes, const struct frag_datagram *keep)
{
	if ((keep ? keep->bytes : 0) + bytes > table->max_bytes)
		return false;
	while (table->bytes + bytes > table->max_bytes)
		give_up(table, table->oldest == keep ? keep->newer : table->oldest, MOS_CNT_DATAGRAMS_EVICTED);
	return true;
}

struct frag_datagram *frag_store_add(struct frag_table *table, const struct frag_key *key, uint64_t now_ns)
{
	struct frag_datagram **bucket, *datagram;

	if (!make_room(table, sizeof *datagram + MALLOC_OVERHEAD, NULL))
		return NULL;
	datagram = calloc(1, sizeof *datagram);
	if (!datagram)
		return NULL;
	bucket = &table->bucket[bucket_of(table, key)];
	datagram->key = *key;
	datagram->first_ns = now_ns;
	datagram->total = datagram->captured = FRAG_UNKNOWN;
	datagram->chain = *bucket;
	*bucket = datagram;
	datagram->older = table->newest;
	*(table->newest ? &table->newest->newer : &table->oldest) = datagram;
	table->newest = datagram;
	charge(table, datagram, sizeof *datagram + MALLOC_OVERHEAD);
	return datagram;
}

bool frag_store_keep(struct frag_table *table, struct frag_datagram *datagram, const struct frag_part *part)
{
	uint32_t head_len = part->offset ? 0 : part->head_len;
	uint64_t cost = piece_cost(head_len + part->captured);
	struct frag_piece *piece;

	if (!make_room(table, cost, datagram))
		return false;
	piece = malloc(sizeof *piece + head_len + part->captured);
	if (!piece)
		return false;
	charge(table, datagram, cost);
	*piece = (struct frag_piece){datagram->piece, part->offset, part->captured, head_len};
	memcpy(piece->bytes, part->head, head_len);
	memcpy(piece->bytes + head_len, part->data, part->captured);
	datagram->piece = piece;
	if (!part->offset && !datagram->first) {
		datagram->first = piece;
		datagram->next_at = part->next_at;
		datagram->next_header = part->next_header;
	}
	if (part->captured < part->end - part->offset && part->offset + part->captured < datagram->captured)
		datagram->captured = part->offset + part->captured;
	return true;
}
