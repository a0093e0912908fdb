/*
 * stream.h - the bytes one side has received, as far as somebody reads them.
 *
 * In-order bytes stay in the frame until the burst ends (`piece`); then only what is unread is
 * copied to pages.  Out-of-order bytes are copied at once.  `next` is the readable edge; what is
 * missing below it is a gap that was given up, what is missing above it a hole.
 *
 * Positions are rel numbers (seq.h; 1 = first byte).  Units: bytes.
 * Errors: bytes that find no memory become holes and are counted in `lost_bytes`.
 * Threads: the context's own.  Ownership: a flow owns its streams; data pointers belong to the
 * burst.
 */
#ifndef MOS_TCP_STREAM_H
#define MOS_TCP_STREAM_H

#include "../mos.h"
#include "overlap.h"
#include "pages.h"
#include "ranges.h"
#include "seg_tree.h"

struct stream_piece {
	int64_t at;
	const uint8_t *data;
	uint32_t len;
};

struct stream {
	int64_t start; /* reading began here; 1, or later when the side was switched on late */
	int64_t base;  /* nothing below is stored */
	int64_t next;  /* readable up to here */
	int64_t top;   /* one past the highest stored byte */
	struct ranges holes;
	struct pages pages;
	struct seg_tree held; /* segments that wait for a hole, for policies that ask for them */
	struct stream_piece *piece;
	uint32_t pieces, room;
	uint32_t rmem;  /* unread bytes allowed */
	uint8_t policy; /* enum mos_overlap_policy */
	bool history;
	bool dirty;             /* has pieces: in the context's list to settle */
	bool pending;           /* NEW_DATA at MOS_NULL is due */
	uint64_t lost_bytes;    /* found no memory */
	struct stream *retired; /* next one that waits to be freed */
};

/* What an arriving segment met. */
struct stream_put {
	int64_t conflict_at;     /* first byte that differs from a stored one */
	uint64_t conflict_bytes; /* 0 = none (counted from the first difference to the run's end) */
	bool no_memory;
	bool fin; /* set by the caller: the segment carries FIN, which Linux counts as a byte */
};

/* A stream that begins at `at`; NULL when memory is out. */
struct stream *stream_new(int64_t at);
void stream_free(struct stream *stream, struct page_pool *pool);

/*
 * Take a segment's bytes [at, at + len); data stays valid until stream_settle().
 * Bytes that are there already: `policy` says which copy stays.  What the host has delivered is
 * never changed, except by policy last while it is unread.
 */
void stream_put(struct stream *stream, struct page_pool *pool, int64_t at, const uint8_t *data, uint32_t len,
                struct stream_put *put);

/*
 * Bytes that stream_put() would find stored with another value, without changing anything.
 * Called first, so that ERROR is dispatched before bytes are overwritten.
 */
void stream_conflict(const struct stream *stream, int64_t at, const uint8_t *data, uint32_t len,
                     struct stream_put *put);

/* Forget everything at and above `at`: the receiver refused it. */
void stream_restart(struct stream *stream, struct page_pool *pool, int64_t at);

/* Move the readable edge; returns how many bytes that are there became readable. */
int64_t stream_advance(struct stream *stream, int64_t next);

/*
 * Read at `at`: bytes copied (up to the next missing byte or the end of what is stored), or 0.
 * `limit` bounds the position (next, for readers; top, beyond holes).
 */
size_t stream_read(const struct stream *stream, int64_t at, uint8_t *data, size_t len, int64_t limit);

/* The same in place: a pointer to the bytes at `at` and how many lie there in one piece, or 0. */
size_t stream_view(const struct stream *stream, int64_t at, int64_t limit, const uint8_t **data);

/* How many bytes can be read in one run at `at`. */
size_t stream_run(const struct stream *stream, int64_t at, int64_t limit);

/* How many bytes are missing at `at` before the next byte that is there or `limit`. */
uint64_t stream_missing(const struct stream *stream, int64_t at, int64_t limit);

/* The burst is over: copy what is unread from frames, forget what everybody read. */
void stream_settle(struct stream *stream, struct page_pool *pool, int64_t unread_from);

#endif
