/* test_frag.c - fragments of IPv4 and IPv6 against a byte-array model, and at every limit. */
// sources: packet/frag.c packet/frag_store.c packet/decode.c packet/link.c packet/tunnel.c packet/checksum.c flow/flow_key.c live.c
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "live.h"
#include "packet/bytes.h"
#include "packet/checksum.h"
#include "packet/frag.h"
#include "random.h"

enum {
	RAW_IP = 101,
	UDP = 17,
	TCP = 6,
	HOP_BY_HOP = 0,
	FRAGMENT = 44,
	ROOM = 70000,
	WIRE_EXTRA = 14 /* a link header that is on the wire only */
};

static const uint64_t SECOND = 1000000000;

/* A table with what it needs. */
struct bench {
	struct flow_hash_secret secret;
	struct decoder decoder;
	uint64_t counter[MOS_CNT_COUNTERS];
	struct frag_table table;
	uint64_t now_ns;
	uint8_t *frame; /* exactly as long as captured, so that ASan sees every step beyond */
	struct mos_pkt pkt;
};

static void begin(struct bench *bench, uint64_t max_bytes)
{
	uint64_t seed = 7;

	memset(bench, 0, sizeof *bench);
	flow_hash_secret_init(&bench->secret, &seed);
	bench->decoder = (struct decoder){&bench->secret, false};
	bench->now_ns = 1000 * SECOND;
	frag_init(&bench->table, &bench->decoder, bench->counter, max_bytes, 30 * SECOND);
}

static void finish(struct bench *bench)
{
	frag_free(&bench->table);
	free(bench->frame);
	CHECK_EQ(bench->table.bytes, 0);
	CHECK_EQ(live_objects.tables, 0);
}

/* Decode and take `len` bytes of which `cap` are captured. */
static void feed_bytes(struct bench *bench, const uint8_t *frame, uint32_t len, uint32_t cap)
{
	free(bench->frame);
	bench->frame = malloc(cap ? cap : 1);
	memcpy(bench->frame, frame, cap);
	memset(&bench->pkt, 0xee, sizeof bench->pkt);
	bench->pkt.frame = bench->frame;
	bench->pkt.caplen = cap;
	bench->pkt.wirelen = len + WIRE_EXTRA;
	bench->pkt.linktype = RAW_IP;
	bench->pkt.time_ns = bench->now_ns;
	decode(&bench->decoder, &bench->pkt);
	if (bench->pkt.kind == PKT_FRAGMENT)
		frag_take(&bench->table, &bench->pkt, bench->now_ns);
}

/* A fragment to be sent; `len` bytes at `data` stand at `offset` of the datagram. */
struct shape {
	bool ipv6, more;
	uint8_t proto, host;           /* host: last octet of the source */
	uint32_t id, offset, len, cut; /* cut: bytes missing at the end of the capture */
	bool extension;                /* IPv6: a hop-by-hop header in front */
};

static void put16(uint8_t *to, uint32_t value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static void put32(uint8_t *to, uint32_t value)
{
	put16(to, value >> 16);
	put16(to + 2, value & 0xffff);
}

static uint32_t head_ipv4(uint8_t *to, const struct shape *shape)
{
	memset(to, 0, 20);
	to[0] = 0x45;
	put16(to + 2, 20 + shape->len);
	put16(to + 4, shape->id);
	put16(to + 6, (shape->more ? 0x2000u : 0) | shape->offset / 8);
	to[8] = 64;
	to[9] = shape->proto;
	memcpy(to + 12, (const uint8_t[8]){192, 0, 2, shape->host, 198, 51, 100, 1}, 8);
	put16(to + 10, checksum_finish(checksum_add(to, 20, 0)));
	return 20;
}

static uint32_t head_ipv6(uint8_t *to, const struct shape *shape)
{
	uint32_t at = 40;

	memset(to, 0, 56);
	to[0] = 0x60;
	to[6] = shape->extension ? HOP_BY_HOP : FRAGMENT;
	to[7] = 64;
	to[8] = to[24] = 0x20;
	to[23] = shape->host;
	to[39] = 200;
	if (shape->extension) {
		to[40] = FRAGMENT;
		to[42] = 1; /* PadN */
		to[43] = 4;
		at += 8;
	}
	to[at] = shape->proto;
	put16(to + at + 2, shape->offset | shape->more);
	put32(to + at + 4, shape->id);
	put16(to + 4, at + 8 - 40 + shape->len);
	return at + 8;
}

/* Length of the fragment's frame. */
static uint32_t build(uint8_t *to, const struct shape *shape, const uint8_t *data)
{
	uint32_t head = shape->ipv6 ? head_ipv6(to, shape) : head_ipv4(to, shape);

	memcpy(to + head, data, shape->len);
	return head + shape->len;
}

/* The kind, and for PKT_IGNORED the reason as a negative number. */
static int feed(struct bench *bench, const struct shape *shape, const uint8_t *data)
{
	static uint8_t frame[ROOM];
	uint32_t len = build(frame, shape, data);

	feed_bytes(bench, frame, len, len - shape->cut);
	return bench->pkt.kind == PKT_IGNORED ? -(int)bench->pkt.reason : bench->pkt.kind;
}

static const int WAITS = -MOS_CNT_IGNORED_FRAGMENT, BAD = -MOS_CNT_IGNORED_BAD_FRAGMENT,
		 NO_ROOM = -MOS_CNT_DROPPED_FRAGMENT_MEMORY;

static uint8_t *noise(uint32_t len)
{
	static uint8_t bytes[ROOM];

	for (uint32_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)random_next();
	return bytes;
}

/* Two fragments, 8 bytes each, of the datagram that `shape` describes. */
static int feed_half(struct bench *bench, struct shape shape, int half)
{
	static const uint8_t data[16] = "0123456789abcdef";

	shape.offset = half ? 8 : 0;
	shape.len = 8;
	shape.more = !half;
	return feed(bench, &shape, data + shape.offset);
}

/* ---- whole TCP segments ----------------------------------------------------------------------- */

/* A TCP segment with a right checksum. */
static void make_tcp(uint8_t *tcp, uint32_t len, bool ipv6)
{
	uint8_t pseudo[40] = {0}, head[64];
	struct shape shape = {.ipv6 = ipv6, .host = 9};
	uint32_t addresses = ipv6 ? 32 : 8;

	memcpy(tcp, noise(len), len);
	tcp[12] = 0x50;
	put16(tcp + 16, 0);
	build(head, &shape, tcp);
	memcpy(pseudo, head + (ipv6 ? 8 : 12), addresses);
	put32(pseudo + addresses, len);
	pseudo[addresses + 7] = TCP;
	put16(tcp + 16, checksum_finish(checksum_add(tcp, len, checksum_add(pseudo, addresses + 8, 0))));
}

static void check_segment(bool ipv6, bool extension, bool backwards, uint32_t step)
{
	enum {
		LEN = 1001
	};
	static uint8_t tcp[LEN];
	struct bench bench;
	uint32_t count = (LEN + step - 1) / step, wire = 0;

	begin(&bench, 1 << 20);
	bench.decoder.verify_checksums = true;
	make_tcp(tcp, LEN, ipv6);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = (backwards ? count - 1 - i : i) * step;
		struct shape shape = {ipv6, at + step < LEN, TCP, 9, 5, at, at + step < LEN ? step : LEN - at,
		                      0,    extension};

		bench.now_ns++;
		CHECK_EQ(feed(&bench, &shape, tcp + at), i + 1 < count ? WAITS : PKT_TCP);
		wire += bench.pkt.wirelen;
	}
	CHECK_EQ(bench.pkt.wirelen + bench.pkt.fragments_wire, wire);
	CHECK_EQ(bench.pkt.time_ns, bench.now_ns);
	CHECK_EQ(bench.pkt.rewritten, 1);
	CHECK_EQ(bench.pkt.payload_len, LEN - 20);
	CHECK_EQ(bench.pkt.payload_cap, LEN - 20);
	CHECK_EQ(bench.pkt.seq, load_be32(tcp + 4));
	CHECK_MEM(bench.pkt.frame + bench.pkt.l4_off, tcp, LEN);
	CHECK_EQ(bench.counter[MOS_CNT_DATAGRAMS_REASSEMBLED], 1);
	CHECK_EQ(bench.table.bytes, 0);
	finish(&bench);
}

TEST(a_segment_comes_whole_out_of_its_fragments)
{
	random_begin("segments");
	for (int ipv6 = 0; ipv6 < 2; ipv6++)
		for (int backwards = 0; backwards < 2; backwards++)
			for (uint32_t step = 8; step < 1000; step += 48)
				check_segment(ipv6, ipv6 && step % 3, backwards, step);
}

TEST(the_rebuilt_header_is_that_of_a_whole_datagram)
{
	struct bench bench;
	struct shape shape = {.proto = UDP, .id = 77, .host = 1};

	begin(&bench, 1 << 20);
	CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
	CHECK_EQ(feed_half(&bench, shape, 1), PKT_OTHER);
	REQUIRE(bench.pkt.caplen == 36);
	CHECK_EQ(load_be16(bench.pkt.frame + 2), 36);
	CHECK_EQ(load_be16(bench.pkt.frame + 6), 0);
	CHECK(checksum_ipv4_ok(bench.pkt.frame, 20));
	CHECK_EQ(bench.pkt.l2_off, UINT32_MAX);
	CHECK_EQ(bench.pkt.l3_len, 36);
	shape.ipv6 = shape.extension = true;
	CHECK_EQ(feed_half(&bench, shape, 1), WAITS);
	CHECK_EQ(feed_half(&bench, shape, 0), PKT_OTHER);
	REQUIRE(bench.pkt.caplen == 64);
	CHECK_EQ(load_be16(bench.pkt.frame + 4), 24);
	CHECK_EQ(bench.pkt.frame[6], HOP_BY_HOP);
	CHECK_EQ(bench.pkt.frame[40], UDP);
	CHECK_MEM(bench.pkt.frame + 48, "0123456789abcdef", 16);
	finish(&bench);
}

TEST(a_wrong_checksum_is_found_in_the_rebuilt_segment)
{
	static uint8_t tcp[100];
	struct bench bench;
	struct shape shape = {.proto = TCP, .host = 9, .len = 56, .more = true};

	begin(&bench, 1 << 20);
	bench.decoder.verify_checksums = true;
	make_tcp(tcp, 100, false);
	tcp[99] ^= 1;
	CHECK_EQ(feed(&bench, &shape, tcp), WAITS);
	shape = (struct shape){.proto = TCP, .host = 9, .offset = 56, .len = 44};
	CHECK_EQ(feed(&bench, &shape, tcp + 56), -MOS_CNT_IGNORED_BAD_CHECKSUM);
	finish(&bench);
}

TEST(only_parts_of_one_datagram_meet)
{
	struct bench bench;
	struct shape shape = {.proto = UDP, .id = 5, .host = 1};

	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		begin(&bench, 1 << 20);
		shape.ipv6 = ipv6;
		CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
		shape.id = ipv6 ? 5 + 65536 : 6;
		CHECK_EQ(feed_half(&bench, shape, 1), WAITS);
		shape.id = 5;
		shape.host = 2;
		CHECK_EQ(feed_half(&bench, shape, 1), WAITS);
		shape.host = 1;
		shape.proto = TCP; /* IPv6 goes by the first fragment's next header */
		CHECK_EQ(feed_half(&bench, shape, 1), ipv6 ? PKT_OTHER : WAITS);
		shape.proto = UDP;
		CHECK_EQ(feed_half(&bench, shape, 1), ipv6 ? WAITS : PKT_OTHER);
		finish(&bench);
	}
}

/* ---- the model ---------------------------------------------------------------------------------- */

/* One datagram, byte by byte; UINT32_MAX = not known. */
struct model {
	bool ipv6, dead, alive; /* alive: a fragment is kept */
	uint32_t total, top, captured;
	uint64_t wire;
	uint8_t set[ROOM], has[ROOM], value[ROOM];
};

static void model_begin(struct model *model, bool ipv6)
{
	memset(model, 0, sizeof *model);
	model->ipv6 = ipv6;
	model->total = model->captured = UINT32_MAX;
}

static bool model_is_complete(const struct model *model)
{
	return model->total != UINT32_MAX && !memchr(model->set, 0, model->total);
}

/* What feed() must say. */
static int model_add(struct model *model, const struct shape *shape, const uint8_t *data)
{
	uint32_t len = shape->more && !shape->ipv6 ? shape->len / 8 * 8 : shape->len;
	uint32_t end = shape->offset + len, present = 0, cap = shape->len - shape->cut;
	uint32_t head = shape->ipv6 ? shape->extension * 8u : 20;

	cap = cap < len ? cap : len;
	if (!len || (shape->more && len % 8) || head + end > 65535 || model->dead)
		return BAD;
	if (shape->more ? end > model->total : end < model->top || (model->total != UINT32_MAX && model->total != end))
		return BAD;
	if (!shape->more)
		model->total = end;
	if (end > model->top)
		model->top = end;
	for (uint32_t i = shape->offset; i < end; i++)
		present += model->set[i];
	if (present && present < len && shape->ipv6) {
		model->dead = true;
		return BAD;
	}
	model->alive = true;
	if (present < len) {
		for (uint32_t i = 0; i < len; i++) {
			if (model->set[shape->offset + i])
				continue;
			model->set[shape->offset + i] = 1;
			model->has[shape->offset + i] = i < cap;
			model->value[shape->offset + i] = data[i];
		}
		if (cap < len && shape->offset + cap < model->captured)
			model->captured = shape->offset + cap;
	}
	return model_is_complete(model) ? PKT_OTHER : WAITS;
}

static bool check_rebuilt(const struct bench *bench, const struct model *model, uint32_t head)
{
	uint32_t captured = model->captured < model->total ? model->captured : model->total;

	return CHECK_EQ(bench->pkt.caplen, head + captured) && CHECK(!memchr(model->has, 0, captured)) &&
	       CHECK_MEM(bench->pkt.frame + head, model->value, captured) &&
	       CHECK_EQ(bench->pkt.wirelen + bench->pkt.fragments_wire, model->wire);
}

/* A random fragment of a datagram of `total` bytes. */
static struct shape random_shape(bool ipv6, uint32_t total, uint32_t step, bool hostile)
{
	uint32_t at = (uint32_t)random_below((total + step - 1) / step) * step, len = step;
	struct shape shape = {.ipv6 = ipv6, .proto = UDP, .host = 1, .id = 3};

	if (hostile && random_chance(10)) {
		at = (uint32_t)random_below(8190) * 8;
		len = (uint32_t)random_below(random_chance(50) ? 40 : 3000);
	} else if (random_chance(hostile ? 10 : 1)) {
		len = 8 * (uint32_t)random_between(1, 2 * step / 8);
	}
	shape.offset = at;
	shape.more = at + len < total;
	shape.len = shape.more || at > total ? len : total - at;
	if (hostile && random_chance(2))
		shape.more = !shape.more;
	if (random_chance(2))
		shape.cut = (uint32_t)random_below(shape.len + 1);
	return shape;
}

/* Random fragments until the datagram is complete, or dead for sure. */
static bool run_model(struct bench *bench, struct model *model, bool hostile)
{
	bool ipv6 = random_chance(50), extension = ipv6 && random_chance(20);
	uint32_t total = (uint32_t)(random_chance(3) ? random_between(30000, 65507) : random_between(9, 900));
	uint32_t step = 8 * (uint32_t)random_between(1, total > 900 ? 400 : 20);

	model_begin(model, ipv6);
	for (int i = 0; i < 4000; i++) {
		struct shape shape = random_shape(ipv6, total, step, hostile);
		const uint8_t *data = noise(shape.len);
		int want, got;

		shape.extension = extension;
		if (!shape.offset && !shape.more)
			continue; /* no fragment */
		want = model_add(model, &shape, data);
		got = feed(bench, &shape, data);
		if (want != BAD)
			model->wire += bench->pkt.wirelen;
		if (!CHECK_EQ(got, want))
			return false;
		if (want == PKT_OTHER)
			return check_rebuilt(bench, model, !ipv6 ? 20 : extension ? 48 : 40);
		if (model->dead && i % 8 == 0)
			break;
	}
	bench->now_ns += 31 * SECOND; /* whatever is left times out */
	return true;
}

TEST(random_fragments_agree_with_the_model)
{
	static struct model model;
	struct bench bench;

	random_begin("model");
	begin(&bench, 64 << 20);
	for (int i = 0; i < 2000; i++) {
		frag_end_burst(&bench.table);
		if (!run_model(&bench, &model, i % 2))
			break;
	}
	CHECK(bench.counter[MOS_CNT_DATAGRAMS_REASSEMBLED] > 500);
	CHECK(bench.counter[MOS_CNT_FRAGMENTS_OVERLAPPED] > 500);
	finish(&bench);
}

/* ---- overlaps and bad fragments -------------------------------------------------------------------- */

TEST(the_first_bytes_win_in_ipv4_and_overlaps_end_ipv6)
{
	struct bench bench;
	struct shape first = {.proto = UDP, .host = 1, .len = 16, .more = true};
	struct shape over = {.proto = UDP, .host = 1, .offset = 8, .len = 16, .more = true};
	struct shape last = {.proto = UDP, .host = 1, .offset = 24, .len = 3};

	begin(&bench, 1 << 20);
	CHECK_EQ(feed(&bench, &first, (const uint8_t *)"aaaaaaaaaaaaaaaa"), WAITS);
	CHECK_EQ(feed(&bench, &over, (const uint8_t *)"bbbbbbbbbbbbbbbb"), WAITS);
	CHECK_EQ(feed(&bench, &last, (const uint8_t *)"end"), PKT_OTHER);
	CHECK_MEM(bench.pkt.frame + 20, "aaaaaaaaaaaaaaaabbbbbbbbend", 27);
	CHECK_EQ(bench.counter[MOS_CNT_FRAGMENTS_OVERLAPPED], 1);
	first.ipv6 = over.ipv6 = last.ipv6 = true;
	CHECK_EQ(feed(&bench, &first, (const uint8_t *)"aaaaaaaaaaaaaaaa"), WAITS);
	CHECK_EQ(feed(&bench, &first, (const uint8_t *)"aaaaaaaaaaaaaaaa"), WAITS);
	CHECK_EQ(feed(&bench, &over, (const uint8_t *)"bbbbbbbbbbbbbbbb"), BAD);
	CHECK_EQ(feed(&bench, &last, (const uint8_t *)"end"), BAD);
	CHECK_EQ(bench.counter[MOS_CNT_DATAGRAMS_REASSEMBLED], 1);
	finish(&bench);
}

TEST(the_first_header_wins_too)
{
	struct bench bench;
	struct shape shape = {.proto = UDP, .host = 1, .len = 16, .more = true};
	uint8_t frame[64];
	uint32_t len;

	begin(&bench, 1 << 20);
	CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
	len = build(frame, &shape, noise(16));
	frame[8] = 1; /* time to live */
	feed_bytes(&bench, frame, len, len);
	CHECK_EQ(bench.pkt.reason, MOS_CNT_IGNORED_FRAGMENT);
	shape.offset = 16;
	shape.more = false;
	CHECK_EQ(feed(&bench, &shape, noise(16)), PKT_OTHER);
	CHECK_EQ(bench.pkt.frame[8], 64);
	CHECK_MEM(bench.pkt.frame + 20, "01234567", 8);
	finish(&bench);
}

TEST(impossible_fragments_are_bad_and_change_nothing)
{
	struct bench bench;
	struct shape good = {.proto = UDP, .host = 1};
	struct shape beyond = {.proto = UDP, .host = 1, .offset = 65528, .len = 8};
	struct shape empty = {.proto = UDP, .host = 1, .offset = 16};
	struct shape odd = {.proto = UDP, .host = 1, .len = 7, .more = true};
	struct shape early = {.proto = UDP, .host = 1, .offset = 8, .len = 1};
	struct shape late = {.proto = UDP, .host = 1, .offset = 16, .len = 8, .more = true};

	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		begin(&bench, 1 << 20);
		good.ipv6 = beyond.ipv6 = empty.ipv6 = odd.ipv6 = early.ipv6 = late.ipv6 = ipv6;
		CHECK_EQ(feed(&bench, &beyond, noise(8)), BAD);
		CHECK_EQ(feed(&bench, &empty, noise(8)), BAD);
		CHECK_EQ(feed(&bench, &odd, noise(8)), BAD);
		CHECK(bench.table.oldest == NULL);
		CHECK_EQ(feed_half(&bench, good, 1), WAITS);
		CHECK_EQ(feed(&bench, &early, noise(8)), BAD);
		CHECK_EQ(feed(&bench, &late, noise(8)), BAD);
		CHECK_EQ(feed_half(&bench, good, 0), PKT_OTHER);
		finish(&bench);
	}
}

TEST(the_longest_datagrams_fit)
{
	static uint8_t tail[ROOM];
	struct bench bench;

	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		uint32_t total = ipv6 ? 65535 : 65515;
		struct shape first = {.ipv6 = ipv6, .proto = UDP, .host = 1, .len = 8, .more = true};
		struct shape rest = {
			.ipv6 = ipv6, .proto = UDP, .host = 1, .offset = 8, .len = total - 16, .more = true};
		struct shape last = {.ipv6 = ipv6, .proto = UDP, .host = 1, .offset = total / 8 * 8, .len = total % 8};

		rest.len = last.offset - 8;
		begin(&bench, 1 << 20);
		CHECK_EQ(feed(&bench, &last, tail), WAITS);
		if (ipv6) { /* one fragment cannot be that long: its own header counts */
			rest.len -= 64;
			CHECK_EQ(feed(&bench, &rest, tail), WAITS);
			rest.offset += rest.len;
			rest.len = 64;
		}
		CHECK_EQ(feed(&bench, &rest, tail), WAITS);
		CHECK_EQ(feed(&bench, &first, tail), PKT_OTHER);
		CHECK_EQ(bench.pkt.caplen, total + (ipv6 ? 40 : 20));
		finish(&bench);
	}
}

TEST(a_long_first_header_makes_the_datagram_too_long)
{
	static uint8_t data[ROOM];
	struct bench bench;
	struct shape first = {.ipv6 = true, .proto = UDP, .host = 1, .len = 8, .more = true, .extension = true};
	struct shape rest = {.ipv6 = true, .proto = UDP, .host = 1, .offset = 8, .len = 65400, .more = true};
	struct shape last = {.ipv6 = true, .proto = UDP, .host = 1, .offset = 65408, .len = 127};

	begin(&bench, 1 << 20);
	CHECK_EQ(feed(&bench, &rest, data), WAITS);
	CHECK_EQ(feed(&bench, &last, data), WAITS);
	CHECK_EQ(feed(&bench, &first, data), BAD);
	CHECK(bench.table.oldest == NULL);
	finish(&bench);
}

/* ---- limits -------------------------------------------------------------------------------------- */

TEST(fragments_wait_until_the_timeout)
{
	struct bench bench;
	struct shape shape = {.proto = UDP, .host = 1};

	begin(&bench, 1 << 20);
	CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
	bench.now_ns += 30 * SECOND - 1;
	CHECK_EQ(feed_half(&bench, shape, 1), PKT_OTHER);
	CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
	bench.now_ns += 30 * SECOND;
	CHECK_EQ(feed_half(&bench, shape, 1), WAITS);
	CHECK_EQ(bench.counter[MOS_CNT_DATAGRAMS_TIMED_OUT], 1);
	bench.table.timeout_ns = 0;
	bench.now_ns += 1000000 * SECOND;
	CHECK_EQ(feed_half(&bench, shape, 0), PKT_OTHER);
	finish(&bench);
}

TEST(the_oldest_datagrams_make_room)
{
	enum {
		CAP = 100000,
		SENT = 1000
	};
	struct bench bench;
	struct shape shape = {.proto = UDP, .host = 1};

	begin(&bench, CAP);
	for (shape.id = 0; shape.id < SENT; shape.id++) {
		CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
		CHECK(bench.table.bytes <= CAP);
	}
	CHECK(bench.counter[MOS_CNT_DATAGRAMS_EVICTED] > SENT / 2);
	CHECK(bench.counter[MOS_CNT_DATAGRAMS_EVICTED] < SENT - 20);
	shape.id = (uint32_t)bench.counter[MOS_CNT_DATAGRAMS_EVICTED]; /* the oldest that is left */
	CHECK_EQ(feed_half(&bench, shape, 1), PKT_OTHER);
	shape.id--;
	CHECK_EQ(feed_half(&bench, shape, 1), WAITS);
	shape.id = SENT - 1;
	CHECK_EQ(feed_half(&bench, shape, 1), PKT_OTHER);
	finish(&bench);
}

TEST(what_never_fits_is_refused)
{
	struct bench bench;
	struct shape shape = {.proto = UDP, .host = 1}, large = {.proto = UDP, .host = 2, .offset = 800, .len = 4000};

	begin(&bench, 4000);
	CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
	CHECK_EQ(feed(&bench, &large, noise(4000)), NO_ROOM);
	CHECK_EQ(feed_half(&bench, shape, 1), PKT_OTHER);
	CHECK_EQ(bench.table.bytes, 0);
	finish(&bench);
	begin(&bench, 0);
	CHECK_EQ(feed_half(&bench, shape, 0), NO_ROOM);
	CHECK_EQ(feed_half(&bench, shape, 1), NO_ROOM);
	finish(&bench);
}

TEST(a_datagram_that_grows_evicts_others_not_itself)
{
	struct bench bench;
	struct shape large = {.proto = UDP, .host = 2, .len = 1000, .more = true}, shape = {.proto = UDP, .host = 1};

	begin(&bench, 8000);
	CHECK_EQ(feed(&bench, &large, noise(1000)), WAITS);
	CHECK_EQ(feed_half(&bench, shape, 0), WAITS);
	for (large.offset = 1000; large.offset < 5000; large.offset += 1000)
		CHECK_EQ(feed(&bench, &large, noise(1000)), WAITS);
	large.more = false;
	CHECK_EQ(feed(&bench, &large, noise(1000)), PKT_OTHER);
	CHECK_EQ(bench.counter[MOS_CNT_DATAGRAMS_EVICTED], 1);
	CHECK_EQ(feed_half(&bench, shape, 1), WAITS);
	finish(&bench);
}

TEST(nothing_is_allocated_without_fragments)
{
	static const uint8_t whole[28] = {0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, UDP};
	struct bench bench;

	begin(&bench, 1 << 20);
	feed_bytes(&bench, whole, sizeof whole, sizeof whole);
	CHECK_EQ(bench.pkt.kind, PKT_OTHER);
	CHECK(bench.table.bucket == NULL);
	finish(&bench);
}

/* 8-byte fragments in steps of `stride` through the datagram; stride and their number are coprime. */
TEST(thousands_of_tiny_fragments)
{
	enum {
		COUNT = 8180
	};
	static const uint32_t strides[] = {1, COUNT - 1, 4097, 3};
	struct bench bench;

	begin(&bench, 4 << 20);
	for (uint32_t s = 0; s < 4; s++) {
		struct shape shape = {.proto = UDP, .host = 1, .len = 8, .id = s};

		for (uint32_t i = 0; i < COUNT; i++) {
			uint32_t unit = (uint32_t)((uint64_t)i * strides[s] % COUNT);

			shape.offset = unit * 8;
			shape.more = unit + 1 < COUNT;
			if (!CHECK_EQ(feed(&bench, &shape, noise(8)), i + 1 < COUNT ? WAITS : PKT_OTHER))
				break;
		}
	}
	finish(&bench);
}

/* ---- fragments in fragments -------------------------------------------------------------------------- */

/* `levels` fragment headers wait; the frame that completes the first completes them all. */
static int nest(struct bench *bench, uint32_t levels)
{
	struct shape shape = {.ipv6 = true, .proto = FRAGMENT, .host = 1, .len = 8};
	uint8_t next[8] = {0};

	for (shape.id = 1; shape.id <= levels; shape.id++) {
		shape.more = true;
		next[0] = shape.id == levels ? UDP : FRAGMENT;
		put16(next + 2, 8); /* offset 8, the last one */
		put32(next + 4, shape.id + 1);
		if (shape.id == levels)
			shape.proto = UDP;
		CHECK_EQ(feed(bench, &shape, next), WAITS);
	}
	shape = (struct shape){.ipv6 = true, .proto = FRAGMENT, .host = 1, .len = 8, .id = 1, .offset = 8};
	return feed(bench, &shape, next);
}

TEST(fragments_in_fragments_end_somewhere)
{
	struct bench bench;

	begin(&bench, 1 << 20);
	CHECK_EQ(nest(&bench, 4), PKT_OTHER);
	CHECK_EQ(bench.pkt.wirelen + bench.pkt.fragments_wire, 5 * (56 + WIRE_EXTRA));
	CHECK_EQ(nest(&bench, 5), -MOS_CNT_IGNORED_TOO_DEEP);
	finish(&bench);
}

/* ---- fuzz ------------------------------------------------------------------------------------------- */

static void mutate(uint8_t *frame, uint32_t len)
{
	for (uint64_t i = random_below(4); i > 0; i--)
		frame[random_below(random_chance(80) && len > 64 ? 64 : len)] ^= (uint8_t)(1u << random_below(8));
}

TEST(mutated_fragments_do_no_harm)
{
	enum {
		CAP = 60000
	};
	static uint8_t frame[ROOM];
	struct bench bench;
	uint64_t sum = 0;

	random_begin("mutations");
	begin(&bench, CAP);
	for (int i = 0; i < 300000; i++) {
		struct shape shape = random_shape(random_chance(50), (uint32_t)random_between(9, 200), 32, true);
		uint32_t len;

		shape.extension = shape.ipv6 && random_chance(20);
		shape.id = (uint32_t)random_below(8);
		shape.proto = random_chance(10) ? FRAGMENT : random_chance(50) ? TCP : UDP;
		len = build(frame, &shape, noise(shape.len));
		if (random_chance(30))
			mutate(frame, len);
		bench.decoder.verify_checksums = random_chance(5);
		bench.now_ns += random_below(SECOND / 10);
		feed_bytes(&bench, frame, len, len - (random_chance(10) ? (uint32_t)random_below(len) : shape.cut));
		REQUIRE(bench.pkt.kind != PKT_FRAGMENT);
		REQUIRE(bench.table.bytes <= CAP);
		for (uint32_t at = 0; bench.pkt.kind != PKT_IGNORED && at < bench.pkt.caplen; at++)
			sum += bench.pkt.frame[at];
		if (bench.pkt.kind == PKT_TCP)
			REQUIRE(bench.pkt.payload_cap == 0 ||
			        bench.pkt.payload_off + bench.pkt.payload_cap <= bench.pkt.caplen);
		if (i % 16 == 0)
			frag_end_burst(&bench.table);
	}
	CHECK(sum > 0);
	CHECK(bench.counter[MOS_CNT_DATAGRAMS_REASSEMBLED] > 100);
	CHECK(bench.counter[MOS_CNT_DATAGRAMS_TIMED_OUT] > 0 || bench.counter[MOS_CNT_DATAGRAMS_EVICTED] > 0);
	finish(&bench);
}
