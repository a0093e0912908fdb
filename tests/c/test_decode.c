/* test_decode.c - hand-made frames, byte by byte: link layers, IP, TCP, cuts and damage. */
// sources: packet/decode.c packet/link.c packet/tunnel.c packet/checksum.c flow/flow_key.c
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "packet/decode.h"
#include "random.h"

/* ---- a frame under construction ------------------------------------------------------------------------ */

struct frame {
	uint8_t at[70000];
	uint32_t len;
	uint32_t ip, tcp; /* offsets of the headers last put */
	uint16_t linktype;
};

static struct frame frame;
static struct flow_hash_secret secret;
static struct decoder plain = {.secret = &secret}, verifying = {.secret = &secret, .verify_checksums = true};

static void put(const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(frame.at + frame.len, bytes, len);
	frame.len += (uint32_t)len;
}

static void put8(unsigned value)
{
	frame.at[frame.len++] = (uint8_t)value;
}

static void put16(unsigned value)
{
	put8(value >> 8 & 255);
	put8(value & 255);
}

static void put32(uint32_t value)
{
	put16(value >> 16);
	put16(value & 0xffff);
}

static void put_fill(unsigned value, size_t len)
{
	while (len-- > 0)
		put8(value);
}

static void set16(uint32_t at, unsigned value)
{
	frame.at[at] = (uint8_t)(value >> 8);
	frame.at[at + 1] = (uint8_t)value;
}

static void new_frame(uint16_t linktype)
{
	const uint64_t seed = 42;

	flow_hash_secret_init(&secret, &seed);
	frame.len = frame.ip = frame.tcp = 0;
	frame.linktype = linktype;
}

static void put_ethernet(unsigned type)
{
	put("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
	put16(type);
}

/* The length is set by finish(). */
static void put_ipv4(unsigned proto, size_t options)
{
	frame.ip = frame.len;
	put8(0x40 | (5 + (unsigned)options / 4));
	put8(0);
	put16(0);
	put16(0x1234);
	put16(0x4000); /* don't fragment */
	put8(64);
	put8(proto);
	put16(0);
	put("\x0a\x00\x00\x01\xc0\xa8\x01\x02", 8);
	put_fill(1, options);
}

static void put_ipv6(unsigned proto)
{
	frame.ip = frame.len;
	put32(0x60000000);
	put16(0);
	put8(proto);
	put8(64);
	put("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
	put("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02", 16);
}

static void put_tcp(unsigned options, size_t payload)
{
	frame.tcp = frame.len;
	put16(40000);
	put16(80);
	put32(0x01020304);
	put32(0xa0b0c0d0);
	put8((5 + options / 4) << 4);
	put8(TCP_ACK | TCP_PSH);
	put16(0xfedc);
	put16(0);
	put16(0);
	put_fill(1, options);
	for (size_t i = 0; i < payload; i++)
		put8('a' + i % 26);
}

/* A plain sum, written without the project's own code. */
static uint32_t sum16(const uint8_t *data, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* Lengths and checksums; the frame ends here. */
static void finish(void)
{
	uint8_t *ip = frame.at + frame.ip;
	bool ipv6 = ip[0] >> 4 == 6;
	uint32_t header = ipv6 ? 40 : (ip[0] & 15u) * 4, segment = frame.len - frame.tcp, sum = 6 + segment;

	set16(frame.ip + (ipv6 ? 4 : 2), frame.len - frame.ip - (ipv6 ? 40 : 0));
	if (!ipv6)
		set16(frame.ip + 10, ~sum16(ip, header, 0) & 0xffff);
	sum = sum16(ipv6 ? ip + 8 : ip + 12, ipv6 ? 32 : 8, (sum & 0xffff) + (sum >> 16));
	if (frame.tcp)
		set16(frame.tcp + 16, ~sum16(frame.at + frame.tcp, segment, sum) & 0xffff);
}

static struct mos_pkt decode_as(const struct decoder *decoder, uint32_t caplen, uint32_t wirelen)
{
	struct mos_pkt pkt;

	memset(&pkt, 0xa5, sizeof pkt);
	pkt.frame = frame.at;
	pkt.caplen = caplen;
	pkt.wirelen = wirelen;
	pkt.linktype = frame.linktype;
	decode(decoder, &pkt);
	return pkt;
}

static struct mos_pkt decode_frame(void)
{
	return decode_as(&plain, frame.len, frame.len);
}

static bool is_ignored(const struct mos_pkt *pkt, int reason)
{
	return CHECK_EQ(pkt->kind, PKT_IGNORED) && CHECK_EQ(pkt->reason, reason);
}

/* The TCP segment of put_tcp(), wherever it lies. */
static void check_tcp(const struct mos_pkt *pkt, unsigned options, uint32_t payload)
{
	REQUIRE(pkt->kind == PKT_TCP);
	CHECK_EQ(pkt->l3_off, frame.ip);
	CHECK_EQ(pkt->l4_off, frame.tcp);
	CHECK_EQ(pkt->payload_off, frame.tcp + 20 + options);
	CHECK_EQ(pkt->payload_len, payload);
	CHECK_EQ(pkt->payload_cap, payload);
	CHECK_EQ(pkt->tcp_opt_len, options);
	CHECK_EQ(pkt->l3_len, frame.tcp + 20 + options + payload - frame.ip);
	CHECK_EQ(pkt->seq, 0x01020304);
	CHECK_EQ(pkt->ack, 0xa0b0c0d0);
	CHECK_EQ(pkt->flags, TCP_ACK | TCP_PSH);
	CHECK_EQ(pkt->window, 0xfedc);
	CHECK_EQ(pkt->ipv6, frame.at[frame.ip] >> 4 == 6);
	CHECK_EQ(pkt->rewritten, 0);
	CHECK_EQ(pkt->fragments_wire, 0);
	CHECK_EQ(pkt->hash, flow_key_hash(&pkt->key, &secret));
}

static void simple_frame(size_t payload)
{
	new_frame(1);
	put_ethernet(0x0800);
	put_ipv4(6, 0);
	put_tcp(0, payload);
	finish();
}

/* ---- what is well formed --------------------------------------------------------------------------------- */

TEST(ethernet_ipv4)
{
	struct mos_pkt pkt;

	simple_frame(5);
	pkt = decode_frame();
	check_tcp(&pkt, 0, 5);
	CHECK_EQ(pkt.l2_off, 0);
	CHECK_EQ(pkt.l3_off, 14);
	CHECK_EQ(pkt.key.scope & 0xff, 4);
	CHECK_EQ(pkt.from_hi, 0); /* 10.0.0.1 is the lower address */
	CHECK_MEM(&pkt.key.lo[0], "\x0a\x00\x00\x01", 4);
	CHECK_MEM(&pkt.key.hi[0], "\xc0\xa8\x01\x02", 4);
	CHECK_MEM(&pkt.key.ports, "\x9c\x40\x00\x50", 4);
	CHECK_EQ(pkt.key.vni, 0);
}

TEST(no_payload_and_every_header_length)
{
	for (unsigned options = 0; options <= 40; options += 4) {
		for (uint32_t payload = 0; payload < 3; payload++) {
			struct mos_pkt pkt;

			new_frame(1);
			put_ethernet(0x0800);
			put_ipv4(6, 0);
			put_tcp(options, payload);
			finish();
			pkt = decode_frame();
			check_tcp(&pkt, options, payload);
		}
	}
}

TEST(ipv4_options)
{
	for (size_t options = 0; options <= 40; options += 4) {
		struct mos_pkt pkt;

		new_frame(1);
		put_ethernet(0x0800);
		put_ipv4(6, options);
		put_tcp(12, 7);
		finish();
		pkt = decode_as(&verifying, frame.len, frame.len);
		check_tcp(&pkt, 12, 7);
	}
}

TEST(vlan_tags_of_any_depth)
{
	static const unsigned types[] = {0x8100, 0x88a8, 0x9100};
	struct mos_pkt untagged;

	simple_frame(9);
	untagged = decode_frame();
	for (unsigned depth = 1; depth <= 20; depth++) {
		struct mos_pkt pkt;

		new_frame(1);
		put_ethernet(types[depth % 3]);
		for (unsigned i = depth; i-- > 0;) {
			put16(100 + i);
			put16(i ? types[i % 3] : 0x0800);
		}
		put_ipv4(6, 0);
		put_tcp(0, 9);
		finish();
		pkt = decode_frame();
		check_tcp(&pkt, 0, 9);
		CHECK(flow_key_equal(&pkt.key, &untagged.key)); /* tags are not in the key unless asked */
		CHECK_EQ(pkt.hash, untagged.hash);
	}
}

TEST(ipv6)
{
	struct mos_pkt pkt;

	new_frame(1);
	put_ethernet(0x86dd);
	put_ipv6(6);
	put_tcp(20, 11);
	finish();
	pkt = decode_frame();
	check_tcp(&pkt, 20, 11);
	CHECK(flow_key_is_ipv6(&pkt.key));
	CHECK_EQ(pkt.from_hi, 0);
	CHECK_MEM(pkt.key.lo, frame.at + frame.ip + 8, 16);
	CHECK_MEM(pkt.key.hi, frame.at + frame.ip + 24, 16);
}

TEST(both_directions_give_one_key)
{
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		struct mos_pkt there, back;
		uint8_t address[16], len = ipv6 ? 16 : 4, *first;

		new_frame(101);
		ipv6 ? put_ipv6(6) : put_ipv4(6, 0);
		put_tcp(0, 1);
		finish();
		there = decode_frame();
		first = frame.at + frame.ip + (ipv6 ? 8 : 12);
		memcpy(address, first, len);
		memmove(first, first + len, len);
		memcpy(first + len, address, len);
		set16(frame.tcp, 80);
		set16(frame.tcp + 2, 40000);
		back = decode_frame();
		CHECK(flow_key_equal(&there.key, &back.key));
		CHECK_EQ(there.hash, back.hash);
		CHECK_EQ(there.from_hi, 0);
		CHECK_EQ(back.from_hi, 1);
	}
}

TEST(equal_addresses_are_ordered_by_port)
{
	struct mos_pkt there, back, same;

	simple_frame(0);
	memcpy(frame.at + frame.ip + 16, frame.at + frame.ip + 12, 4);
	there = decode_frame();
	set16(frame.tcp, 80);
	set16(frame.tcp + 2, 40000);
	back = decode_frame();
	CHECK(flow_key_equal(&there.key, &back.key));
	CHECK_EQ(there.from_hi, 1); /* 40000 > 80 */
	CHECK_EQ(back.from_hi, 0);
	set16(frame.tcp, 40000);
	same = decode_frame();
	CHECK_EQ(same.kind, PKT_TCP);
	CHECK_EQ(same.from_hi, 0);
}

TEST(link_types)
{
	static const struct {
		uint16_t linktype;
		uint32_t len;
		const char *bytes;
	} links[] = {
		{101, 0, ""},
		{12, 0, ""},
		{0, 4, "\x02\x00\x00\x00"},
		{108, 4, "\x00\x00\x00\x02"},
		{113, 16, "\x00\x00\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00\x08\x00"},
		{276, 20, "\x08\x00\x00\x00\x00\x00\x00\x03\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00"},
		{228, 0, ""},
	};

	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		struct mos_pkt pkt;

		new_frame(links[i].linktype);
		put(links[i].bytes, links[i].len);
		put_ipv4(6, 0);
		put_tcp(4, 3);
		finish();
		pkt = decode_frame();
		check_tcp(&pkt, 4, 3);
		CHECK_EQ(pkt.l3_off, links[i].len);
		for (uint32_t len = 0; len < links[i].len; len++) {
			pkt = decode_as(&plain, len, len);
			is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_LINK);
		}
	}
}

TEST(link_types_with_ipv6)
{
	static const uint16_t linktypes[] = {101, 229, 0, 108};
	/* AF_INET6 is 10, 24, 28 or 30, depending on where the file was written */
	static const uint8_t families[] = {10, 24, 28, 30};

	for (int i = 0; i < 4; i++) {
		for (int j = 0; j < 4; j++) {
			struct mos_pkt pkt;

			new_frame(linktypes[i]);
			if (linktypes[i] == 0)
				put((uint8_t[]){families[j], 0, 0, 0}, 4);
			if (linktypes[i] == 108)
				put((uint8_t[]){0, 0, 0, families[j]}, 4);
			put_ipv6(6);
			put_tcp(0, 3);
			finish();
			pkt = decode_frame();
			check_tcp(&pkt, 0, 3);
		}
	}
}

TEST(cooked_frames_may_carry_a_vlan_tag)
{
	struct mos_pkt pkt;

	new_frame(113);
	put("\x00\x00\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00\x81\x00", 16);
	put16(7);
	put16(0x86dd);
	put_ipv6(6);
	put_tcp(0, 3);
	finish();
	pkt = decode_frame();
	check_tcp(&pkt, 0, 3);
}

/* ---- IPv6 extension headers ------------------------------------------------------------------------------ */

static const unsigned extensions[] = {0, 43, 60, 51, 44, 135, 139, 140};

enum {
	EXTENSIONS = 8
};

/* One extension header of `units` 8-byte units (4-byte units and two more for AH). */
static void put_extension(unsigned proto, unsigned next, unsigned units)
{
	put8(next);
	if (proto == 44) {
		put8(0);
		put16(0); /* an atomic fragment: offset 0, nothing follows */
		put32(0xcafe);
		return;
	}
	put8(proto == 51 ? units * 2 : units - 1);
	put_fill(0, proto == 51 ? units * 8 + 6 : units * 8 - 2);
}

TEST(extension_headers_in_every_order)
{
	for (unsigned order = 0; order < EXTENSIONS * EXTENSIONS * EXTENSIONS; order++) {
		unsigned kind[] = {extensions[order % 8], extensions[order / 8 % 8], extensions[order / 64], 6};
		struct mos_pkt pkt;

		new_frame(1);
		put_ethernet(0x86dd);
		put_ipv6(kind[0]);
		for (int i = 0; i < 3; i++)
			put_extension(kind[i], kind[i + 1], 1 + order % 3);
		put_tcp(12, 5);
		finish();
		pkt = decode_frame();
		check_tcp(&pkt, 12, 5);
		if (check_failures) {
			printf("order %u %u %u\n", kind[0], kind[1], kind[2]);
			return;
		}
	}
}

TEST(the_longest_extension_header)
{
	struct mos_pkt pkt;

	new_frame(101);
	put_ipv6(60);
	put_extension(60, 6, 256);
	put_tcp(0, 5);
	finish();
	pkt = decode_frame();
	check_tcp(&pkt, 0, 5);
	pkt = decode_as(&plain, 40 + 2048 - 1, frame.len);
	is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_IP);
}

TEST(what_is_not_tcp_is_other)
{
	static const unsigned protos[] = {17, 1, 2, 50, 59, 132, 255};

	for (size_t i = 0; i < sizeof protos / sizeof *protos; i++) {
		for (int ipv6 = 0; ipv6 < 2; ipv6++) {
			struct mos_pkt pkt;

			new_frame(101);
			ipv6 ? put_ipv6(protos[i]) : put_ipv4(protos[i], 0);
			put_fill(0, 8);
			finish();
			pkt = decode_frame();
			CHECK_EQ(pkt.kind, PKT_OTHER);
			CHECK_EQ(pkt.l3_off, 0);
			CHECK_EQ(pkt.l3_len, frame.len);
			CHECK_EQ(pkt.l4_off, UINT32_MAX);
			CHECK_EQ(pkt.payload_len, 0);
			CHECK_EQ(pkt.flags, 0);
		}
	}
}

TEST(what_is_not_ip)
{
	static const unsigned types[] = {0x0806, 0x88cc, 0x0026, 0xffff};
	struct mos_pkt pkt;

	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		new_frame(1);
		put_ethernet(types[i]);
		put_fill(0x45, 60);
		pkt = decode_frame();
		is_ignored(&pkt, MOS_CNT_IGNORED_NOT_IP);
		CHECK_EQ(pkt.l3_off, UINT32_MAX);
	}
	new_frame(147); /* LINKTYPE_USER0 */
	put_fill(0x45, 60);
	pkt = decode_frame();
	is_ignored(&pkt, MOS_CNT_IGNORED_LINK_TYPE);
}

/* ---- fragments ------------------------------------------------------------------------------------------- */

static void check_fragment(const struct mos_pkt *pkt, uint32_t data)
{
	CHECK_EQ(pkt->kind, PKT_FRAGMENT);
	CHECK_EQ(pkt->l3_off, frame.ip);
	CHECK_EQ(pkt->l3_len, frame.len - frame.ip);
	CHECK_EQ(pkt->payload_off, data);
}

TEST(ipv4_fragments)
{
	static const struct {
		unsigned field;
		bool fragment;
	} cases[] = {{0x0000, false}, {0x4000, false}, {0x8000, false}, {0x2000, true}, {0x6000, true},
	             {0x0001, true},  {0x1fff, true},  {0x4001, true},  {0x2001, true}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mos_pkt pkt;

		simple_frame(32);
		set16(frame.ip + 6, cases[i].field);
		pkt = decode_frame();
		if (cases[i].fragment)
			check_fragment(&pkt, frame.tcp);
		else
			check_tcp(&pkt, 0, 32);
	}
}

TEST(ipv6_fragments)
{
	static const struct {
		unsigned field;
		bool fragment;
	} cases[] = {{0x0000, false}, {0x0006, false}, /* reserved bits are ignored: RFC 8200 4.5 */
	             {0x0001, true},  {0x0008, true},  {0xfff8, true}, {0x0009, true}};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct mos_pkt pkt;

		new_frame(101);
		put_ipv6(0);
		put_extension(0, 44, 1);
		put_extension(44, 6, 1);
		set16(48 + 2, cases[i].field);
		put_tcp(0, 32);
		finish();
		pkt = decode_frame();
		if (!cases[i].fragment) {
			check_tcp(&pkt, 0, 32);
			continue;
		}
		check_fragment(&pkt, frame.tcp);
		CHECK_EQ(pkt.frag_next_at, 40); /* the hop-by-hop header names the fragment header */
	}
}

/* ---- lengths that disagree ------------------------------------------------------------------------------- */

TEST(padding_is_no_payload)
{
	struct mos_pkt pkt;

	for (uint32_t padding = 1; padding < 20; padding++) {
		simple_frame(2);
		put_fill(0xee, padding);
		pkt = decode_frame();
		check_tcp(&pkt, 0, 2);
	}
	new_frame(1);
	put_ethernet(0x86dd);
	put_ipv6(6);
	put_tcp(0, 0);
	finish();
	put_fill(0xee, 6);
	pkt = decode_frame();
	check_tcp(&pkt, 0, 0);
}

TEST(ip_length_zero_means_the_frame)
{
	static const uint32_t sizes[] = {0, 1, 1460, 65000};

	for (size_t i = 0; i < 4; i++) {
		struct mos_pkt pkt;

		simple_frame(sizes[i]);
		set16(frame.ip + 2, 0);
		pkt = decode_frame();
		check_tcp(&pkt, 0, sizes[i]);
		new_frame(101);
		put_ipv6(6);
		put_tcp(0, sizes[i]);
		finish();
		set16(frame.ip + 4, 0);
		pkt = decode_frame();
		check_tcp(&pkt, 0, sizes[i]);
	}
}

TEST(snapped_frames_count_in_full)
{
	struct mos_pkt pkt;

	simple_frame(1000);
	for (uint32_t cap = frame.tcp + 20; cap <= frame.len; cap++) {
		pkt = decode_as(&plain, cap, frame.len);
		REQUIRE(pkt.kind == PKT_TCP);
		CHECK_EQ(pkt.payload_len, 1000);
		CHECK_EQ(pkt.payload_cap, cap - frame.tcp - 20);
		CHECK_EQ(pkt.l3_len, cap - frame.ip);
	}
	for (uint32_t cap = frame.tcp; cap < frame.tcp + 20; cap++) {
		pkt = decode_as(&plain, cap, frame.len);
		is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_TCP);
	}
	for (uint32_t cap = frame.ip; cap < frame.tcp; cap++) {
		pkt = decode_as(&plain, cap, frame.len);
		is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_IP);
	}
	for (uint32_t cap = 0; cap < 14; cap++) {
		pkt = decode_as(&plain, cap, frame.len);
		is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_LINK);
	}
}

TEST(a_frame_cut_inside_the_tcp_options)
{
	struct mos_pkt pkt;

	new_frame(1);
	put_ethernet(0x0800);
	put_ipv4(6, 0);
	put_tcp(40, 100);
	finish();
	for (uint32_t have = 0; have <= 40; have++) {
		pkt = decode_as(&plain, frame.tcp + 20 + have, frame.len);
		REQUIRE(pkt.kind == PKT_TCP);
		CHECK_EQ(pkt.tcp_opt_len, have);
		CHECK_EQ(pkt.payload_len, 100);
		CHECK_EQ(pkt.payload_cap, 0);
		CHECK_EQ(pkt.payload_off, frame.tcp + 60);
	}
}

/* The specification: payload bytes are counted by the IP length. */
TEST(ip_length_beyond_the_frame)
{
	struct mos_pkt pkt;

	simple_frame(10);
	set16(frame.ip + 2, 20 + 20 + 500);
	pkt = decode_frame();
	REQUIRE(pkt.kind == PKT_TCP);
	CHECK_EQ(pkt.payload_cap, 10);
	CHECK_EQ(pkt.payload_len, 10); /* the frame had no more: tshark counts so too */
	new_frame(101);
	put_ipv6(6);
	put_tcp(0, 10);
	finish();
	set16(frame.ip + 4, 20 + 500);
	pkt = decode_frame();
	REQUIRE(pkt.kind == PKT_TCP);
	CHECK_EQ(pkt.payload_cap, 10);
	CHECK_EQ(pkt.payload_len, 10); /* the frame had no more: tshark counts so too */
}

TEST(ip_length_below_the_headers)
{
	struct mos_pkt pkt;

	for (unsigned total = 1; total < 20; total++) {
		simple_frame(10);
		set16(frame.ip + 2, total);
		pkt = decode_frame();
		is_ignored(&pkt, MOS_CNT_IGNORED_BAD_IP_HEADER);
	}
	for (unsigned total = 20; total < 40; total++) {
		simple_frame(10);
		set16(frame.ip + 2, total);
		pkt = decode_frame();
		is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_TCP);
	}
	new_frame(101);
	put_ipv6(0);
	put_extension(0, 6, 2);
	put_tcp(0, 10);
	finish();
	for (unsigned payload = 1; payload < 16; payload++) {
		set16(frame.ip + 4, payload);
		pkt = decode_frame();
		is_ignored(&pkt, MOS_CNT_IGNORED_SHORT_IP);
	}
}

TEST(bad_header_fields)
{
	struct mos_pkt pkt;

	for (unsigned ihl = 0; ihl < 5; ihl++) {
		simple_frame(10);
		frame.at[frame.ip] = (uint8_t)(0x40 | ihl);
		pkt = decode_frame();
		is_ignored(&pkt, MOS_CNT_IGNORED_BAD_IP_HEADER);
	}
	simple_frame(10);
	frame.at[frame.ip] = 0x65;
	pkt = decode_frame();
	is_ignored(&pkt, MOS_CNT_IGNORED_BAD_IP_HEADER);
	for (unsigned offset = 0; offset < 5; offset++) {
		simple_frame(10);
		frame.at[frame.tcp + 12] = (uint8_t)(offset << 4);
		pkt = decode_frame();
		is_ignored(&pkt, MOS_CNT_IGNORED_BAD_TCP_HEADER);
	}
	simple_frame(10); /* header longer than the segment */
	frame.at[frame.tcp + 12] = 8 << 4;
	pkt = decode_frame();
	is_ignored(&pkt, MOS_CNT_IGNORED_BAD_TCP_HEADER);
	new_frame(1);
	put_ethernet(0x86dd);
	put_ipv6(6);
	put_tcp(0, 0);
	finish();
	frame.at[frame.ip] = 0x45;
	pkt = decode_frame();
	is_ignored(&pkt, MOS_CNT_IGNORED_BAD_IP_HEADER);
}

TEST(captured_more_than_was_on_the_wire)
{
	struct mos_pkt pkt;

	simple_frame(10);
	pkt = decode_as(&plain, frame.len, 20);
	check_tcp(&pkt, 0, 10);
}

/* ---- checksums -------------------------------------------------------------------------------------------- */

TEST(checksums_good_and_every_bit_wrong)
{
	for (int ipv6 = 0; ipv6 < 2; ipv6++) {
		struct mos_pkt pkt;

		new_frame(101);
		ipv6 ? put_ipv6(6) : put_ipv4(6, 4);
		put_tcp(8, 33);
		finish();
		pkt = decode_as(&verifying, frame.len, frame.len);
		check_tcp(&pkt, 8, 33);
		for (uint32_t bit = 0; bit < frame.len * 8; bit++) {
			if (bit / 8 < frame.tcp && (ipv6 ? bit / 8 < 8 : bit < 32))
				continue; /* version and lengths fail before; IPv6's first words have no checksum */
			frame.at[bit / 8] ^= (uint8_t)(128 >> bit % 8);
			pkt = decode_as(&verifying, frame.len, frame.len);
			CHECK_EQ(pkt.kind, PKT_IGNORED);
			if (pkt.kind != PKT_IGNORED)
				printf("ipv6 %d: bit %u of byte %u\n", ipv6, bit % 8, bit / 8);
			frame.at[bit / 8] ^= (uint8_t)(128 >> bit % 8);
		}
		frame.at[frame.tcp + 16] ^= 1;
		pkt = decode_as(&verifying, frame.len, frame.len);
		is_ignored(&pkt, MOS_CNT_IGNORED_BAD_CHECKSUM);
		pkt = decode_as(&plain, frame.len, frame.len);
		CHECK_EQ(pkt.kind, PKT_TCP);
	}
}

TEST(checksum_of_a_cut_frame_is_not_judged)
{
	struct mos_pkt pkt;

	simple_frame(100);
	pkt = decode_as(&verifying, frame.len - 1, frame.len);
	CHECK_EQ(pkt.kind, PKT_TCP);
	frame.at[frame.tcp + 16] ^= 1;
	pkt = decode_as(&verifying, frame.len - 1, frame.len);
	CHECK_EQ(pkt.kind, PKT_TCP);
	frame.at[frame.ip + 10] ^= 1; /* the IP header is all there */
	pkt = decode_as(&verifying, frame.len - 1, frame.len);
	is_ignored(&pkt, MOS_CNT_IGNORED_BAD_CHECKSUM);
}

TEST(padding_is_not_summed)
{
	struct mos_pkt pkt;

	simple_frame(1);
	put_fill(0xee, 5);
	pkt = decode_as(&verifying, frame.len, frame.len);
	check_tcp(&pkt, 0, 1);
}

/* ---- the end of memory, and damage ------------------------------------------------------------------------ */

/* Two pages, the second of which nobody may touch. */
static uint8_t *guard_page(size_t *page)
{
	uint8_t *memory;

	*page = (size_t)sysconf(_SC_PAGESIZE);
	memory = mmap(NULL, 2 * *page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory + *page, *page, PROT_NONE))
		abort();
	return memory;
}

/* What decode says lies inside the frame. */
static void check_inside(const struct mos_pkt *pkt)
{
	CHECK(pkt->kind <= PKT_FRAGMENT);
	CHECK(pkt->kind != PKT_FRAGMENT || (pkt->payload_off <= pkt->caplen && pkt->payload_off > pkt->l3_off));
	if (pkt->kind == PKT_IGNORED)
		CHECK(pkt->reason >= MOS_CNT_IGNORED_SHORT_LINK && pkt->reason <= MOS_CNT_IGNORED_FILTERED);
	if (pkt->l3_off != UINT32_MAX)
		CHECK(pkt->l3_off <= pkt->caplen && pkt->l3_len <= pkt->caplen - pkt->l3_off);
	if (pkt->kind != PKT_TCP)
		return;
	CHECK(pkt->l4_off + 20 + pkt->tcp_opt_len <= pkt->caplen);
	CHECK(pkt->payload_cap <= pkt->payload_len);
	CHECK(!pkt->payload_cap || pkt->payload_off + pkt->payload_cap <= pkt->caplen);
	CHECK(pkt->payload_off - pkt->l4_off >= 20 + (uint32_t)pkt->tcp_opt_len);
	CHECK(pkt->payload_off - pkt->l4_off <= 60);
}

static void decode_every_length(void)
{
	size_t page;
	uint8_t *memory = guard_page(&page);

	for (uint32_t cap = 0; cap <= frame.len; cap++) {
		for (int i = 0; i < 4; i++) {
			struct mos_pkt pkt = {.frame = memory + page - cap, .caplen = cap, .linktype = frame.linktype};

			memcpy(memory + page - cap, frame.at, cap);
			pkt.wirelen = i & 1 ? cap : frame.len;
			decode(i & 2 ? &verifying : &plain, &pkt);
			check_inside(&pkt);
		}
	}
	munmap(memory, 2 * page);
}

/* Frames with every kind of header in them. */
static void sample_frame(int number)
{
	new_frame(number == 3 ? 113 : number == 4 ? 276 : number == 5 ? 0 : 1);
	switch (number) {
	case 0:
		put_ethernet(0x8100);
		put32(0x00078100);
		put32(0x00080800);
		put_ipv4(6, 8);
		break;
	case 1:
		put_ethernet(0x86dd);
		put_ipv6(0);
		put_extension(0, 43, 1);
		put_extension(43, 51, 2);
		put_extension(51, 44, 1);
		put_extension(44, 60, 1);
		put_extension(60, 6, 3);
		break;
	case 2:
		put_ethernet(0x0800);
		put_ipv4(6, 40);
		break;
	case 3:
		put("\x00\x00\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00\x08\x00", 16);
		put_ipv4(6, 0);
		break;
	case 4:
		put("\x86\xdd\x00\x00\x00\x00\x00\x03\x00\x01\x00\x06\x02\x00\x00\x00\x00\x01\x00\x00", 20);
		put_ipv6(6);
		break;
	default:
		put("\x1e\x00\x00\x00", 4);
		put_ipv6(60);
		put_extension(60, 6, 1);
	}
	put_tcp(20, 30);
	finish();
}

enum {
	SAMPLES = 6
};

TEST(every_length_before_a_guard_page)
{
	for (int i = 0; i < SAMPLES; i++) {
		struct mos_pkt pkt;

		sample_frame(i);
		pkt = decode_frame();
		check_tcp(&pkt, 20, 30);
		decode_every_length();
	}
}

TEST(random_damage_before_a_guard_page)
{
	size_t page;
	uint8_t *memory = guard_page(&page);

	random_begin("decode");
	for (int round = 0; round < 1000000 && !check_failures; round++) {
		struct mos_pkt pkt = {0};
		uint32_t cap;

		if (round % 1000 == 0)
			sample_frame(round / 1000 % SAMPLES);
		cap = random_chance(30) ? (uint32_t)random_below(frame.len + 1) : frame.len;
		memcpy(memory + page - cap, frame.at, cap);
		for (uint64_t flips = random_below(12); cap && flips > 0; flips--)
			memory[page - cap + random_below(cap < 90 ? cap : 90)] ^= (uint8_t)(1 << random_below(8));
		pkt.frame = memory + page - cap;
		pkt.caplen = cap;
		pkt.wirelen = random_chance(50) ? cap : random_chance(50) ? frame.len : (uint32_t)random_below(70000);
		pkt.linktype = random_chance(90) ? frame.linktype : (uint16_t)random_below(300);
		decode(random_chance(20) ? &verifying : &plain, &pkt);
		check_inside(&pkt);
	}
	munmap(memory, 2 * page);
}

TEST(random_bytes)
{
	size_t page;
	uint8_t *memory = guard_page(&page);

	random_begin("decode, random bytes");
	for (int round = 0; round < 600000 && !check_failures; round++) {
		uint32_t cap = (uint32_t)random_below(120);
		struct mos_pkt pkt = {.frame = memory + page - cap, .caplen = cap, .wirelen = cap, .linktype = 101};

		for (uint32_t i = 0; i < cap; i++)
			memory[page - cap + i] = (uint8_t)random_next();
		if (cap)
			memory[page - cap] = random_chance(50) ? 0x45 : 0x60;
		decode(&plain, &pkt);
		check_inside(&pkt);
	}
	munmap(memory, 2 * page);
}
