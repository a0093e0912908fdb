/*
 * capture_internal.h - one capture file, shared by the capture*.c files.
 *
 * A file is a buffer over a byte source.  A walker takes whole records out of the buffer in
 * place; when the next record is not whole it leaves `need`, and capture_file.c moves the rest to the
 * front and reads on.  So a walker never reads, and the buffer never moves under a burst.
 *
 * Units: bytes, ns.  Threads: one thread per capture.
 * Ownership: frames point into `buf`, valid until capture_file_fill().
 * Errors: a walker that finds damage calls capture_file_fail() and returns what it has; the
 * error is handed out by the next read and stays.
 */
#ifndef MOS_IO_CAPTURE_INTERNAL_H
#define MOS_IO_CAPTURE_INTERNAL_H

#include <stdlib.h>
#include <string.h>

#include "byte_source.h"
#include "capture.h"

enum capture_format {
	CAPTURE_UNKNOWN,
	CAPTURE_PCAP,
	CAPTURE_PCAPNG
};

/* Largest frame, and largest pcapng block, that is taken for a frame and not for damage. */
#define CAPTURE_MAX_CAPLEN (256u * 1024)
#define CAPTURE_MAX_CAPLEN_BUS (128u * 1024 * 1024)
#define CAPTURE_MAX_BLOCK (256u * 1024 * 1024)

/* How the records of a pcap file are laid out; fixed by its header. */
struct pcap_layout {
	uint32_t head_len;    /* bytes before the frame */
	uint32_t fraction_ns; /* 1000 or 1: one unit of the second time word */
	uint32_t max_caplen;
	uint16_t linktype;
	uint16_t port;
	uint8_t lengths; /* enum pcap_lengths */
};

/* An interface of a pcapng section. */
struct pcapng_interface {
	uint64_t tick_ns;    /* ns of a tick when that is whole and no offset is set, else 0 */
	uint64_t max_ticks;  /* tick_ns * max_ticks still fits */
	uint64_t resolution; /* ticks in a second */
	int64_t offset_s;
	uint32_t snaplen; /* 0 = no limit */
	uint16_t linktype;
	uint16_t port;
};

struct capture_file {
	const char *name; /* the source's */
	struct byte_source *source;
	uint8_t *buf;
	size_t cap, start, end; /* unread bytes: [start, end) */
	size_t need;            /* bytes from `start` on without which the walker is stuck */
	uint64_t offset;        /* where buf[0] is in the unpacked file */
	uint64_t records;       /* records (pcapng: blocks) walked, for messages */
	uint32_t *next_port;    /* number of the next interface of the whole capture */
	enum capture_format format;
	bool swapped; /* the other byte order than ours */
	struct pcap_layout pcap;
	struct pcapng_interface *interfaces;
	uint32_t interface_count, interface_room;
	struct mos_pkt head; /* merging: the next packet of this file */
	uint32_t index;      /* merging: position among the arguments */
	int failure;         /* -errno, for good */
	char error[512];
};

/* What format it is; the file header.  0 or -errno, sentence in file->error. */
int capture_file_open(struct capture_file *file, bool merging);

/* Up to `max` packets, reading on as needed: how many, 0 = end, -errno. */
int capture_file_read(struct capture_file *file, struct mos_pkt *pkt, unsigned max);

/*
 * Read until `need` unread bytes are there.  1 = they are, 0 = the file ended between records,
 * -errno; -EAGAIN and -EINTR (a pipe has nothing yet, a signal came) are no failure.
 */
int capture_file_fill(struct capture_file *file);

/* The same while opening: waits for a pipe, and a signal is a failure. */
int capture_file_fill_header(struct capture_file *file);

/* Note the sentence "NAME: ..." and the error; returns -error. */
int capture_file_fail(struct capture_file *file, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The file header; the magic is known to fit and is in the buffer.  0 or -errno. */
int capture_pcap_open(struct capture_file *file, uint32_t magic);
/* to_packet: go on to the first packet, so that all interfaces before it have their numbers. */
int capture_pcapng_open(struct capture_file *file, bool to_packet);

/* Up to `max` packets from the buffer; fewer: see `need` and `failure`. */
unsigned capture_pcap_walk(struct capture_file *file, struct mos_pkt *pkt, unsigned max);
unsigned capture_pcapng_walk(struct capture_file *file, struct mos_pkt *pkt, unsigned max);

static inline unsigned capture_file_walk(struct capture_file *file, struct mos_pkt *pkt, unsigned max)
{
	if (file->format == CAPTURE_PCAP)
		return capture_pcap_walk(file, pkt, max);
	return capture_pcapng_walk(file, pkt, max);
}

static inline uint32_t capture_get32(const uint8_t *at, bool swapped)
{
	uint32_t value;

	memcpy(&value, at, sizeof value);
	return swapped ? __builtin_bswap32(value) : value;
}

static inline uint16_t capture_get16(const uint8_t *at, bool swapped)
{
	uint16_t value;

	memcpy(&value, at, sizeof value);
	return swapped ? __builtin_bswap16(value) : value;
}

/* Interfaces are numbered as they appear; past 65535 they share the last number. */
static inline uint16_t capture_take_port(struct capture_file *file)
{
	uint32_t port = *file->next_port;

	if (port < UINT16_MAX)
		*file->next_port = port + 1;
	return (uint16_t)port;
}

/* LINKTYPE_DBUS, _USB_LINUX, _USB_LINUX_MMAPPED, _USBPCAP and _EBHSCR carry whole transfers. */
static inline uint32_t capture_max_caplen(uint32_t linktype)
{
	switch (linktype) {
	case 231:
	case 189:
	case 220:
	case 249:
	case 279:
		return CAPTURE_MAX_CAPLEN_BUS;
	default:
		return CAPTURE_MAX_CAPLEN;
	}
}

#endif
