/* byte_source.c - read(2), zlib and libzstd behind one read function.  See byte_source.h. */
#include "byte_source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum {
	IN_BYTES = 256 * 1024, /* packed bytes read at a time */
	WAIT_MS = 50,          /* how long a pipe may be silent before the caller gets a turn */
	MAGIC_BYTES = 4
};

enum packing {
	PACKING_NONE,
	PACKING_GZIP,
	PACKING_ZSTD
};

struct byte_source {
	int fd;
	bool own_fd; /* ours to close; standard input is not */
	bool regular;
	enum packing packing;
	bool between;   /* a member or frame has ended, none has begun */
	bool pending;   /* the unpacker stopped for want of room: it has more without new input */
	int failure;    /* -errno, for good */
	uint64_t taken; /* bytes read from fd */
	uint64_t size;
	size_t in_pos, in_end;
	uint8_t *in; /* packed input; for plain bytes only what detection read */
	z_stream gzip;
	ZSTD_DStream *zstd;
	char *name;
	char error[512];
};

static bool is_stdin(const char *path)
{
	return strcmp(path, "-") == 0;
}

__attribute__((format(printf, 3, 4))) static int fail(struct byte_source *source, int error, const char *format, ...)
{
	va_list args;
	int used = snprintf(source->error, sizeof source->error, "%s: ", source->name);

	if (used >= 0 && (size_t)used < sizeof source->error) {
		va_start(args, format);
		vsnprintf(source->error + used, sizeof source->error - (size_t)used, format, args);
		va_end(args);
	}
	source->failure = -error;
	return -error;
}

/* ---- bytes from the kernel --------------------------------------------------------------- */

/* Only pipes and the like are waited for; poll() on a regular file says nothing. */
static int wait_readable(const struct byte_source *source)
{
	struct pollfd fd = {.fd = source->fd, .events = POLLIN};
	int ready;

	if (source->regular)
		return 0;
	ready = poll(&fd, 1, WAIT_MS);
	if (ready < 0)
		return -errno;
	return ready == 0 ? -EAGAIN : 0;
}

static ssize_t read_fd(struct byte_source *source, void *buf, size_t len)
{
	for (;;) {
		int error = wait_readable(source);
		ssize_t got = error ? -1 : read(source->fd, buf, len);

		if (got >= 0) {
			source->taken += (uint64_t)got;
			return got;
		}
		error = error ? -error : errno;
		if (error == EINTR && source->regular)
			continue;
		if (error == EINTR || error == EAGAIN)
			return -error;
		return fail(source, error, "reading failed at byte %llu: %s", (unsigned long long)source->taken,
		            strerror(error));
	}
}

/* More packed input behind what is left; 0 = end of the file. */
static ssize_t fill(struct byte_source *source)
{
	ssize_t got;

	if (source->in_pos == source->in_end)
		source->in_pos = source->in_end = 0;
	got = read_fd(source, source->in + source->in_end, IN_BYTES - source->in_end);
	if (got > 0)
		source->in_end += (size_t)got;
	return got;
}

static ssize_t plain_read(struct byte_source *source, void *buf, size_t len)
{
	size_t left = source->in_end - source->in_pos;

	if (left == 0)
		return read_fd(source, buf, len);
	if (len > left)
		len = left;
	memcpy(buf, source->in + source->in_pos, len);
	source->in_pos += len;
	return (ssize_t)len;
}

/* ---- gzip and zstd ----------------------------------------------------------------------- */

/* Between two members zero bytes are padding (tapes, block devices); nothing else is allowed. */
static int gzip_next_member(struct byte_source *source)
{
	while (source->in_pos < source->in_end && source->in[source->in_pos] == 0)
		source->in_pos++;
	if (source->in_pos == source->in_end)
		return 0;
	if (source->in[source->in_pos] != 0x1f)
		return fail(source, EIO,
		            "the gzip data is followed at byte %llu by something else "
		            "(0x%02x ...)",
		            (unsigned long long)byte_source_position(source), source->in[source->in_pos]);
	inflateReset(&source->gzip);
	source->between = false;
	return 0;
}

/* One call of inflate(); how many bytes it made.  A failure is noted for the next read. */
static size_t gzip_step(struct byte_source *source, uint8_t *out, size_t len)
{
	z_stream *z = &source->gzip;
	int status;

	z->next_in = source->in + source->in_pos;
	z->avail_in = (uInt)(source->in_end - source->in_pos);
	z->next_out = out;
	z->avail_out = (uInt)len;
	status = inflate(z, Z_NO_FLUSH);
	source->in_pos = source->in_end - z->avail_in;
	source->pending = z->avail_out == 0;
	if (status == Z_STREAM_END) {
		source->between = true;
		source->pending = false;
	} else if (status != Z_OK && status != Z_BUF_ERROR) {
		fail(source, status == Z_MEM_ERROR ? ENOMEM : EIO, "the gzip data is damaged near byte %llu: %s",
		     (unsigned long long)byte_source_position(source), z->msg ? z->msg : zError(status));
	}
	return len - z->avail_out;
}

static size_t zstd_step(struct byte_source *source, uint8_t *out, size_t len)
{
	ZSTD_inBuffer in = {source->in, source->in_end, source->in_pos};
	ZSTD_outBuffer made = {out, len, 0};
	size_t status = ZSTD_decompressStream(source->zstd, &made, &in);

	source->in_pos = in.pos;
	source->between = status == 0;
	source->pending = !source->between && made.pos == made.size;
	if (ZSTD_isError(status)) {
		source->pending = false;
		fail(source, EIO, "the zstd data is damaged near byte %llu: %s",
		     (unsigned long long)byte_source_position(source), ZSTD_getErrorName(status));
	}
	return made.pos;
}

/* Unpack until there is something to hand out: a caller on a pipe must not wait for a full buffer. */
static ssize_t unpack(struct byte_source *source, uint8_t *buf, size_t len)
{
	if (len > 1u << 30)
		len = 1u << 30; /* zlib counts in unsigned int */
	while (source->failure == 0) {
		size_t made = 0;

		if (source->in_pos == source->in_end && !source->pending) {
			ssize_t got = fill(source);

			if (got < 0 || (got == 0 && source->between))
				return got;
			if (got == 0)
				return fail(source, EIO,
				            "the %s data ends early, at byte %llu: the file "
				            "was cut off",
				            byte_source_packing(source), (unsigned long long)source->taken);
		}
		if (source->packing == PACKING_ZSTD)
			made = zstd_step(source, buf, len);
		else if (source->between && gzip_next_member(source) < 0)
			break;
		else if (!source->between)
			made = gzip_step(source, buf, len);
		if (made > 0)
			return (ssize_t)made;
	}
	return source->failure;
}

ssize_t byte_source_read(struct byte_source *source, void *buf, size_t len)
{
	if (source->failure != 0)
		return source->failure;
	if (len == 0)
		return 0;
	if (source->packing == PACKING_NONE)
		return plain_read(source, buf, len);
	return unpack(source, buf, len);
}

/* ---- opening ------------------------------------------------------------------------------ */

/* RFC 8878 3.1: a zstd file may begin with a skippable frame, whose magic has 16 values. */
static enum packing packing_of(const uint8_t *magic, size_t len)
{
	static const uint8_t zstd[4] = {0x28, 0xb5, 0x2f, 0xfd};
	static const uint8_t skippable[3] = {0x2a, 0x4d, 0x18};

	if (len >= 2 && magic[0] == 0x1f && magic[1] == 0x8b)
		return PACKING_GZIP;
	if (len < MAGIC_BYTES)
		return PACKING_NONE;
	if (memcmp(magic, zstd, 4) == 0)
		return PACKING_ZSTD;
	if ((magic[0] & 0xf0) == 0x50 && memcmp(magic + 1, skippable, 3) == 0)
		return PACKING_ZSTD;
	return PACKING_NONE;
}

static int open_fd(struct byte_source *source, const char *path)
{
	struct stat status;
	off_t at;

	source->fd = is_stdin(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (source->fd < 0)
		return fail(source, errno, "cannot be opened: %s", strerror(errno));
	source->own_fd = !is_stdin(path);
	if (fstat(source->fd, &status) < 0)
		return fail(source, errno, "cannot be read: %s", strerror(errno));
	if (S_ISDIR(status.st_mode))
		return fail(source, EISDIR, "is a directory; give the capture files in it");
	if (isatty(source->fd))
		return fail(source, EINVAL,
		            "is a terminal; give the name of a capture, or pipe one "
		            "in: tcpdump -w - | ...");
	source->regular = S_ISREG(status.st_mode);
	if (!source->regular)
		return 0;
	at = lseek(source->fd, 0, SEEK_CUR); /* standard input may have been read from before */
	if (at >= 0 && at < status.st_size)
		source->size = (uint64_t)(status.st_size - at);
	(void)posix_fadvise(source->fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* a hint; may fail */
	return 0;
}

static int detect(struct byte_source *source)
{
	ssize_t got = 1;

	while (source->in_end < MAGIC_BYTES && got != 0) {
		got = fill(source);
		if (got == -EINTR)
			return fail(source, EINTR, "interrupted while waiting for the first bytes");
		if (got < 0 && got != -EAGAIN)
			return (int)got;
	}
	source->packing = packing_of(source->in, source->in_end);
	if (source->packing == PACKING_GZIP && inflateInit2(&source->gzip, 16 + MAX_WBITS) != Z_OK) {
		source->packing = PACKING_NONE;
		return fail(source, ENOMEM, "no memory to unpack gzip");
	}
	if (source->packing == PACKING_ZSTD && (source->zstd = ZSTD_createDStream()) == NULL)
		return fail(source, ENOMEM, "no memory to unpack zstd");
	return 0;
}

int byte_source_open(struct byte_source **result, const char *path, char *err, size_t errlen)
{
	struct byte_source *source = calloc(1, sizeof *source);
	int error;

	*result = NULL;
	if (source != NULL) {
		source->fd = -1;
		source->name = strdup(is_stdin(path) ? "standard input" : path);
		source->in = malloc(IN_BYTES);
	}
	if (source == NULL || source->name == NULL || source->in == NULL) {
		snprintf(err, errlen, "%s: no memory to open it", path);
		byte_source_close(source);
		return -ENOMEM;
	}
	error = open_fd(source, path);
	if (error == 0)
		error = detect(source);
	if (error < 0) {
		snprintf(err, errlen, "%s", source->error);
		byte_source_close(source);
		return error;
	}
	*result = source;
	return 0;
}

void byte_source_close(struct byte_source *source)
{
	if (source == NULL)
		return;
	if (source->packing == PACKING_GZIP)
		inflateEnd(&source->gzip);
	ZSTD_freeDStream(source->zstd);
	if (source->own_fd)
		close(source->fd);
	free(source->in);
	free(source->name);
	free(source);
}

/* ---- what it says about itself ------------------------------------------------------------- */

const char *byte_source_error(const struct byte_source *source)
{
	return source->error;
}

const char *byte_source_name(const struct byte_source *source)
{
	return source->name;
}

const char *byte_source_packing(const struct byte_source *source)
{
	if (source->packing == PACKING_NONE)
		return NULL;
	return source->packing == PACKING_GZIP ? "gzip" : "zstd";
}

uint64_t byte_source_position(const struct byte_source *source)
{
	return source->taken - (source->in_end - source->in_pos);
}

uint64_t byte_source_size(const struct byte_source *source)
{
	return source->size;
}
