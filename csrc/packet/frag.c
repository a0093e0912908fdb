/* frag.c - see frag.h. */
#include "frag.h"

#include <stdlib.h>

#include "../live.h"
#include "bytes.h"
#include "checksum.h"
#include "frag_store.h"

enum {
	MAX_NESTED = 4, /* fragments of fragments: tunnels */
	IPV6_HEADER = 40,
	FRAGMENT_HEADER = 8,
	LINK_RAW = 101
};

static const enum mos_counter COMPLETE = MOS_CNT_COUNTERS; /* no reason to ignore it */

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

/* ---- the fragment in a packet ------------------------------------------------------------- */

static bool parse_ipv4(const struct mos_pkt *pkt, struct frag_part *part)
{
	const uint8_t *ip = part->head;
	uint32_t field = load_be16(ip + 6), total = load_be16(ip + 2), len;

	part->head_len = pkt->payload_off - pkt->l3_off;
	part->key.ip.ports = load_be16(ip + 4);
	part->key.proto = ip[9];
	part->offset = (field & 0x1fff) * FRAG_UNIT;
	part->more = field & 0x2000;
	if (total < part->head_len)
		return false;
	len = total - part->head_len;
	part->end = part->offset + (part->more ? len - len % FRAG_UNIT : len);
	return part->head_len + part->end <= FRAG_MAX_LENGTH;
}

static bool parse_ipv6(const struct mos_pkt *pkt, struct frag_part *part)
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
	return !(part->more && part->end % FRAG_UNIT) && part->head_len - IPV6_HEADER + part->end <= FRAG_MAX_LENGTH;
}

/* False for a bad fragment. */
static bool parse(const struct mos_pkt *pkt, struct frag_part *part)
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
static bool agree_on_length(struct frag_datagram *datagram, const struct frag_part *part)
{
	if (part->more) {
		if (datagram->total != FRAG_UNKNOWN && part->end > datagram->total)
			return false;
	} else {
		if (part->end < datagram->top || (datagram->total != FRAG_UNKNOWN && part->end != datagram->total))
			return false;
		datagram->total = part->end;
	}
	if (part->end > datagram->top)
		datagram->top = part->end;
	return true;
}

/* Add a fragment; IGNORED_FRAGMENT when all is well. */
static enum mos_counter add_part(struct frag_table *table, struct frag_datagram *datagram, const struct frag_part *part)
{
	uint32_t from = part->offset / FRAG_UNIT, to = (part->end + FRAG_UNIT - 1) / FRAG_UNIT, present;

	if (datagram->dead || !agree_on_length(datagram, part))
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	present = units_present(datagram, from, to);
	if (present)
		table->counter[MOS_CNT_FRAGMENTS_OVERLAPPED]++;
	if (present == to - from)
		return MOS_CNT_IGNORED_FRAGMENT;
	if (present && flow_key_is_ipv6(&part->key.ip)) {
		frag_store_drop(table, datagram);
		datagram->dead = true;
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	}
	if (!frag_store_keep(table, datagram, part))
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

	if (len > FRAG_MAX_LENGTH + (pkt->ipv6 ? IPV6_HEADER : 0u))
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
	struct frag_part part;

	if (!parse(pkt, &part))
		return MOS_CNT_IGNORED_BAD_FRAGMENT;
	if (!frag_store_ready(table))
		return MOS_CNT_DROPPED_FRAGMENT_MEMORY;
	frag_store_expire(table, now_ns);
	datagram = frag_store_find(table, &part.key);
	if (!datagram)
		datagram = frag_store_add(table, &part.key, now_ns);
	if (!datagram)
		return MOS_CNT_DROPPED_FRAGMENT_MEMORY;
	rc = add_part(table, datagram, &part);
	if (rc == MOS_CNT_IGNORED_FRAGMENT)
		datagram->wire += pkt->wirelen + pkt->fragments_wire;
	if (rc == MOS_CNT_IGNORED_FRAGMENT && datagram->units == (datagram->total + FRAG_UNIT - 1ull) / FRAG_UNIT) {
		rc = rebuild(table, datagram, pkt);
		table->counter[MOS_CNT_DATAGRAMS_REASSEMBLED] += rc == COMPLETE;
		frag_store_remove(table, datagram);
	} else if (!datagram->piece && !datagram->dead) {
		frag_store_remove(table, datagram);
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
		frag_store_remove(table, table->oldest);
	if (table->bucket)
		live_add(&live_objects.tables, -1);
	free(table->bucket);
	table->bucket = NULL;
}
