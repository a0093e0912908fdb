/* test_checksum.c - the Internet checksum: RFC 1071's example, odd lengths, headers and segments. */
// sources: packet/checksum.c
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "packet/checksum.h"
#include "random.h"

/* RFC 1071 section 4.1, byte by byte. */
static uint16_t naive(const uint8_t *data, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)~sum;
}

TEST(example_of_rfc_1071)
{
	static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	CHECK_EQ(checksum_finish(checksum_add(bytes, 8, 0)), 0xffff - 0xddf2); /* section 3: the sum is ddf2 */
}

TEST(nothing_sums_to_zero)
{
	CHECK_EQ(checksum_finish(checksum_add(NULL, 0, 0)), 0xffff);
	CHECK_EQ(checksum_finish(checksum_add((const uint8_t *)"\xff\xff", 2, 0)), 0);
}

TEST(every_length_and_alignment)
{
	random_begin("checksum");
	for (size_t len = 0; len < 300; len++) {
		for (size_t skew = 0; skew < 4; skew++) {
			uint8_t *block = malloc(len + skew + 1), *data = block + skew + 1;

			for (size_t i = 0; i < len + skew + 1; i++)
				block[i] = random_chance(20) ? 0xff : (uint8_t)random_next();
			CHECK_EQ(checksum_finish(checksum_add(data, len, 0)), naive(data, len));
			free(block);
		}
	}
}

TEST(pieces_of_even_length_add_up)
{
	uint8_t bytes[64];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 37);
	for (size_t cut = 0; cut <= 64; cut += 2)
		CHECK_EQ(checksum_finish(checksum_add(bytes + cut, 64 - cut, checksum_add(bytes, cut, 0))),
		         naive(bytes, 64));
}

TEST(large_sums_do_not_overflow)
{
	uint8_t *many = malloc(1 << 20);
	uint64_t sum = 0;

	memset(many, 0xff, 1 << 20);
	for (int i = 0; i < 64; i++)
		sum = checksum_add(many, 1 << 20, sum);
	CHECK_EQ(checksum_finish(sum), 0);
	CHECK_EQ(checksum_finish(UINT64_MAX), 0);
	free(many);
}

TEST(a_known_ipv4_header)
{
	uint8_t header[] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
	                    0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};

	CHECK(checksum_ipv4_ok(header, 20));
	for (int bit = 0; bit < 160; bit++) {
		header[bit / 8] ^= (uint8_t)(1 << bit % 8);
		CHECK(!checksum_ipv4_ok(header, 20));
		header[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* A checksum made here, by the naive sum over pseudo-header and segment. */
static void check_segment(size_t addr_len, uint32_t len)
{
	uint8_t *all = calloc(1, 2 * addr_len + 8 + len), *segment = all + 2 * addr_len + 8;
	uint8_t source[16], target[16];
	uint16_t sum;

	for (size_t i = 0; i < 2 * addr_len; i++)
		all[i] = (uint8_t)random_next();
	all[2 * addr_len + 1] = (uint8_t)(len >> 16);
	all[2 * addr_len + 2] = (uint8_t)(len >> 8);
	all[2 * addr_len + 3] = (uint8_t)len;
	all[2 * addr_len + 7] = 6;
	for (uint32_t i = 0; i < len; i++)
		segment[i] = i == 16 || i == 17 ? 0 : (uint8_t)random_next();
	sum = naive(all, 2 * addr_len + 8 + len);
	segment[16] = (uint8_t)(sum >> 8);
	segment[17] = (uint8_t)sum;
	memcpy(source, all, addr_len);
	memcpy(target, all + addr_len, addr_len);
	CHECK(checksum_tcp_ok(source, target, addr_len, segment, len));
	segment[random_below(len)] ^= 0x10;
	CHECK(!checksum_tcp_ok(source, target, addr_len, segment, len));
	free(all);
}

TEST(tcp_segments)
{
	random_begin("segments");
	for (uint32_t len = 20; len < 200; len++) {
		check_segment(4, len);
		check_segment(16, len);
	}
	check_segment(4, 65515);
	check_segment(16, 65535);
	check_segment(16, 70001); /* a jumbogram's length needs more than 16 bits */
}
