/*
 * ranges.h - the holes of one direction: which sequence numbers below the highest one the
 * monitor has not seen.  Pure arithmetic on [start, end), no bytes.
 *
 * Holes are kept, not received runs: a direction without loss has none and costs nothing, and
 * data at the top of the stream touches nothing here.
 * They are sorted in chunks of at most RANGES_CHUNK holes; a search is a binary search over the
 * chunks and one inside a chunk, an insertion moves at most one chunk.  This keeps a million
 * holes near constant cost (benchmarks/ranges_cost.py).
 *
 * Units: rel numbers (seq.h), ns.  Errors: -ENOMEM; the set is then unchanged.
 * Threads: none shared.  Ownership: ranges_free() gives everything back.
 */
#ifndef MOS_TCP_RANGES_H
#define MOS_TCP_RANGES_H

#include <stdbool.h>
#include <stdint.h>

enum {
	RANGES_CHUNK = 256
};

struct hole {
	int64_t start, end;
	uint64_t since_ns; /* when the segment above it was seen */
};

struct ranges_chunk {
	uint32_t count, room;
	struct hole *hole;
	int64_t until; /* end of its last hole: a search over the chunks follows no pointer */
};

struct ranges {
	struct ranges_chunk *chunk; /* sorted, none empty */
	uint32_t chunks, room;
	uint64_t count; /* holes */
	int64_t bytes;  /* sum of their lengths */
};

/* What a segment did to the holes. */
struct ranges_fill {
	int64_t filled;    /* sequence numbers that were missing and now are not */
	uint64_t since_ns; /* newest hole touched, 0 if none */
};

/* A hole above all others. */
int ranges_append(struct ranges *ranges, int64_t start, int64_t end, uint64_t now_ns);

/* [start, end), none of which is missing yet, is missing after all. */
int ranges_insert(struct ranges *ranges, int64_t start, int64_t end, uint64_t now_ns);

/* [start, end) has been seen. */
int ranges_fill(struct ranges *ranges, int64_t start, int64_t end, struct ranges_fill *fill);

/* How many numbers of [start, end) are missing. */
int64_t ranges_missing(const struct ranges *ranges, int64_t start, int64_t end);

/* The first hole that ends above `rel`, or NULL. */
const struct hole *ranges_next(const struct ranges *ranges, int64_t rel);

/* Forget the lowest hole. */
void ranges_drop_first(struct ranges *ranges);

void ranges_free(struct ranges *ranges);

#endif
