/* frag.c - see frag.h. */
#include "frag.h"

#include <stdlib.h>

#include "../live.h"
#include "bytes.h"
#include "checksum.h"

enum {
	UNIT = 8, /* offsets count in these */
	MAX_LENGTH = 65535,
	WORDS = (MAX_LENGTH + 1) / UNIT / 64,
	MAX_NESTED = 4,       /* fragments of fragments: tunnels */
	MALLOC_OVERHEAD = 16, /* charged for every allocation */
	MIN_BUCKETS = 64,
	MAX_BUCKETS = 1 << 20,
	IPV6_HEADER = 40,
	FRAGMENT_HEADER = 8,
	LINK_RAW = 101
};

static const uint32_t UNKNOWN = UINT32_MAX;
static const enum mos_counter COMPLETE = MOS_CNT_COUNTERS; /* no reason to ignore it */

struct frag_key {
	struct flow_key ip; /* lo = source, hi = destination, ports = identification */
	uint32_t proto;     /* 0 for IPv6 */
};

/* A fragment as it lies in a packet. */
struct part {
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
	struct frag_datagram *chain;          /* same bucket */
	struct frag_datagram *older, *newer;
	struct frag_key key;
	uint64_t first_ns, bytes, wire;
	struct frag_piece *piece; /* latest first */
	struct frag_piece *first; /* the one with offset 0 */
	uint32_t units;           /* bits set in `have` */
	uint32_t total, top;      /* length of the data, or UNKNOWN; highest end */
	uint32_t captured;        /* offset of the first byte known to be missing */
	uint16_t next_at;
	uint8_t next_header;
	bool dead; /* given up; takes what still comes */
	uint64_t have[WORDS];
};

struct frag_rebuilt {
	struct frag_rebuilt *next;
	uint8_t frame[];
};

void frag_init(struct frag_table *table, const struct decoder *decoder, uint64_t *counter, uint64_t max_bytes,
               uint64_t timeout_ns)
{
	*table = (struct frag_table){
		.decoder = decoder, .counter = counter, .max_bytes = max_bytes, .timeout_ns = timeout_ns};
}

/* As many buckets as datagrams fit. */
static bool make_buckets(struct frag_table *table)
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

/* ---- the fragment in a packet ------------------------------------------------------------- */

static bool parse_ipv4(const struct mos_pkt *pkt, struct part *part)
{
	const uint8_t *ip = part->head;
	uint32_t field = load_be16(ip + 6), total = load_be16(ip + 2), len;

	part->head_len = pkt->payload_off - pkt->l3_off;
	part->key.ip.ports = load_be16(ip + 4);
	part->key.proto = ip[9];
	part->offset = (field & 0x1fff) * UNIT;
	part->more = field & 0x2000;
	if (total < part->head_len)
		return false;
	len = total - part->head_len;
	part->end = part->offset + (part->more ? len - len % UNIT : len);
	return part->head_len + part->end <= MAX_LENGTH;
}

static bool parse_ipv6(const struct mos_pkt *pkt, struct part *part)
{
	const uint8_t *header = part->data - FRAGMENT_HEADER;
	uint32_t field = load_be16(header + 2), total = IPV6_HEADER + load_be16(part->head + 4);

	part->head_len = pkt->payload_off - FRAGMENT_HEADER - pkt->l3_off;
	part->key.ip.ports = load_be32(header + 4);
	part->next_at = pkt->frag_next_at;
	part->next_header = header[0];
	part->offset = field & 0xfff8;
	part->more = field & 1;
	if (total < part->head_len + FRAGMENT_HEADER)
		return false;
	part->end = part->offset + total - part->head_len - FRAGMENT_HEADER;
	return !(part->more && part->end % UNIT) && part->head_len - IPV6_HEADER + part->end <= MAX_LENGTH;
}

/* False for a bad fragment. */
static bool parse(const struct mos_pkt *pkt, struct part *part)
{
	uint32_t at = pkt->l3_off + pkt->l3_len;

	memset(part, 0, sizeof *part);
	part->key.ip = pkt->key;
	part->head = pkt->frame + pkt->l3_off;
	part->data = pkt->frame + pkt->payload_off;
	if (!(pkt->ipv6 ? parse_ipv6(pkt, part) : parse_ipv4(pkt, part)) || part->end == part->offset)
		return false;
	part->captured = at > pkt->payload_off ? at - pkt->payload_off : 0;
	if (part->captured > part->end - part->offset)
		part->captured = part->end - part->offset;
	return true;
}

/* ---- the table ---------------------------------------------------------------------------- */

static uint32_t bucket_of(const struct frag_table *table, const struct frag_key *key)
{
	const struct flow_hash_secret *secret = table->decoder->secret;

	/* word 5 is free where there is a protocol */
	return (flow_key_hash(&key->ip, secret) + (uint32_t)(secret->word[5] * key->proto >> 32)) & table->mask;
}

static struct frag_datagram *find(const struct frag_table *table, const struct frag_key *key)
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

static void free_pieces(struct frag_table *table, struct frag_datagram *datagram)
{
	while (datagram->piece) {
		struct frag_piece *piece = datagram->piece;

		datagram->piece = piece->next;
		charge(table, datagram, -piece_cost(piece->head_len + piece->captured));
		free(piece);
	}
	datagram->first = NULL;
}

static void remove_datagram(struct frag_table *table, struct frag_datagram *datagram)
{
	struct frag_datagram **link = &table->bucket[bucket_of(table, &datagram->key)];

	while (*link != datagram)
		link = &(*link)->chain;
	*link = datagram->chain;
	*(datagram->older ? &datagram->older->newer : &table->oldest) = datagram->newer;
	*(datagram->newer ? &datagram->newer->older : &table->newest) = datagram->older;
	free_pieces(table, datagram);
	charge(table, datagram, -datagram->bytes);
	free(datagram);
}

static void give_up(struct frag_table *table, struct frag_datagram *datagram, enum mos_counter why)
{
	if (!datagram->dead)
		table->counter[why]++;
	remove_datagram(table, datagram);
}

static void expire(struct frag_table *table, uint64_t now_ns)
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

static struct frag_datagram *add_datagram(struct frag_table *table, const struct frag_key *key, uint64_t now_ns)
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
	datagram->total = datagram->captured = UNKNOWN;
	datagram->chain = *bucket;
	*bucket = datagram;
	datagram->older = table->newest;
	*(table->newest ? &table->newest->newer : &table->oldest) = datagram;
	table->newest = datagram;
	charge(table, datagram, sizeof *datagram + MALLOC_OVERHEAD);
	return datagram;
}

/* ---- which units are there ------------------------------------------------------------------ */

/* The bits of units [from, to) that are in a word of the bitmap; at least one is. */
static uint64_t word_mask(uint32_t word, uint32_t from, uint32_t to)
{
	uint32_t low = word * 64;
	uint64_t mask = UINT64_MAX;

	if (from > low)
		mask <<= from - low;
	if (to < low + 64)
		mask &= UINT64_MAX >> (low + 64 - to);
	return mask;
}

static uint32_t units_present(const struct frag_datagram *datagram, uint32_t from, uint32_t to)
{
	uint32_t present = 0;

	for (uint32_t word = from / 64; word <= (to - 1) / 64; word++)
		present += (uint32_t)__builtin_popcountll(datagram->have[word] & word_mask(word, from, to));
	return present;
}

static void units_add(struct frag_datagram *datagram, uint32_t from, uint32_t to)
{
	for (uint32_t word = from / 64; word <= (to - 1) / 64; word++)
		datagram->have[word] |= word_mask(word, from, to);
}

/* ---- taking and rebuilding -------------------------------------------------------------------- */

/* Does the fragment agree with what is known of the datagram's length?  Then learn from it. */
static bool agree_on_length(struct frag_datagram *datagram, const struct part *part)
{
	if (part->more) {
		if (datagram->total != UNKNOWN && part->end > datagram->total)
			return false;
	} else {
		if (part->end < datagram->top || (datagram->total != UNKNOWN && part->end != datagram->total))
			return false;
		datagram->total = part->end;
	}
	if (part->end > datagram->top)
		datagram->top = part->end;
	return true;
}

static bool keep_piece(struct frag_table *table, struct frag_datagram *datagram, const struct part *part)
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

/* Add a fragment; IGNORED_FRAGMENT when all is well. */
static enum mos_counter add_part(struct frag_table *table, struct frag_datagram *datagram, const struct part *part)
{
	uint32_t from = part->offset / UNIT, to = (part->end + UNIT - 1) / UNIT, present;

	if (datagram->dead || !agree_on_length(datagram, part))
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	present = units_present(datagram, from, to);
	if (present)
		table->counter[MOS_CNT_FRAGMENTS_OVERLAPPED]++;
	if (present == to - from)
		return MOS_CNT_IGNORED_FRAGMENT;
	if (present && flow_key_is_ipv6(&part->key.ip)) {
		free_pieces(table, datagram);
		datagram->dead = true;
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	}
	if (!keep_piece(table, datagram, part))
		return MOS_CNT_DROPPED_FRAGMENT_MEMORY;
	units_add(datagram, from, to);
	datagram->units += to - from - present;
	return MOS_CNT_IGNORED_FRAGMENT;
}

static void store_be16(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

/* Make the head of the first fragment that of a whole datagram of `len` bytes. */
static void mend_head(const struct frag_datagram *datagram, uint8_t *head, uint32_t head_len, uint32_t len)
{
	if (flow_key_is_ipv6(&datagram->key.ip)) {
		store_be16(head + 4, len - IPV6_HEADER);
		head[datagram->next_at] = datagram->next_header;
		return;
	}
	store_be16(head + 2, len);
	store_be16(head + 6, load_be16(head + 6) & 0xc000);
	store_be16(head + 10, 0);
	store_be16(head + 10, checksum_finish(checksum_add(head, head_len, 0)));
}

/* The pieces in their places: the earliest is written last, so it wins. */
static void lay_out(const struct frag_datagram *datagram, uint8_t *data, uint32_t captured)
{
	for (const struct frag_piece *piece = datagram->piece; piece; piece = piece->next) {
		uint32_t len = piece->captured;

		if (piece->offset >= captured)
			continue;
		if (len > captured - piece->offset)
			len = captured - piece->offset;
		memcpy(data + piece->offset, piece->bytes + piece->head_len, len);
	}
}

/* Make *pkt the whole datagram. */
static enum mos_counter rebuild(struct frag_table *table, const struct frag_datagram *datagram, struct mos_pkt *pkt)
{
	uint32_t head_len = datagram->first->head_len, len = head_len + datagram->total, wirelen = pkt->wirelen;
	uint32_t captured = datagram->captured < datagram->total ? datagram->captured : datagram->total;
	uint64_t earlier = datagram->wire - wirelen;
	struct frag_rebuilt *rebuilt;

	if (len > MAX_LENGTH + (pkt->ipv6 ? IPV6_HEADER : 0u))
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	rebuilt = malloc(sizeof *rebuilt + head_len + captured);
	if (!rebuilt)
		return MOS_CNT_DROPPED_FRAGMENT_MEMORY;
	rebuilt->next = table->rebuilt;
	table->rebuilt = rebuilt;
	memcpy(rebuilt->frame, datagram->first->bytes, head_len);
	mend_head(datagram, rebuilt->frame, head_len, len);
	lay_out(datagram, rebuilt->frame + head_len, captured);
	pkt->frame = rebuilt->frame;
	pkt->caplen = head_len + captured;
	pkt->wirelen = len; /* what decode() measures by */
	pkt->linktype = LINK_RAW;
	decode(table->decoder, pkt);
	pkt->wirelen = wirelen;
	pkt->rewritten = 1;
	pkt->fragments_wire = earlier < UINT32_MAX ? (uint32_t)earlier : UINT32_MAX;
	return COMPLETE;
}

static enum mos_counter take(struct frag_table *table, struct mos_pkt *pkt, uint64_t now_ns)
{
	struct frag_datagram *datagram;
	enum mos_counter rc;
	struct part part;

	if (!parse(pkt, &part))
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	if (!make_buckets(table))
		return MOS_CNT_DROPPED_FRAGMENT_MEMORY;
	expire(table, now_ns);
	datagram = find(table, &part.key);
	if (!datagram)
		datagram = add_datagram(table, &part.key, now_ns);
	if (!datagram)
		return MOS_CNT_DROPPED_FRAGMENT_MEMORY;
	rc = add_part(table, datagram, &part);
	if (rc == MOS_CNT_IGNORED_FRAGMENT)
		datagram->wire += pkt->wirelen + pkt->fragments_wire;
	if (rc == MOS_CNT_IGNORED_FRAGMENT && datagram->units == (datagram->total + UNIT - 1ull) / UNIT) {
		rc = rebuild(table, datagram, pkt);
		table->counter[MOS_CNT_DATAGRAMS_REASSEMBLED] += rc == COMPLETE;
		remove_datagram(table, datagram);
	} else if (!datagram->piece && !datagram->dead) {
		remove_datagram(table, datagram);
	}
	return rc;
}

void frag_take(struct frag_table *table, struct mos_pkt *pkt, uint64_t now_ns)
{
	for (int nested = 0; pkt->kind == PKT_FRAGMENT; nested++) {
		enum mos_counter rc = nested < MAX_NESTED ? take(table, pkt, now_ns) : MOS_CNT_IGNORED_TOO_DEEP;

		if (rc == COMPLETE)
			continue;
		pkt->kind = PKT_IGNORED;
		pkt->reason = (uint16_t)rc;
	}
}

void frag_end_burst(struct frag_table *table)
{
	while (table->rebuilt) {
		struct frag_rebuilt *rebuilt = table->rebuilt;

		table->rebuilt = rebuilt->next;
		free(rebuilt);
	}
}

void frag_free(struct frag_table *table)
{
	frag_end_burst(table);
	while (table->oldest)
		remove_datagram(table, table->oldest);
	if (table->bucket)
		live_add(&live_objects.tables, -1);
	free(table->bucket);
	table->bucket = NULL;
}
