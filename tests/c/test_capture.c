/* test_capture.c - the capture reader: formats, packings, pipes, merges, and every kind of damage. */
// sources: io/capture.c io/capture_file.c io/capture_pcap.c io/capture_pcapng.c io/byte_source.c
// libs: -lz -lzstd
#define _GNU_SOURCE /* pseudo-terminals */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "check.h"
#include "io/capture.h"

#define SECOND UINT64_C(1000000000)

/* ---- bytes of a file, in either byte order ------------------------------------------------- */

struct bytes {
	uint8_t *at;
	size_t len, room;
	bool swapped;
};

static void put(struct bytes *bytes, const void *data, size_t len)
{
	if (bytes->len + len > bytes->room) {
		bytes->room = (bytes->len + len) * 2;
		bytes->at = realloc(bytes->at, bytes->room);
	}
	if (len > 0)
		memcpy(bytes->at + bytes->len, data, len);
	bytes->len += len;
}

static void put16(struct bytes *bytes, unsigned value)
{
	uint16_t word = bytes->swapped ? __builtin_bswap16((uint16_t)value) : (uint16_t)value;

	put(bytes, &word, sizeof word);
}

static void put32(struct bytes *bytes, uint32_t value)
{
	uint32_t word = bytes->swapped ? __builtin_bswap32(value) : value;

	put(bytes, &word, sizeof word);
}

static void put64(struct bytes *bytes, uint64_t value)
{
	uint64_t word = bytes->swapped ? __builtin_bswap64(value) : value;

	put(bytes, &word, sizeof word);
}

/* Frame number n: its bytes follow from n. */
static void put_frame(struct bytes *bytes, uint32_t n, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)(n * 7 + i);

		put(bytes, &byte, 1);
	}
}

static bool is_frame(const struct mos_pkt *pkt, uint32_t n, uint32_t len)
{
	if (pkt->caplen != len)
		return false;
	for (uint32_t i = 0; i < len; i++)
		if (pkt->frame[i] != (uint8_t)(n * 7 + i))
			return false;
	return true;
}

static void pcap_header(struct bytes *bytes, uint32_t magic, unsigned major, unsigned minor, uint32_t linktype)
{
	put32(bytes, magic);
	put16(bytes, major);
	put16(bytes, minor);
	put32(bytes, 0);
	put32(bytes, 0);
	put32(bytes, 65535);
	put32(bytes, linktype);
}

static void pcap_record(struct bytes *bytes, uint32_t sec, uint32_t fraction, uint32_t n, uint32_t len)
{
	put32(bytes, sec);
	put32(bytes, fraction);
	put32(bytes, len);
	put32(bytes, len + 4);
	put_frame(bytes, n, len);
}

/* A microsecond pcap of `count` records, one per second from `sec` on, of varied lengths. */
static uint32_t varied(uint32_t n)
{
	return n * 37 % 1500;
}

static void pcap_file(struct bytes *bytes, uint32_t sec, uint32_t count)
{
	pcap_header(bytes, 0xa1b2c3d4, 2, 4, 1);
	for (uint32_t n = 0; n < count; n++)
		pcap_record(bytes, sec + n, n % 1000000, n, varied(n));
}

static size_t block_begin(struct bytes *bytes, uint32_t type)
{
	size_t start = bytes->len;

	put32(bytes, type);
	put32(bytes, 0);
	return start;
}

static void block_end(struct bytes *bytes, size_t start)
{
	struct bytes len = {.swapped = bytes->swapped};

	while (bytes->len % 4 != start % 4)
		put(bytes, "", 1);
	put32(&len, (uint32_t)(bytes->len + 4 - start));
	put(bytes, len.at, 4);
	memcpy(bytes->at + start + 4, len.at, 4);
	free(len.at);
}

static void section(struct bytes *bytes)
{
	size_t start = block_begin(bytes, 0x0a0d0d0a);

	put32(bytes, 0x1a2b3c4d);
	put16(bytes, 1);
	put16(bytes, 0);
	put64(bytes, UINT64_MAX);
	block_end(bytes, start);
}

/* resolution < 0 and offset 0: the option is left out. */
static void interface(struct bytes *bytes, unsigned linktype, uint32_t snaplen, int resolution, int64_t offset)
{
	size_t start = block_begin(bytes, 1);

	put16(bytes, linktype);
	put16(bytes, 0);
	put32(bytes, snaplen);
	put16(bytes, 2); /* if_name, to have something to skip */
	put16(bytes, 3);
	put(bytes, "eth", 4);
	if (resolution >= 0) {
		uint8_t padded[4] = {(uint8_t)resolution};

		put16(bytes, 9);
		put16(bytes, 1);
		put(bytes, padded, 4);
	}
	if (offset != 0) {
		put16(bytes, 14);
		put16(bytes, 8);
		put64(bytes, (uint64_t)offset);
	}
	put32(bytes, 0);
	block_end(bytes, start);
}

static void enhanced(struct bytes *bytes, uint32_t number, uint64_t ticks, uint32_t n, uint32_t len)
{
	size_t start = block_begin(bytes, 6);

	put32(bytes, number);
	put32(bytes, (uint32_t)(ticks >> 32));
	put32(bytes, (uint32_t)ticks);
	put32(bytes, len);
	put32(bytes, len + 4);
	put_frame(bytes, n, len);
	while (bytes->len % 4 != start % 4)
		put(bytes, "", 1);
	put16(bytes, 1); /* a comment behind the packet */
	put16(bytes, 2);
	put(bytes, "hi\0", 4);
	put32(bytes, 0);
	block_end(bytes, start);
}

static void unknown_block(struct bytes *bytes, uint32_t len)
{
	size_t start = block_begin(bytes, 0x0bad);

	put_frame(bytes, 99, len);
	block_end(bytes, start);
}

/* ---- files and captures ---------------------------------------------------------------------- */

static char folder[] = "/tmp/test_capture.XXXXXX";

static void remove_folder(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	if (system(command) != 0)
		printf("%s is left behind\n", folder);
}

static const char *path_of(const char *name)
{
	static char paths[8][96];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	if (folder[strlen(folder) - 1] == 'X') {
		if (mkdtemp(folder) == NULL)
			abort();
		atexit(remove_folder);
	}
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

/* Write the bytes, forget them, and give the path. */
static const char *save(const char *name, struct bytes *bytes)
{
	const char *path = path_of(name);
	FILE *file = fopen(path, "wb");

	if (file == NULL || (bytes->len > 0 && fwrite(bytes->at, bytes->len, 1, file) != 1) || fclose(file) != 0)
		abort();
	free(bytes->at);
	*bytes = (struct bytes){0};
	return path;
}

static char error[512];

static struct capture *open_all(int count, ...)
{
	const char *paths[8];
	struct capture *capture;
	va_list args;
	int got;

	va_start(args, count);
	for (int i = 0; i < count; i++)
		paths[i] = va_arg(args, const char *);
	va_end(args);
	error[0] = '\0';
	got = capture_open(&capture, paths, count, error, sizeof error);
	if (!CHECK_EQ(got, 0))
		printf("%s\n", error);
	return capture;
}

static int open_fails(const char *path)
{
	struct capture *capture = (void *)error;
	int got;

	error[0] = '\0';
	got = capture_open(&capture, &path, 1, error, sizeof error);
	CHECK(got < 0);
	CHECK(capture == NULL);
	if (got >= 0)
		capture_close(capture);
	return got;
}

static int read_waiting(struct capture *capture, struct mos_pkt *pkt, unsigned max)
{
	int got;

	do {
		got = capture_read(capture, pkt, max);
	} while (got == -EAGAIN);
	return got;
}

/* All packets of pcap_file(): right ones, in order.  Gives how many; *end is the last result. */
static uint32_t read_varied(struct capture *capture, uint32_t sec, unsigned burst, int *end)
{
	static struct mos_pkt pkt[4096];
	uint32_t n = 0;
	int got;

	while ((got = read_waiting(capture, pkt, burst)) > 0) {
		for (int i = 0; i < got; i++, n++) {
			if (!CHECK(is_frame(&pkt[i], n, varied(n))) ||
			    !CHECK_EQ(pkt[i].time_ns, (sec + n) * SECOND + n % 1000000 * 1000) ||
			    !CHECK_EQ(pkt[i].wirelen, varied(n) + 4))
				return n;
		}
	}
	*end = got;
	return n;
}

static void check_varied(const char *path, uint32_t count)
{
	struct capture *capture = open_all(1, path);
	int end = -1;

	REQUIRE(capture != NULL);
	CHECK_EQ(read_varied(capture, 1000, 64, &end), count);
	if (!CHECK_EQ(end, 0))
		printf("%s\n", capture_error(capture));
	CHECK_EQ(capture_position(capture), capture_size(capture));
	capture_close(capture);
}

/* A capture that begins well: `good` packets, then this error, twice. */
static void check_breaks(const char *path, int good, int expected, const char *part)
{
	struct capture *capture = open_all(1, path);
	struct mos_pkt pkt[64];
	int got, count = 0;

	REQUIRE(capture != NULL);
	while ((got = read_waiting(capture, pkt, 64)) > 0)
		count += got;
	CHECK_EQ(count, good);
	CHECK_EQ(got, expected);
	CHECK_HAS(capture_error(capture), part);
	CHECK_HAS(capture_error(capture), path);
	CHECK_EQ(capture_read(capture, pkt, 64), expected);
	capture_close(capture);
}

/* ---- pcap --------------------------------------------------------------------------------------- */

static void check_pcap(uint32_t magic, bool swapped)
{
	struct bytes bytes = {.swapped = swapped};
	struct capture *capture;
	struct mos_pkt pkt[4];
	uint64_t unit = magic == 0xa1b23c4d ? 1 : 1000;

	pcap_header(&bytes, magic, 2, 4, 101);
	for (uint32_t n = 0; n < 3; n++) {
		put32(&bytes, 0xf0000000 + n); /* after 2038: the seconds have no sign */
		put32(&bytes, 999999 - n);
		put32(&bytes, 10 + n);
		put32(&bytes, 1500);
		if (magic == 0xa1b2cd34)
			put64(&bytes, 0);
		put_frame(&bytes, n, 10 + n);
	}
	capture = open_all(1, save("order.pcap", &bytes));
	REQUIRE(capture != NULL);
	REQUIRE(capture_read(capture, pkt, 4) == 3);
	for (uint32_t n = 0; n < 3; n++) {
		CHECK(is_frame(&pkt[n], n, 10 + n));
		CHECK_EQ(pkt[n].time_ns, (UINT64_C(0xf0000000) + n) * SECOND + (999999 - n) * unit);
		CHECK_EQ(pkt[n].wirelen, 1500);
		CHECK_EQ(pkt[n].linktype, 101);
		CHECK_EQ(pkt[n].port, 0);
	}
	CHECK_EQ(capture_read(capture, pkt, 4), 0);
	CHECK_EQ(capture_read(capture, pkt, 4), 0);
	capture_close(capture);
}

TEST(pcap_in_every_magic_and_byte_order)
{
	for (int swapped = 0; swapped < 2; swapped++) {
		check_pcap(0xa1b2c3d4, swapped);
		check_pcap(0xa1b23c4d, swapped);
		check_pcap(0xa1b2cd34, swapped);
	}
}

static uint32_t caplen_of(unsigned major, unsigned minor, uint32_t first, uint32_t second)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt = {0};

	pcap_header(&bytes, 0xa1b2c3d4, major, minor, 1);
	put64(&bytes, 0);
	put32(&bytes, first);
	put32(&bytes, second);
	put_frame(&bytes, 0, first < second ? first : second);
	capture = open_all(1, save("version.pcap", &bytes));
	if (capture == NULL)
		return UINT32_MAX;
	CHECK_EQ(capture_read(capture, &pkt, 1), 1);
	CHECK_EQ(pkt.wirelen, first + second - pkt.caplen);
	capture_close(capture);
	return pkt.caplen;
}

TEST(pcap_before_2_4_has_the_lengths_the_other_way_round)
{
	CHECK_EQ(caplen_of(2, 4, 60, 100), 60);
	CHECK_EQ(caplen_of(2, 3, 60, 100), 60);
	CHECK_EQ(caplen_of(2, 3, 100, 60), 60);
	CHECK_EQ(caplen_of(2, 2, 100, 60), 60);
	CHECK_EQ(caplen_of(543, 0, 100, 60), 60);
}

TEST(pcap_of_an_unknown_version_is_refused)
{
	struct bytes bytes = {0};

	pcap_header(&bytes, 0xa1b2c3d4, 3, 0, 1);
	CHECK_EQ(open_fails(save("v3.pcap", &bytes)), -EINVAL);
	CHECK_HAS(error, "version 3.0");
}

static unsigned linktype_of(uint32_t field)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt = {0};

	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, field);
	pcap_record(&bytes, 1, 0, 0, 20);
	capture = open_all(1, save("fcs.pcap", &bytes));
	if (capture == NULL)
		return 0;
	CHECK_EQ(capture_read(capture, &pkt, 1), 1);
	capture_close(capture);
	return pkt.linktype;
}

TEST(check_sequence_bits_are_not_part_of_the_link_type)
{
	CHECK_EQ(linktype_of(1), 1);
	CHECK_EQ(linktype_of(0x24000001), 1);
	CHECK_EQ(linktype_of(0xfc000114), 0x114);
	CHECK_EQ(linktype_of(0x00010001), 65535);
}

TEST(records_that_straddle_the_buffer_are_whole_for_any_burst)
{
	const unsigned bursts[] = {1, 7, 64, 4096};
	struct bytes bytes = {0};
	const char *path;

	pcap_file(&bytes, 1000, 6000); /* 4.5 MB: several buffers */
	path = save("long.pcap", &bytes);
	for (unsigned i = 0; i < 4; i++) {
		struct capture *capture = open_all(1, path);
		int end = -1;

		REQUIRE(capture != NULL);
		CHECK_EQ(read_varied(capture, 1000, bursts[i], &end), 6000);
		CHECK_EQ(end, 0);
		capture_close(capture);
	}
}

TEST(frames_stay_valid_until_the_next_read)
{
	static struct mos_pkt pkt[100000];
	struct bytes bytes = {0};
	struct capture *capture;
	uint32_t n = 0;
	int got;

	pcap_file(&bytes, 1000, 6000);
	capture = open_all(1, save("valid.pcap", &bytes));
	REQUIRE(capture != NULL);
	while ((got = capture_read(capture, pkt, 100000)) > 0) {
		for (int i = 0; i < got; i++)
			CHECK(is_frame(&pkt[i], n + (uint32_t)i, varied(n + (uint32_t)i)));
		n += (uint32_t)got;
	}
	CHECK_EQ(n, 6000);
	capture_close(capture);
}

TEST(a_record_larger_than_the_buffer_is_read)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt[4];
	int got, n = 0;

	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, 249);
	pcap_record(&bytes, 1, 0, 0, 100);
	pcap_record(&bytes, 1, 0, 1, 5000001);
	pcap_record(&bytes, 1, 0, 2, 100);
	capture = open_all(1, save("large.pcap", &bytes));
	REQUIRE(capture != NULL);
	while ((got = capture_read(capture, pkt, 4)) > 0)
		for (int i = 0; i < got; i++, n++)
			CHECK(is_frame(&pkt[i], (uint32_t)n, n == 1 ? 5000001 : 100));
	CHECK_EQ(got, 0);
	CHECK_EQ(n, 3);
	capture_close(capture);
}

TEST(a_frame_beyond_the_snap_length_is_kept_whole)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt = {0};

	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, 1);
	pcap_record(&bytes, 1, 0, 0, 65549);
	capture = open_all(1, save("gso.pcap", &bytes));
	REQUIRE(capture != NULL);
	CHECK_EQ(capture_read(capture, &pkt, 1), 1);
	CHECK(is_frame(&pkt, 0, 65549));
	capture_close(capture);
}

TEST(only_the_producer_fields_are_written)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt, before;

	pcap_file(&bytes, 1000, 1);
	capture = open_all(1, save("fields.pcap", &bytes));
	REQUIRE(capture != NULL);
	memset(&pkt, 0xa5, sizeof pkt);
	memset(&before, 0xa5, sizeof before);
	CHECK_EQ(capture_read(capture, &pkt, 1), 1);
	CHECK(pkt.mbuf == NULL);
	CHECK_MEM((char *)&pkt + offsetof(struct mos_pkt, key), (char *)&before + offsetof(struct mos_pkt, key),
	          sizeof pkt - offsetof(struct mos_pkt, key));
	capture_close(capture);
}

/* ---- pcapng ------------------------------------------------------------------------------------- */

static void pcapng_pair(struct bytes *bytes, uint32_t n)
{
	section(bytes);
	unknown_block(bytes, 10);
	interface(bytes, 1, 0, -1, 0);
	interface(bytes, 113, 0, 9, 0);
	enhanced(bytes, 0, 5000001, n, 61);
	unknown_block(bytes, 3);
	enhanced(bytes, 1, 5000000001, n + 1, 62);
}

static void check_pcapng(bool swapped, bool then_swapped)
{
	struct bytes bytes = {.swapped = swapped};
	struct capture *capture;
	struct mos_pkt pkt[8];

	pcapng_pair(&bytes, 0);
	bytes.swapped = then_swapped;
	pcapng_pair(&bytes, 2);
	capture = open_all(1, save("pair.pcapng", &bytes));
	REQUIRE(capture != NULL);
	REQUIRE(capture_read(capture, pkt, 8) == 4);
	for (uint32_t n = 0; n < 4; n++) {
		CHECK(is_frame(&pkt[n], n, 61 + n % 2));
		CHECK_EQ(pkt[n].wirelen, 65 + n % 2);
		CHECK_EQ(pkt[n].port, n);
		CHECK_EQ(pkt[n].linktype, n % 2 ? 113 : 1);
		CHECK_EQ(pkt[n].time_ns, 5 * SECOND + (n % 2 ? 1 : 1000));
		CHECK(pkt[n].mbuf == NULL);
	}
	CHECK_EQ(capture_read(capture, pkt, 8), 0);
	capture_close(capture);
}

TEST(pcapng_with_sections_of_any_byte_order)
{
	check_pcapng(false, false);
	check_pcapng(true, true);
	check_pcapng(false, true);
	check_pcapng(true, false);
}

static uint64_t time_of(int resolution, int64_t offset, uint64_t ticks)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt = {0};

	section(&bytes);
	interface(&bytes, 1, 0, resolution, offset);
	enhanced(&bytes, 0, ticks, 0, 60);
	capture = open_all(1, save("time.pcapng", &bytes));
	if (capture == NULL)
		return 1;
	CHECK_EQ(capture_read(capture, &pkt, 1), 1);
	capture_close(capture);
	return pkt.time_ns;
}

TEST(pcapng_times_in_every_resolution)
{
	CHECK_EQ(time_of(-1, 0, 1700000000123456), UINT64_C(1700000000123456000));
	CHECK_EQ(time_of(6, 0, 1700000000123456), UINT64_C(1700000000123456000));
	CHECK_EQ(time_of(9, 0, UINT64_C(1700000000123456789)), UINT64_C(1700000000123456789));
	CHECK_EQ(time_of(3, 0, 1700000000123), UINT64_C(1700000000123000000));
	CHECK_EQ(time_of(0, 0, 1700000000), UINT64_C(1700000000000000000));
	CHECK_EQ(time_of(12, 0, UINT64_C(1234567890123456789)), UINT64_C(1234567890123456));
	CHECK_EQ(time_of(19, 0, UINT64_C(15000000000000000000)), 1500000000);
	CHECK_EQ(time_of(0x80 | 1, 0, 3), 1500000000);
	CHECK_EQ(time_of(0x80 | 10, 0, 1024 + 512), 1500000000);
	CHECK_EQ(time_of(0x80 | 32, 0, UINT64_C(1) << 31), 500000000);
	CHECK_EQ(time_of(0x80 | 63, 0, (UINT64_C(1) << 63) + 1), 1000000000);
}

TEST(pcapng_time_offsets_and_what_does_not_fit)
{
	CHECK_EQ(time_of(6, 1700000000, 123456), UINT64_C(1700000000123456000));
	CHECK_EQ(time_of(9, -1, 1500000000), 500000000);
	CHECK_EQ(time_of(9, -2, 1500000000), 0);
	CHECK_EQ(time_of(6, INT64_MIN, 0), 0);
	CHECK_EQ(time_of(6, INT64_MAX, UINT64_MAX), INT64_MAX);
	CHECK_EQ(time_of(0, 0, UINT64_MAX), INT64_MAX);
	CHECK_EQ(time_of(9, 0, UINT64_MAX), INT64_MAX);
}

TEST(pcapng_resolution_beyond_64_bits_is_refused)
{
	for (int resolution = 20; resolution < 256; resolution += 172) { /* 10^-20, 2^-64 */
		struct bytes bytes = {0};

		section(&bytes);
		interface(&bytes, 1, 0, resolution, 0);
		CHECK_EQ(open_fails(save("fine.pcapng", &bytes)), -EINVAL);
		CHECK_HAS(error, "block 2 at offset 28");
		CHECK_HAS(error, "resolution");
	}
}

/* An interface with one option of this code and length. */
static void check_option(unsigned code, unsigned len, const char *part)
{
	struct bytes bytes = {0};
	size_t start;

	section(&bytes);
	start = block_begin(&bytes, 1);
	put64(&bytes, 1);
	put16(&bytes, code);
	put16(&bytes, len);
	put64(&bytes, 0);
	block_end(&bytes, start);
	CHECK_EQ(open_fails(save("option.pcapng", &bytes)), -EINVAL);
	CHECK_HAS(error, part);
}

TEST(pcapng_options_that_would_spoil_the_times_are_refused)
{
	check_option(9, 0, "resolution");
	check_option(9, 8, "resolution");
	check_option(14, 4, "offset");
	check_option(2, 9, "runs over its end");
	check_option(14, 65535, "runs over its end");
}

/* A block of `len` bytes in all, behind a section with one interface. */
static void check_short_block(uint32_t type, uint32_t len)
{
	struct bytes bytes = {0};
	size_t start;

	section(&bytes);
	interface(&bytes, 1, 0, -1, 0);
	start = block_begin(&bytes, type);
	if (type == 0x0a0d0d0a)
		put32(&bytes, 0x1a2b3c4d);
	while (bytes.len < start + len - 4)
		put(&bytes, "", 1);
	block_end(&bytes, start);
	check_breaks(save("short.pcapng", &bytes), 0, -EINVAL, "block 3 at offset 60 is damaged");
}

TEST(pcapng_blocks_that_are_too_short)
{
	check_short_block(6, 12);
	check_short_block(6, 28);
	check_short_block(3, 12);
	check_short_block(2, 28);
	check_short_block(1, 16);
	check_short_block(0x0a0d0d0a, 24);
}

TEST(pcapng_simple_and_obsolete_packets)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt[4];
	size_t start;

	section(&bytes);
	interface(&bytes, 1, 40, -1, 0);
	interface(&bytes, 101, 0, -1, 0);
	start = block_begin(&bytes, 3); /* cut to the snap length */
	put32(&bytes, 1500);
	put_frame(&bytes, 0, 40);
	block_end(&bytes, start);
	start = block_begin(&bytes, 3);
	put32(&bytes, 33);
	put_frame(&bytes, 1, 33);
	block_end(&bytes, start);
	start = block_begin(&bytes, 2);
	put16(&bytes, 1);
	put16(&bytes, 7); /* drops */
	put32(&bytes, 0);
	put32(&bytes, 2000000);
	put32(&bytes, 30);
	put32(&bytes, 31);
	put_frame(&bytes, 2, 30);
	block_end(&bytes, start);
	capture = open_all(1, save("simple.pcapng", &bytes));
	REQUIRE(capture != NULL);
	REQUIRE(capture_read(capture, pkt, 4) == 3);
	CHECK(is_frame(&pkt[0], 0, 40) && is_frame(&pkt[1], 1, 33) && is_frame(&pkt[2], 2, 30));
	CHECK_EQ(pkt[0].wirelen, 1500);
	CHECK_EQ(pkt[0].time_ns, 0);
	CHECK_EQ(pkt[2].wirelen, 31);
	CHECK_EQ(pkt[2].time_ns, 2 * SECOND);
	CHECK_EQ(pkt[2].port, 1);
	CHECK_EQ(pkt[2].linktype, 101);
	capture_close(capture);
}

TEST(pcapng_blocks_larger_than_the_buffer)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt[4];
	int count = 0, got;

	section(&bytes);
	interface(&bytes, 1, 0, -1, 0);
	enhanced(&bytes, 0, 1, 0, 60);
	unknown_block(&bytes, 3000000);
	enhanced(&bytes, 0, 1, 1, 60);
	capture = open_all(1, save("huge.pcapng", &bytes));
	REQUIRE(capture != NULL);
	while ((got = capture_read(capture, pkt, 4)) > 0)
		for (int i = 0; i < got; i++, count++)
			CHECK(is_frame(&pkt[i], (uint32_t)count, 60));
	CHECK_EQ(count, 2);
	CHECK_EQ(got, 0);
	capture_close(capture);
}

TEST(pcapng_without_packets_is_an_empty_capture)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt;

	section(&bytes);
	capture = open_all(1, save("none.pcapng", &bytes));
	REQUIRE(capture != NULL);
	CHECK_EQ(capture_read(capture, &pkt, 1), 0);
	capture_close(capture);
}

/* One good packet, then the bytes at `at` of the second packet block replaced by `value`. */
static const char *pcapng_damaged(size_t at, uint32_t value)
{
	struct bytes bytes = {0};
	size_t start;

	section(&bytes);
	interface(&bytes, 1, 0, -1, 0);
	enhanced(&bytes, 0, 1, 0, 60);
	start = bytes.len;
	enhanced(&bytes, 0, 1, 1, 60);
	memcpy(bytes.at + start + at, &value, 4);
	return save("damaged.pcapng", &bytes);
}

TEST(pcapng_damage_is_told_with_its_place)
{
	check_breaks(pcapng_damaged(4, 0), 1, -EINVAL, "block 4 at offset 164 is damaged: its length is impossible");
	check_breaks(pcapng_damaged(4, 10), 1, -EINVAL, "impossible");
	check_breaks(pcapng_damaged(4, 101), 1, -EINVAL, "impossible");
	check_breaks(pcapng_damaged(4, UINT32_MAX - 3), 1, -EINVAL, "impossible");
	check_breaks(pcapng_damaged(4, 96), 1, -EINVAL, "two lengths differ");
	check_breaks(pcapng_damaged(4, 2000), 1, -EIO, "cut off: needs 2000 bytes, 104 are left");
	check_breaks(pcapng_damaged(8, 1), 1, -EINVAL, "not described");
	check_breaks(pcapng_damaged(20, 73), 1, -EINVAL, "longer than its block");
	check_breaks(pcapng_damaged(20, UINT32_MAX), 1, -EINVAL, "longer than its block");
	check_breaks(pcapng_damaged(0, 0x0a0d0d0a), 1, -EINVAL, "without a byte order");
}

TEST(pcapng_packet_before_its_interface)
{
	struct bytes bytes = {0};

	section(&bytes);
	interface(&bytes, 1, 0, -1, 0);
	enhanced(&bytes, 0, 1, 0, 60);
	section(&bytes); /* the interfaces of the section before do not count */
	enhanced(&bytes, 0, 1, 0, 60);
	check_breaks(save("early.pcapng", &bytes), 1, -EINVAL, "not described");
}

/* ---- what is no capture ---------------------------------------------------------------------------- */

static int open_text(const char *text, size_t len)
{
	struct bytes bytes = {0};

	put(&bytes, text, len);
	return open_fails(save("text", &bytes));
}

TEST(what_is_not_a_capture_is_told_apart)
{
	CHECK_EQ(open_text("hello world", 11), -EINVAL);
	CHECK_HAS(error, "not a capture: it starts with 68 65 6c 6c 6f 20 77 6f (\"hello wo\"); pcap and pcapng");
	CHECK_EQ(open_text("ab", 2), -EINVAL);
	CHECK_HAS(error, "starts with 61 62 (\"ab\")");
	CHECK_EQ(open_text("", 0), -EINVAL);
	CHECK_HAS(error, "is empty");
	CHECK_EQ(open_text("\xfd\x37zXZ\0\0", 7), -EINVAL);
	CHECK_HAS(error, "xz -dc");
	CHECK_EQ(open_text("\xd4\xc3\xb2\xa1\2\0\4\0", 8), -EIO);
	CHECK_HAS(error, "the file header is cut off: it needs 24 bytes, 8 are there");
	CHECK_EQ(open_text("\x0a\x0d\x0d\x0a\x1c\0\0\0abcd0000", 16), -EINVAL);
	CHECK_HAS(error, "byte order");
	CHECK_EQ(open_text("\x0a\x0d\x0d\x0a\x1c\0\0\0", 8), -EIO);
}

TEST(what_cannot_be_opened_says_why)
{
	const char *paths[2] = {"-", "-"};
	struct capture *capture;

	CHECK_EQ(open_fails(path_of("missing.pcap")), -ENOENT);
	CHECK_HAS(error, "missing.pcap: cannot be opened: No such file");
	CHECK_EQ(open_fails("/tmp"), -EISDIR);
	CHECK_HAS(error, "/tmp: is a directory");
	CHECK_EQ(capture_open(&capture, paths, 2, error, sizeof error), -EINVAL);
	CHECK_HAS(error, "twice");
	CHECK_EQ(capture_open(&capture, paths, 0, error, sizeof error), -EINVAL);
	capture_close(NULL);
	if (geteuid() != 0) {
		struct bytes bytes = {0};
		const char *path;

		pcap_file(&bytes, 1, 1);
		path = save("secret.pcap", &bytes);
		chmod(path, 0);
		CHECK_EQ(open_fails(path), -EACCES);
	}
}

TEST(a_record_cut_off_comes_after_the_whole_ones)
{
	struct bytes bytes = {0};
	size_t whole;

	pcap_file(&bytes, 1000, 5);
	whole = bytes.len;
	pcap_record(&bytes, 1, 1, 1, 1514);
	bytes.len = whole + 200;
	check_breaks(save("cut.pcap", &bytes), 5, -EIO,
	             "record 6 at offset 474 is cut off: needs 1530 bytes, 200 are left; the capture was probably");
	pcap_file(&bytes, 1000, 5);
	put(&bytes, "abc", 3);
	check_breaks(save("cut2.pcap", &bytes), 5, -EIO,
	             "record 6 at offset 474 is cut off: needs 16 bytes, 3 are left");
}

TEST(an_impossible_length_is_damage)
{
	struct bytes bytes = {0};

	pcap_file(&bytes, 1000, 5);
	put64(&bytes, 1);
	put32(&bytes, 262145);
	put32(&bytes, 262145);
	check_breaks(save("length.pcap", &bytes), 5, -EINVAL, "record 6 at offset 474 is damaged: it claims 262145");
	pcap_file(&bytes, 1000, 5);
	put64(&bytes, 1);
	put64(&bytes, UINT64_MAX);
	check_breaks(save("length2.pcap", &bytes), 5, -EINVAL, "4294967295");
}

/* ---- gzip and zstd --------------------------------------------------------------------------------- */

static void gzip_onto(struct bytes *out, const uint8_t *data, size_t len)
{
	z_stream z = {0};
	size_t room = len + len / 100 + 1000;
	uint8_t *packed = malloc(room);

	deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
	z.next_in = (uint8_t *)(uintptr_t)data;
	z.avail_in = (uInt)len;
	z.next_out = packed;
	z.avail_out = (uInt)room;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	put(out, packed, room - z.avail_out);
	deflateEnd(&z);
	free(packed);
}

static void zstd_onto(struct bytes *out, const uint8_t *data, size_t len)
{
	size_t room = ZSTD_compressBound(len);
	uint8_t *packed = malloc(room);

	put(out, packed, ZSTD_compress(packed, room, data, len, 3));
	free(packed);
}

typedef void pack_onto(struct bytes *out, const uint8_t *data, size_t len);

/* A capture packed as `pieces` members or frames. */
static struct bytes packed_file(pack_onto *pack, uint32_t count, unsigned pieces)
{
	struct bytes plain = {0}, out = {0};
	size_t step;

	pcap_file(&plain, 1000, count);
	step = plain.len / pieces;
	for (unsigned i = 0; i < pieces; i++)
		pack(&out, plain.at + i * step, i + 1 == pieces ? plain.len - i * step : step);
	free(plain.at);
	return out;
}

TEST(packed_captures_in_one_or_many_pieces)
{
	pack_onto *packs[] = {gzip_onto, zstd_onto};

	for (unsigned i = 0; i < 2; i++) {
		struct bytes one = packed_file(packs[i], 6000, 1), many = packed_file(packs[i], 6000, 37);
		struct bytes small = packed_file(packs[i], 1, 1);

		check_varied(save("one.packed", &one), 6000);
		check_varied(save("many.pcap", &many), 6000); /* the name says nothing */
		check_varied(save("small.pcap", &small), 1);
	}
}

TEST(padding_and_skippable_frames_are_skipped)
{
	struct bytes bytes = packed_file(gzip_onto, 10, 2), skippable = {0}, frames = packed_file(zstd_onto, 10, 2);

	for (int i = 0; i < 1000; i++)
		put(&bytes, "", 1);
	check_varied(save("padded.gz", &bytes), 10);
	put32(&skippable, 0x184d2a53);
	put32(&skippable, 5);
	put(&skippable, "12345", 5);
	put(&skippable, frames.at, frames.len);
	free(frames.at);
	check_varied(save("skippable.zst", &skippable), 10);
}

/* Read to the end, forget it; the sentence of the failure is in `error`. */
static int read_to_failure(const char *path)
{
	struct capture *capture = open_all(1, path);
	struct mos_pkt pkt[8];
	int got;

	if (capture == NULL)
		return 0;
	while ((got = capture_read(capture, pkt, 8)) > 0)
		;
	snprintf(error, sizeof error, "%s", capture_error(capture));
	capture_close(capture);
	return got;
}

TEST(packed_data_cut_off)
{
	struct bytes gzip = packed_file(gzip_onto, 4, 1), zstd = packed_file(zstd_onto, 6000, 1);

	gzip.len -= 3; /* in the check sum: all packets are there, and the loss is told */
	check_breaks(save("cut.gz", &gzip), 4, -EIO, "the gzip data ends early, at byte");
	zstd.len -= 3;
	CHECK_EQ(read_to_failure(save("cut.zst", &zstd)), -EIO);
	CHECK_HAS(error, "cut.zst: the zstd data ends early, at byte");
}

TEST(packed_data_damaged)
{
	struct bytes gzip = packed_file(gzip_onto, 4, 1), zstd = packed_file(zstd_onto, 4, 1);

	gzip.at[gzip.len - 6] ^= 0x55;
	check_breaks(save("bad.gz", &gzip), 4, -EIO, "the gzip data is damaged near byte");
	put(&zstd, "tail", 4);
	check_breaks(save("bad.zst", &zstd), 4, -EIO, "the zstd data is damaged near byte");
}

TEST(packed_text_and_packed_nothing)
{
	struct bytes bytes = {0};

	gzip_onto(&bytes, (const uint8_t *)"hello", 5);
	CHECK_EQ(open_fails(save("text.gz", &bytes)), -EINVAL);
	CHECK_HAS(error, "not a capture: the gzip data in it starts with 68 65");
	zstd_onto(&bytes, (const uint8_t *)"", 0);
	CHECK_EQ(open_fails(save("nothing.zst", &bytes)), -EINVAL);
	CHECK_HAS(error, "is empty when unpacked");
	put(&bytes, "\x1f\x8b\x08", 3);
	CHECK_EQ(open_fails(save("stub.gz", &bytes)), -EIO);
	bytes = packed_file(gzip_onto, 3, 1);
	put(&bytes, "tail", 4);
	check_breaks(save("tail.gz", &bytes), 3, -EIO, "followed at byte");
}

/* ---- standard input ---------------------------------------------------------------------------------- */

/* Runs `use` with fd as standard input. */
static void with_stdin(int fd, void (*use)(void *), void *arg)
{
	int saved = dup(STDIN_FILENO);

	dup2(fd, STDIN_FILENO);
	close(fd);
	use(arg);
	dup2(saved, STDIN_FILENO);
	close(saved);
}

struct slow_writer {
	int fd;
	struct bytes bytes;
	size_t step;
	useconds_t pause;
};

static void *write_slowly(void *arg)
{
	struct slow_writer *writer = arg;

	for (size_t at = 0; at < writer->bytes.len; at += writer->step) {
		size_t len = writer->bytes.len - at < writer->step ? writer->bytes.len - at : writer->step;

		if (write(writer->fd, writer->bytes.at + at, len) != (ssize_t)len)
			break;
		usleep(writer->pause);
	}
	close(writer->fd);
	return NULL;
}

static void use_varied(void *arg)
{
	struct capture *capture = open_all(1, "-");
	int end = -1;

	REQUIRE(capture != NULL);
	CHECK_EQ(read_varied(capture, 1000, 64, &end), *(uint32_t *)arg);
	CHECK_EQ(end, 0);
	CHECK_EQ(capture_size(capture), 0);
	capture_close(capture);
	CHECK(fcntl(STDIN_FILENO, F_GETFD) >= 0); /* standard input is not ours to close */
}

static void through_pipe(struct bytes bytes, size_t step, useconds_t pause, void (*use)(void *), void *arg)
{
	struct slow_writer writer = {.bytes = bytes, .step = step, .pause = pause};
	pthread_t thread;
	int ends[2];

	REQUIRE(pipe(ends) == 0);
	writer.fd = ends[1];
	REQUIRE(pthread_create(&thread, NULL, write_slowly, &writer) == 0);
	with_stdin(ends[0], use, arg);
	pthread_join(thread, NULL);
	free(bytes.at);
}

TEST(standard_input_plain_and_packed)
{
	struct bytes bytes = {0};
	uint32_t count = 3000, few = 20;

	pcap_file(&bytes, 1000, count);
	through_pipe(bytes, 10007, 0, use_varied, &count);
	through_pipe(packed_file(gzip_onto, count, 3), 4099, 0, use_varied, &count);
	through_pipe(packed_file(zstd_onto, count, 3), 4099, 0, use_varied, &count);
	bytes = (struct bytes){0};
	pcap_file(&bytes, 1000, few);
	through_pipe(bytes, 300, 1000, use_varied, &few);
	through_pipe(packed_file(gzip_onto, few, 2), 1, 20, use_varied, &few);
}

static void use_counting_turns(void *arg)
{
	struct capture *capture = open_all(1, "-");
	struct mos_pkt pkt[64];
	int got, turns = 0, count = 0;

	REQUIRE(capture != NULL);
	while ((got = capture_read(capture, pkt, 64)) != 0) {
		REQUIRE(got > 0 || got == -EAGAIN);
		turns += got == -EAGAIN;
		count += got > 0 ? got : 0;
	}
	CHECK_EQ(count, 3);
	CHECK(turns >= 2);
	CHECK_STR(capture_error(capture), "");
	capture_close(capture);
	(void)arg;
}

TEST(a_silent_pipe_gives_the_caller_a_turn)
{
	struct bytes bytes = {0};

	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, 1);
	for (uint32_t n = 0; n < 3; n++)
		pcap_record(&bytes, n, 0, n, 8);
	through_pipe(bytes, 24, 120000, use_counting_turns, NULL);
}

static void on_signal(int number)
{
	(void)number;
}

static void *signal_soon(void *arg)
{
	usleep(20000);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void use_interrupted(void *arg)
{
	struct sigaction action = {.sa_handler = on_signal};
	pthread_t self = pthread_self(), thread;
	struct capture *capture;
	const char *path = "-";

	(void)arg;
	sigaction(SIGUSR1, &action, NULL);
	REQUIRE(pthread_create(&thread, NULL, signal_soon, &self) == 0);
	CHECK_EQ(capture_open(&capture, &path, 1, error, sizeof error), -EINTR);
	CHECK_HAS(error, "standard input: interrupted");
	pthread_join(thread, NULL);
}

TEST(a_signal_ends_the_wait_for_a_header)
{
	int ends[2];

	REQUIRE(pipe(ends) == 0);
	with_stdin(ends[0], use_interrupted, NULL);
	close(ends[1]);
}

static void use_terminal(void *arg)
{
	(void)arg;
	CHECK_EQ(open_fails("-"), -EINVAL);
	CHECK_HAS(error, "standard input: is a terminal; give the name of a capture");
}

TEST(a_terminal_is_refused_with_advice)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;

	if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 ||
	    (slave = open(ptsname(master), O_RDWR | O_NOCTTY)) < 0) {
		printf("skipped: no pseudo-terminals here\n");
		return;
	}
	with_stdin(slave, use_terminal, NULL);
	close(master);
}

static void use_rest(void *arg)
{
	struct capture *capture;
	int end = -1;

	REQUIRE(lseek(STDIN_FILENO, 5, SEEK_SET) == 5);
	capture = open_all(1, "-");
	REQUIRE(capture != NULL);
	CHECK_EQ(read_varied(capture, 1000, 64, &end), 10);
	CHECK_EQ(capture_size(capture), *(size_t *)arg);
	CHECK_EQ(capture_position(capture), *(size_t *)arg);
	capture_close(capture);
}

TEST(standard_input_from_a_file_has_a_size)
{
	struct bytes bytes = {0};
	size_t size;

	put(&bytes, "12345", 5); /* read by somebody before us */
	pcap_file(&bytes, 1000, 10);
	size = bytes.len - 5;
	with_stdin(open(save("rest.pcap", &bytes), O_RDONLY), use_rest, &size);
}

TEST(position_moves_with_the_packets)
{
	struct bytes bytes = {0};
	struct capture *capture;
	struct mos_pkt pkt;
	uint64_t size;

	pcap_file(&bytes, 1000, 3);
	size = bytes.len;
	capture = open_all(1, save("position.pcap", &bytes));
	REQUIRE(capture != NULL);
	CHECK_EQ(capture_size(capture), size);
	CHECK_EQ(capture_position(capture), 24);
	for (uint32_t n = 0, at = 24; n < 3; n++) {
		CHECK_EQ(capture_read(capture, &pkt, 1), 1);
		at += 16 + varied(n);
		CHECK_EQ(capture_position(capture), at);
	}
	capture_close(capture);
}

/* ---- merging ------------------------------------------------------------------------------------------- */

/* Records of file `which` every `step` seconds, frame numbers which * 100000 + n. */
static const char *merge_file(uint32_t which, uint32_t first, uint32_t step, uint32_t count)
{
	struct bytes bytes = {0};
	char name[32];

	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, which);
	for (uint32_t n = 0; n < count; n++)
		pcap_record(&bytes, first + n * step, 0, which * 100000 + n, 100 + which);
	snprintf(name, sizeof name, "merge%u.pcap", which);
	return save(name, &bytes);
}

/* Every packet is the next one of its file, none is earlier than the one before, ties go by file. */
static void check_merged(struct capture *capture, unsigned burst, const uint32_t *counts, uint32_t files)
{
	static struct mos_pkt pkt[4096];
	uint32_t seen[8] = {0};
	uint64_t last = 0;
	unsigned last_port = 0;
	int got;

	while ((got = capture_read(capture, pkt, burst)) > 0) {
		for (int i = 0; i < got; i++) {
			unsigned port = pkt[i].port;

			REQUIRE(port < files);
			CHECK_EQ(pkt[i].linktype, port);
			CHECK(is_frame(&pkt[i], port * 100000 + seen[port]++, 100 + port));
			CHECK(pkt[i].time_ns > last || (pkt[i].time_ns == last && port >= last_port));
			last = pkt[i].time_ns;
			last_port = port;
		}
	}
	CHECK_EQ(got, 0);
	for (uint32_t i = 0; i < files; i++)
		CHECK_EQ(seen[i], counts[i]);
}

TEST(merged_files_are_in_time_order_and_ties_in_argument_order)
{
	const unsigned bursts[] = {1, 64, 4096};
	const uint32_t counts[4] = {20000, 10000, 0, 17000};
	const char *paths[4] = {merge_file(0, 100, 1, 20000), merge_file(1, 100, 2, 10000), merge_file(2, 0, 1, 0),
	                        merge_file(3, 5000, 1, 17000)};

	for (unsigned i = 0; i < 3; i++) {
		struct capture *capture = open_all(4, paths[0], paths[1], paths[2], paths[3]);

		REQUIRE(capture != NULL);
		check_merged(capture, bursts[i], counts, 4);
		CHECK_EQ(capture_position(capture), capture_size(capture));
		capture_close(capture);
	}
}

static void use_merged_pipe(void *arg)
{
	const char *paths[2] = {"-", arg};
	struct capture *capture;
	struct mos_pkt pkt[64];
	uint64_t last = 0;
	int got, count = 0;

	REQUIRE(capture_open(&capture, paths, 2, error, sizeof error) == 0);
	while ((got = capture_read(capture, pkt, 64)) != 0) {
		REQUIRE(got > 0 || got == -EAGAIN);
		for (int i = 0; i < got; i++, count++) {
			CHECK(pkt[i].time_ns >= last);
			last = pkt[i].time_ns;
		}
	}
	CHECK_EQ(count, 105);
	CHECK_EQ(capture_size(capture), 0);
	capture_close(capture);
}

TEST(a_slow_pipe_is_merged_with_a_file)
{
	struct bytes bytes = {0};
	char path[96];

	strcpy(path, merge_file(1, 0, 1, 100));
	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, 1);
	for (uint32_t n = 0; n < 5; n++)
		pcap_record(&bytes, 20 * n, 0, n, 8);
	through_pipe(bytes, 24, 70000, use_merged_pipe, path);
}

TEST(merged_interfaces_have_running_numbers)
{
	struct bytes bytes = {0};
	const char *first, *second, *third;
	struct capture *capture;
	struct mos_pkt pkt[8];
	int got, count = 0;
	unsigned ports[8] = {0};

	pcapng_pair(&bytes, 0); /* interfaces 0 and 1, at 5 s */
	pcapng_pair(&bytes, 0); /* a section that comes after all files are open: 4 and 5 */
	first = save("first.pcapng", &bytes);
	second = merge_file(2, 5, 1, 1);
	pcap_header(&bytes, 0xa1b2c3d4, 2, 4, 1);
	pcap_record(&bytes, 9, 0, 0, 60);
	third = save("third.pcap", &bytes);
	capture = open_all(3, first, second, third);
	REQUIRE(capture != NULL);
	while ((got = capture_read(capture, pkt, 8)) > 0)
		for (int i = 0; i < got && count < 8; i++)
			ports[count++] = pkt[i].port;
	CHECK_EQ(count, 6);
	CHECK_EQ(ports[0], 2); /* 5.000000 s */
	CHECK_EQ(ports[1], 0); /* 5.000001 s */
	CHECK_EQ(ports[2], 1); /* 5.000000001 s, but behind it in its file */
	CHECK_EQ(ports[3], 4);
	CHECK_EQ(ports[4], 5);
	CHECK_EQ(ports[5], 3);
	capture_close(capture);
}

TEST(a_broken_file_does_not_hide_the_others)
{
	struct bytes bytes = {0};
	const char *cut, *whole;
	struct capture *capture;
	struct mos_pkt pkt[64];
	int got, count = 0;

	pcap_file(&bytes, 1000, 5);
	put(&bytes, "abc", 3);
	cut = save("cutmerge.pcap", &bytes);
	whole = merge_file(1, 900, 10, 500);
	capture = open_all(2, cut, whole);
	REQUIRE(capture != NULL);
	while ((got = capture_read(capture, pkt, 64)) > 0)
		count += got;
	CHECK_EQ(count, 505);
	CHECK_EQ(got, -EIO);
	CHECK_HAS(capture_error(capture), "cutmerge.pcap: record 6");
	CHECK_EQ(capture_read(capture, pkt, 64), -EIO);
	capture_close(capture);
}

TEST(hundreds_of_files_are_merged)
{
	enum {
		FILES = 300
	};
	struct bytes bytes = {0};
	const char *path, *paths[FILES];
	struct capture *capture;
	struct mos_pkt pkt[64];
	uint64_t last = 0;
	int got, count = 0;

	pcap_file(&bytes, 1000, 20);
	path = save("same.pcap", &bytes);
	for (int i = 0; i < FILES; i++)
		paths[i] = path;
	REQUIRE(capture_open(&capture, paths, FILES, error, sizeof error) == 0);
	while ((got = capture_read(capture, pkt, 64)) > 0) {
		for (int i = 0; i < got; i++, count++) {
			CHECK_EQ(pkt[i].port, count % FILES);
			CHECK(pkt[i].time_ns >= last);
			last = pkt[i].time_ns;
		}
	}
	CHECK_EQ(got, 0);
	CHECK_EQ(count, FILES * 20);
	capture_close(capture);
}

/* ---- arbitrary bytes ------------------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252;

static uint32_t random_below(uint32_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 33) % limit;
}

static const uint32_t nasty[] = {0,      1,      3,          4,          8,          11,         12,
                                 16,     28,     32,         0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0,
                                 262144, 262145, 0x0a0d0d0a, 0x1a2b3c4d, 0x4d3c2b1a, 6,          2};

static void mutate(struct bytes *bytes)
{
	for (uint32_t changes = 1 + random_below(4); changes > 0; changes--) {
		uint32_t at = random_below((uint32_t)bytes->len), word = nasty[random_below(21)];

		switch (random_below(4)) {
		case 0:
			bytes->at[at] = (uint8_t)random_below(256);
			break;
		case 1:
			bytes->at[at] ^= (uint8_t)(1u << random_below(8));
			break;
		case 2:
			if (at + 4 <= bytes->len)
				memcpy(bytes->at + (at & ~3u), &word, 4);
			break;
		default:
			if (random_below(8) == 0)
				bytes->len = at + 1;
		}
	}
}

/* Read to the end, every byte; the sanitizers watch. */
static void digest(const char *const *paths, int count)
{
	struct capture *capture;
	struct mos_pkt pkt[16];
	unsigned sum = 0;
	int got;

	error[0] = '\0';
	if (capture_open(&capture, paths, count, error, sizeof error) < 0) {
		CHECK(error[0] != '\0');
		return;
	}
	while ((got = capture_read(capture, pkt, 1 + random_below(16))) > 0)
		for (int i = 0; i < got; i++)
			for (uint32_t k = 0; k < pkt[i].caplen; k++)
				sum += pkt[i].frame[k];
	CHECK(got == 0 || capture_error(capture)[0] != '\0');
	CHECK(sum != 0xdeadbeef); /* so that it is computed */
	capture_close(capture);
}

static void mutate_often(struct bytes seed, unsigned rounds)
{
	const char *paths[2];
	char whole[96];

	strcpy(whole, merge_file(1, 1, 1, 20));
	for (unsigned round = 0; round < rounds; round++) {
		struct bytes bytes = {0};

		put(&bytes, seed.at, seed.len);
		mutate(&bytes);
		paths[0] = save("mutant", &bytes);
		paths[1] = whole;
		digest(paths, round % 4 == 0 ? 2 : 1);
	}
	free(seed.at);
}

TEST(random_damage_never_crashes)
{
	struct bytes pcap = {0}, swapped = {.swapped = true}, ng = {0};

	pcap_file(&pcap, 1, 6);
	pcap_header(&swapped, 0xa1b2cd34, 2, 3, 1);
	for (int i = 0; i < 20; i++)
		put64(&swapped, 0);
	for (int i = 0; i < 4; i++) {
		ng.swapped = i % 2;
		pcapng_pair(&ng, 0);
	}
	mutate_often(pcap, 1000);
	mutate_often(swapped, 500);
	mutate_often(ng, 4000);
	mutate_often(packed_file(gzip_onto, 40, 3), 700);
	mutate_often(packed_file(zstd_onto, 40, 3), 700);
}
