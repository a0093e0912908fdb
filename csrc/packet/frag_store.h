/*
 * frag_store.h - the datagrams that wait for fragments: hashed by key, listed by age, charged
 * against the table's max_bytes.  Part of frag.c, which decides what is kept.
 *
 * Units: bytes; offsets count from the first byte behind the datagram's head.
 * Errors: NULL or false = it does not fit into max_bytes, or memory is out.
 * Ownership: datagrams and pieces belong to the table.  Threads: one per table.
 */
#ifndef MOS_PACKET_FRAG_STORE_H
#define MOS_PACKET_FRAG_STORE_H

#include "frag.h"

enum {
	FRAG_UNIT = 8, /* offsets are multiples of it */
	FRAG_MAX_LENGTH = 65535,
	FRAG_WORDS = (FRAG_MAX_LENGTH + 1) / FRAG_UNIT / 64
};

static const uint32_t FRAG_UNKNOWN = UINT32_MAX;

struct frag_key {
	struct flow_key ip; /* lo = source, hi = destination, ports = identification */
	uint32_t proto;     /* 0 for IPv6 */
};

/* A fragment as it lies in a packet. */
struct frag_part {
	struct frag_key key;
	const uint8_t *head, *data;
	uint32_t head_len; /* what goes before the datagram's data: no fragment header */
	uint32_t offset, end;
	uint32_t captured; /* bytes at `data`, at most end - offset */
	uint16_t next_at;  /* IPv6: octet of the head that gets next_header */
	uint8_t next_header;
	bool more;
};

/* A fragment that waits.  The head is kept for the first part of a datagram only. */
struct frag_piece {
	struct frag_piece *next;
	uint32_t offset, captured, head_len;
	uint8_t bytes[]; /* head, data */
};

struct frag_datagram {
	struct frag_datagram *chain; /* same bucket */
	struct frag_datagram *older, *newer;
	struct frag_key key;
	uint64_t first_ns, bytes, wire;
	struct frag_piece *piece; /* latest first */
	struct frag_piece *first; /* the one with offset 0 */
	uint32_t units;           /* bits set in `have` */
	uint32_t total, top;      /* length of the data, or FRAG_UNKNOWN; highest end */
	uint32_t captured;        /* offset of the first byte known to be missing */
	uint16_t next_at;
	uint8_t next_header;
	bool dead; /* given up; takes what still comes */
	uint64_t have[FRAG_WORDS];
};

/* Make the buckets, once. */
bool frag_store_ready(struct frag_table *table);

struct frag_datagram *frag_store_find(const struct frag_table *table, const struct frag_key *key);
struct frag_datagram *frag_store_add(struct frag_table *table, const struct frag_key *key, uint64_t now_ns);

/* Keep a copy of the fragment; the bitmap is the caller's. */
bool frag_store_keep(struct frag_table *table, struct frag_datagram *datagram, const struct frag_part *part);

/* Give the pieces back, or all of it. */
void frag_store_drop(struct frag_table *table, struct frag_datagram *datagram);
void frag_store_remove(struct frag_table *table, struct frag_datagram *datagram);

/* Remove, and count, the datagrams that have waited too long. */
void frag_store_expire(struct frag_table *table, uint64_t now_ns);

#endif
