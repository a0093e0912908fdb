/*
 * capture_pcapng.c - the pcapng format: sections of blocks, each with its length at both ends.
 *
 * draft-ietf-opsawg-pcapng: section headers in either byte order, any number of them; interfaces
 * with their own link type, time resolution (if_tsresol) and offset (if_tsoffset); enhanced,
 * simple and the obsolete packet blocks.  Every other block is skipped.
 * A simple packet has no time; it gets 0, as in libpcap.
 */
#include "capture_internal.h"

#define BLOCK_SECTION 0x0a0d0d0au
#define BYTE_ORDER_MAGIC 0x1a2b3c4du

enum {
	BLOCK_INTERFACE = 1,
	BLOCK_PACKET = 2, /* obsolete */
	BLOCK_SIMPLE = 3,
	BLOCK_ENHANCED = 6,

	BLOCK_MIN = 12, /* type, length, length */
	SECTION_MIN = 28,
	INTERFACE_MIN = 20,
	SIMPLE_MIN = 16,
	ENHANCED_MIN = 32, /* and of the obsolete one */

	OPTION_END = 0,
	OPTION_TSRESOL = 9,
	OPTION_TSOFFSET = 14,

	MAX_INTERFACES = 65536
};

static const uint64_t second_ns = 1000000000;

/* Damage in the block at file->start. */
static bool fail_block(struct capture_file *file, const char *what)
{
	capture_file_fail(file, EINVAL, "block %llu at offset %llu is damaged: %s",
	                  (unsigned long long)file->records + 1, (unsigned long long)(file->offset + file->start),
	                  what);
	return false;
}

/* ---- sections and interfaces ----------------------------------------------------------------- */

/* The byte order may change here, so this is looked at before the length is. */
static bool section_order(struct capture_file *file, const uint8_t *at)
{
	uint32_t magic = capture_get32(at + 8, false);

	if (magic != BYTE_ORDER_MAGIC && magic != __builtin_bswap32(BYTE_ORDER_MAGIC))
		return fail_block(file, "a section header without a byte order");
	file->swapped = magic != BYTE_ORDER_MAGIC;
	return true;
}

static bool begin_section(struct capture_file *file, const uint8_t *at, uint32_t len)
{
	unsigned major;

	if (len < SECTION_MIN)
		return fail_block(file, "a section header that is too short");
	major = capture_get16(at + 12, file->swapped);
	if (major != 1) {
		capture_file_fail(file, EINVAL, "is a pcapng file of version %u; version 1 is read", major);
		return false;
	}
	file->interface_count = 0;
	return true;
}

/* if_tsresol: ticks in a second, 10^n, or 2^n with the top bit set; 0 = more than 64 bits hold. */
static uint64_t resolution_of(uint8_t option)
{
	uint64_t resolution = 1;

	if (option & 0x80)
		return (option & 0x7f) > 63 ? 0 : resolution << (option & 0x7f);
	if (option > 19)
		return 0;
	while (option-- > 0)
		resolution *= 10;
	return resolution;
}

static bool set_resolution(struct capture_file *file, struct pcapng_interface *interface, const uint8_t *at,
                           unsigned len)
{
	interface->resolution = len == 1 ? resolution_of(*at) : 0;
	if (interface->resolution == 0)
		return fail_block(file, "a time resolution that is not one byte, or needs more than 64 bits");
	return true;
}

static bool set_offset(struct capture_file *file, struct pcapng_interface *interface, const uint8_t *at, unsigned len)
{
	uint64_t offset;

	if (len != sizeof offset)
		return fail_block(file, "a time offset that is not 64 bits long");
	memcpy(&offset, at, sizeof offset);
	interface->offset_s = (int64_t)(file->swapped ? __builtin_bswap64(offset) : offset);
	return true;
}

/* Blocks and options are padded to four bytes, so what is left is a multiple of that. */
static bool interface_options(struct capture_file *file, struct pcapng_interface *interface, const uint8_t *at,
                              const uint8_t *end)
{
	while (end - at >= 4) {
		unsigned code = capture_get16(at, file->swapped);
		unsigned len = capture_get16(at + 2, file->swapped);

		at += 4;
		if (code == OPTION_END)
			return true;
		if ((size_t)(end - at) < len)
			return fail_block(file, "an option runs over its end");
		if (code == OPTION_TSRESOL && !set_resolution(file, interface, at, len))
			return false;
		if (code == OPTION_TSOFFSET && !set_offset(file, interface, at, len))
			return false;
		at += (len + 3) & ~3u;
	}
	return true;
}

static struct pcapng_interface *new_interface(struct capture_file *file)
{
	if (file->interface_count == file->interface_room) {
		uint32_t room = file->interface_room ? file->interface_room * 2 : 4;
		struct pcapng_interface *more = realloc(file->interfaces, room * sizeof *more);

		if (more == NULL) {
			capture_file_fail(file, ENOMEM, "no memory for %u interfaces", room);
			return NULL;
		}
		file->interfaces = more;
		file->interface_room = room;
	}
	return &file->interfaces[file->interface_count];
}

static bool add_interface(struct capture_file *file, const uint8_t *at, uint32_t len)
{
	struct pcapng_interface *interface;

	if (len < INTERFACE_MIN)
		return fail_block(file, "an interface description that is too short");
	if (file->interface_count == MAX_INTERFACES)
		return fail_block(file, "it describes more than 65536 interfaces");
	interface = new_interface(file);
	if (interface == NULL)
		return false;
	*interface = (struct pcapng_interface){
		.linktype = capture_get16(at + 8, file->swapped),
		.snaplen = capture_get32(at + 12, file->swapped),
		.resolution = 1000000,
	};
	if (!interface_options(file, interface, at + 16, at + len - 4))
		return false;
	if (second_ns % interface->resolution == 0 && interface->offset_s == 0) {
		interface->tick_ns = second_ns / interface->resolution;
		interface->max_ticks = (uint64_t)INT64_MAX / interface->tick_ns;
	}
	interface->port = capture_take_port(file);
	file->interface_count++;
	return true;
}

/* ---- packets ----------------------------------------------------------------------------------- */

/* Any resolution and offset, held inside 0 .. 2262, where signed 64-bit times end. */
__attribute__((noinline)) static uint64_t slow_time(const struct pcapng_interface *interface, uint64_t ticks)
{
	__int128 seconds = (__int128)(ticks / interface->resolution) + interface->offset_s;
	__int128 fraction = (__int128)(ticks % interface->resolution) * second_ns / interface->resolution;
	__int128 time = seconds * second_ns + fraction;

	if (time < 0)
		return 0;
	return time > INT64_MAX ? INT64_MAX : (uint64_t)time;
}

static inline uint64_t time_of(const struct pcapng_interface *interface, uint32_t high, uint32_t low)
{
	uint64_t ticks = (uint64_t)high << 32 | low;

	if (interface->tick_ns != 0 && ticks <= interface->max_ticks)
		return ticks * interface->tick_ns;
	return slow_time(interface, ticks);
}

/* The enhanced block, and the obsolete one, which differs in the interface number only. */
static inline bool enhanced(struct capture_file *file, const uint8_t *at, uint32_t len, uint32_t number,
                            struct mos_pkt *pkt)
{
	const bool swapped = file->swapped;
	const struct pcapng_interface *interface;
	uint32_t caplen;

	if (len < ENHANCED_MIN)
		return fail_block(file, "a packet block that is too short");
	if (number >= file->interface_count)
		return fail_block(file, "a packet of an interface that is not described before it");
	caplen = capture_get32(at + 20, swapped);
	if (caplen > len - ENHANCED_MIN)
		return fail_block(file, "the packet is longer than its block");
	interface = &file->interfaces[number];
	pkt->frame = at + 28;
	pkt->time_ns = time_of(interface, capture_get32(at + 12, swapped), capture_get32(at + 16, swapped));
	pkt->caplen = caplen;
	pkt->wirelen = capture_get32(at + 24, swapped);
	pkt->linktype = interface->linktype;
	pkt->port = interface->port;
	pkt->mbuf = NULL;
	return true;
}

static bool simple(struct capture_file *file, const uint8_t *at, uint32_t len, struct mos_pkt *pkt)
{
	const struct pcapng_interface *interface = file->interfaces;
	uint32_t caplen;

	if (len < SIMPLE_MIN)
		return fail_block(file, "a packet block that is too short");
	if (file->interface_count == 0)
		return fail_block(file, "a packet before any interface is described");
	pkt->wirelen = capture_get32(at + 8, file->swapped);
	caplen = pkt->wirelen;
	if (interface->snaplen != 0 && caplen > interface->snaplen)
		caplen = interface->snaplen;
	if (caplen > len - SIMPLE_MIN)
		return fail_block(file, "the packet is longer than its block");
	pkt->frame = at + 12;
	pkt->time_ns = 0;
	pkt->caplen = caplen;
	pkt->linktype = interface->linktype;
	pkt->port = interface->port;
	pkt->mbuf = NULL;
	return true;
}

/* ---- blocks ------------------------------------------------------------------------------------- */

/* The whole block at file->start is in the buffer and its two lengths agree; else see need, failure. */
static inline bool next_block(struct capture_file *file, uint32_t *type, uint32_t *len)
{
	const uint8_t *at = file->buf + file->start;
	const size_t left = file->end - file->start;

	file->need = BLOCK_MIN;
	if (left < BLOCK_MIN)
		return false;
	*type = capture_get32(at, file->swapped);
	if (*type == BLOCK_SECTION && !section_order(file, at))
		return false;
	*len = capture_get32(at + 4, file->swapped);
	if (*len < BLOCK_MIN || *len % 4 != 0 || *len > CAPTURE_MAX_BLOCK)
		return fail_block(file, "its length is impossible");
	file->need = *len;
	if (left < *len)
		return false;
	if (capture_get32(at + *len - 4, file->swapped) != *len)
		return fail_block(file, "its two lengths differ");
	return true;
}

static bool is_packet(uint32_t type)
{
	return type == BLOCK_ENHANCED || type == BLOCK_PACKET || type == BLOCK_SIMPLE;
}

static void block_done(struct capture_file *file, uint32_t len)
{
	file->start += len;
	file->records++;
}

static bool describe(struct capture_file *file, uint32_t type, uint32_t len)
{
	const uint8_t *at = file->buf + file->start;

	if (type == BLOCK_SECTION)
		return begin_section(file, at, len);
	if (type == BLOCK_INTERFACE)
		return add_interface(file, at, len);
	return true;
}

unsigned capture_pcapng_walk(struct capture_file *file, struct mos_pkt *pkt, unsigned max)
{
	unsigned count = 0;
	uint32_t type, len;

	while (count < max && next_block(file, &type, &len)) {
		const uint8_t *at = file->buf + file->start;
		bool good;

		if (type == BLOCK_ENHANCED)
			good = enhanced(file, at, len, capture_get32(at + 8, file->swapped), &pkt[count]);
		else if (type == BLOCK_PACKET)
			good = enhanced(file, at, len, capture_get16(at + 8, file->swapped), &pkt[count]);
		else if (type == BLOCK_SIMPLE)
			good = simple(file, at, len, &pkt[count]);
		else
			good = describe(file, type, len);
		if (!good)
			break;
		count += is_packet(type);
		block_done(file, len);
	}
	return count;
}

/*
 * The leading blocks are read while opening, so that a damaged header is said at once.  On a pipe
 * the first packet may be long in coming: without to_packet it is not waited for.
 */
int capture_pcapng_open(struct capture_file *file, bool to_packet)
{
	file->format = CAPTURE_PCAPNG;
	file->need = BLOCK_MIN;
	for (;;) {
		uint32_t type, len;
		int got = capture_file_fill_header(file);

		if (got < 0)
			return got;
		if (got == 0)
			return 0;
		if (!next_block(file, &type, &len)) {
			if (file->failure != 0)
				return file->failure;
			continue;
		}
		if (is_packet(type))
			return 0;
		if (!describe(file, type, len))
			return file->failure;
		block_done(file, len);
		if (type == BLOCK_INTERFACE && !to_packet)
			return 0;
		file->need = BLOCK_MIN;
	}
}
