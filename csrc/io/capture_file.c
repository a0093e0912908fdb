/*
 * capture_file.c - one capture file: what format it is, its buffer, its errors.
 *
 * The records are walked in capture_pcap.c and capture_pcapng.c; see capture_internal.h.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "capture_internal.h"

enum {
	MAGIC_BYTES = 4
};

int capture_file_fail(struct capture_file *file, int error, const char *format, ...)
{
	va_list args;
	int used = snprintf(file->error, sizeof file->error, "%s: ", file->name);

	if (used >= 0 && (size_t)used < sizeof file->error) {
		va_start(args, format);
		vsnprintf(file->error + used, sizeof file->error - (size_t)used, format, args);
		va_end(args);
	}
	file->failure = -error;
	return -error;
}

/* ---- the buffer of one file ---------------------------------------------------------------- */

/* Growing follows the bytes that really came, so a damaged length cannot ask for much. */
static int make_room(struct capture_file *file)
{
	if (file->start > 0) {
		file->end -= file->start;
		memmove(file->buf, file->buf + file->start, file->end);
		file->offset += file->start;
		file->start = 0;
	}
	if (file->end == file->cap) {
		uint8_t *more = realloc(file->buf, file->cap * 2);

		if (more == NULL)
			return capture_file_fail(file, ENOMEM, "no memory for a record of %zu bytes", file->need);
		file->buf = more;
		file->cap *= 2;
	}
	return 0;
}

static int at_end(struct capture_file *file)
{
	const size_t left = file->end - file->start;
	const uint64_t offset = file->offset + file->start;

	if (left == 0 || file->format == CAPTURE_UNKNOWN)
		return 0;
	if (offset == 0)
		return capture_file_fail(file, EIO,
		                         "the file header is cut off: it needs %zu bytes, "
		                         "%zu are there",
		                         file->need, left);
	return capture_file_fail(file, EIO,
	                         "%s %llu at offset %llu is cut off: needs %zu bytes, %zu "
	                         "are left; the capture was probably interrupted",
	                         file->format == CAPTURE_PCAP ? "record" : "block",
	                         (unsigned long long)file->records + 1, (unsigned long long)offset, file->need, left);
}

int capture_file_fill(struct capture_file *file)
{
	while (file->end - file->start < file->need) {
		ssize_t got;

		if (make_room(file) < 0)
			return file->failure;
		got = byte_source_read(file->source, file->buf + file->end, file->cap - file->end);
		if (got == 0)
			return at_end(file);
		if (got == -EAGAIN || got == -EINTR)
			return (int)got;
		if (got < 0) {
			snprintf(file->error, sizeof file->error, "%s", byte_source_error(file->source));
			file->failure = (int)got;
			return file->failure;
		}
		file->end += (size_t)got;
	}
	return 1;
}

int capture_file_fill_header(struct capture_file *file)
{
	int got;

	do {
		got = capture_file_fill(file);
	} while (got == -EAGAIN);
	if (got == -EINTR)
		return capture_file_fail(file, EINTR, "interrupted while waiting for the file header");
	return got;
}

int capture_file_read(struct capture_file *file, struct mos_pkt *pkt, unsigned max)
{
	for (;;) {
		unsigned count = file->failure == 0 ? capture_file_walk(file, pkt, max) : 0;
		int got;

		if (count > 0)
			return (int)count;
		if (file->failure != 0)
			return file->failure;
		got = capture_file_fill(file);
		if (got <= 0)
			return got;
	}
}

/* ---- opening ------------------------------------------------------------------------------- */

static const char *advice_for(const uint8_t *at, size_t len)
{
	static const struct {
		const char *magic;
		size_t len;
		const char *advice;
	} known[] = {
		{"\xfd"
	         "7zXZ",
	         5, "this is xz: unpack it first (xz -dc FILE | ... -)"},
		{"BZh", 3, "this is bzip2: unpack it first (bzip2 -dc FILE | ... -)"},
		{"\x04\x22\x4d\x18", 4, "this is lz4: unpack it first (lz4 -dc FILE | ... -)"},
		{"PK\x03\x04", 4, "this is a zip archive: unpack it first"},
		{"snoop", 5, "this is a snoop capture: editcap turns it into pcapng"},
		{"GMBU", 4, "this is a Network Monitor capture: editcap turns it into pcapng"},
	};

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (len >= known[i].len && memcmp(at, known[i].magic, known[i].len) == 0)
			return known[i].advice;
	return "pcap and pcapng are read, plain or packed with gzip or zstd";
}

static int not_a_capture(struct capture_file *file)
{
	const uint8_t *at = file->buf + file->start;
	const size_t left = file->end - file->start;
	const size_t shown = left < 8 ? left : 8;
	const char *packing = byte_source_packing(file->source);
	char hex[3 * 8 + 1] = "", text[8 + 1] = "";

	if (left == 0)
		return capture_file_fail(file, EINVAL, "is empty%s: a capture has at least a header",
		                         packing ? " when unpacked" : "");
	for (size_t i = 0; i < shown; i++) {
		snprintf(hex + 3 * i, 4, "%02x ", at[i]);
		text[i] = isprint(at[i]) ? (char)at[i] : '.';
	}
	hex[3 * shown - 1] = '\0';
	return capture_file_fail(file, EINVAL, "not a capture: %s%s%s %s (\"%s\"); %s", packing ? "the " : "it starts",
	                         packing ? packing : "", packing ? " data in it starts with" : " with", hex, text,
	                         advice_for(at, left));
}

int capture_file_open(struct capture_file *file, bool merging)
{
	uint32_t magic;
	int got;

	file->need = MAGIC_BYTES;
	got = capture_file_fill_header(file);
	if (got < 0)
		return got;
	if (got == 0)
		return not_a_capture(file);
	for (int turn = 0; turn < 2; turn++) {
		file->swapped = turn == 1;
		magic = capture_get32(file->buf + file->start, file->swapped);
		if (magic == 0xa1b2c3d4 || magic == 0xa1b23c4d || magic == 0xa1b2cd34)
			return capture_pcap_open(file, magic);
		if (magic == 0x0a0d0d0a) /* the same in either order */
			return capture_pcapng_open(file, merging);
	}
	return not_a_capture(file);
}
