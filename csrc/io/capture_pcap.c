/*
 * capture_pcap.c - the pcap format: a 24-byte header, then records.
 *
 * draft-ietf-opsawg-pcap (also pcap-savefile(5)): microsecond and nanosecond files in either byte
 * order.  Read besides, as libpcap does: the "modified" format of old Linux patches (24-byte
 * record headers), and the length order of versions before 2.4.
 * A frame longer than the header's snap length is kept whole: segmentation offload makes such
 * frames, and their bytes are in the file.
 */
#include "capture_internal.h"

enum {
	FILE_HEADER = 24,
	RECORD_HEADER = 16,
	RECORD_HEADER_MODIFIED = 24
};

#define MAGIC_NS 0xa1b23c4du
#define MAGIC_MODIFIED 0xa1b2cd34u

/* Which of the two length words comes first. */
enum pcap_lengths {
	LENGTHS_CAPTURED_FIRST,      /* since 2.4 */
	LENGTHS_SMALLER_IS_CAPTURED, /* 2.3: written both ways */
	LENGTHS_WIRE_FIRST           /* before, and DG/UX */
};

/* ---- the file header ---------------------------------------------------------------------- */

static int check_version(struct capture_file *file, unsigned major, unsigned minor)
{
	if (major == 543 && minor == 0) { /* DG/UX tcpdump */
		file->pcap.lengths = LENGTHS_WIRE_FIRST;
		return 0;
	}
	if (major != 2 || minor > 4)
		return capture_file_fail(file, EINVAL,
		                         "is a pcap file of version %u.%u; versions "
		                         "2.0 to 2.4 are read",
		                         major, minor);
	file->pcap.lengths = minor == 4   ? LENGTHS_CAPTURED_FIRST
	                     : minor == 3 ? LENGTHS_SMALLER_IS_CAPTURED
	                                  : LENGTHS_WIRE_FIRST;
	return 0;
}

int capture_pcap_open(struct capture_file *file, uint32_t magic)
{
	const uint8_t *at;
	uint32_t linktype;
	int got;

	file->format = CAPTURE_PCAP;
	file->need = FILE_HEADER;
	got = capture_file_fill_header(file);
	if (got < 0)
		return got;
	at = file->buf + file->start;
	if (check_version(file, capture_get16(at + 4, file->swapped), capture_get16(at + 6, file->swapped)) < 0)
		return file->failure;
	/* the upper six bits say how long a frame check sequence follows each frame */
	linktype = capture_get32(at + 20, file->swapped) & 0x03ffffff;
	file->pcap.linktype = linktype > UINT16_MAX ? UINT16_MAX : (uint16_t)linktype;
	file->pcap.max_caplen = capture_max_caplen(linktype);
	file->pcap.head_len = magic == MAGIC_MODIFIED ? RECORD_HEADER_MODIFIED : RECORD_HEADER;
	file->pcap.fraction_ns = magic == MAGIC_NS ? 1 : 1000;
	file->pcap.port = capture_take_port(file);
	file->start += FILE_HEADER;
	file->need = file->pcap.head_len;
	return 0;
}

/* ---- the records --------------------------------------------------------------------------- */

static void fail_length(struct capture_file *file, size_t start, uint64_t number, uint32_t caplen)
{
	capture_file_fail(file, EINVAL,
	                  "record %llu at offset %llu is damaged: it claims %u "
	                  "captured bytes, and no frame has more than %u",
	                  (unsigned long long)number, (unsigned long long)(file->offset + start), caplen,
	                  file->pcap.max_caplen);
}

/*
 * Inlined twice, with a constant layout for nearly all files (`common`: our byte order, 16-byte
 * headers, captured length first), so that the loop there has one test per packet and limit.
 */
__attribute__((always_inline)) static inline unsigned walk(struct capture_file *file, struct mos_pkt *pkt, unsigned max,
                                                           bool common)
{
	const struct pcap_layout layout = file->pcap;
	const uint32_t head_len = common ? RECORD_HEADER : layout.head_len;
	const bool swapped = common ? false : file->swapped;
	const uint8_t *at = file->buf + file->start, *end = file->buf + file->end;
	unsigned count = 0;

	file->need = head_len;
	while (count < max && (size_t)(end - at) >= head_len) {
		uint32_t caplen = capture_get32(at + 8, swapped);
		uint32_t wirelen = capture_get32(at + 12, swapped);

		if (!common && layout.lengths != LENGTHS_CAPTURED_FIRST &&
		    (layout.lengths == LENGTHS_WIRE_FIRST || caplen > wirelen)) {
			uint32_t first = caplen;

			caplen = wirelen;
			wirelen = first;
		}
		if (__builtin_expect(caplen > layout.max_caplen, 0)) {
			fail_length(file, (size_t)(at - file->buf), file->records + count + 1, caplen);
			break;
		}
		if ((size_t)(end - at) - head_len < caplen) {
			file->need = head_len + (size_t)caplen;
			break;
		}
		pkt->frame = at + head_len;
		pkt->time_ns = capture_get32(at, swapped) * UINT64_C(1000000000) +
		               capture_get32(at + 4, swapped) * (uint64_t)layout.fraction_ns;
		pkt->caplen = caplen;
		pkt->wirelen = wirelen;
		pkt->linktype = layout.linktype;
		pkt->port = layout.port;
		pkt->mbuf = NULL;
		at += head_len + (size_t)caplen;
		pkt++;
		count++;
	}
	file->start = (size_t)(at - file->buf);
	file->records += count;
	return count;
}

unsigned capture_pcap_walk(struct capture_file *file, struct mos_pkt *pkt, unsigned max)
{
	if (!file->swapped && file->pcap.head_len == RECORD_HEADER && file->pcap.lengths == LENGTHS_CAPTURED_FIRST)
		return walk(file, pkt, max, true);
	return walk(file, pkt, max, false);
}
