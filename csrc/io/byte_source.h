/*
 * byte_source.h - a file, a pipe or standard input as a stream of bytes, unpacked on the way.
 *
 * What the bytes are is told by their first four, never by the name: gzip (RFC 1952, any number
 * of members), zstd (RFC 8878, any number of frames), anything else as it is.
 *
 * Units: bytes.  Threads: one thread per source.
 * Ownership: the caller's buffer is written, nothing is kept of it; `path` is copied.
 * Errors: -errno, and byte_source_error() gives the sentence, with the name and the position.
 * What was unpacked before the damage is handed out first; the error then stays.
 * Signals and waiting: a pipe that has nothing to read for 50 ms gives -EAGAIN, a signal while
 * waiting for it gives -EINTR.  Neither is a failure: call again.
 */
#ifndef MOS_IO_BYTE_SOURCE_H
#define MOS_IO_BYTE_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct byte_source;

/* Open `path` ("-" = standard input) and look at the first bytes; waits for them. */
int byte_source_open(struct byte_source **source, const char *path, char *err, size_t errlen);

/* Up to `len` bytes into buf: how many, 0 = end, -errno. */
ssize_t byte_source_read(struct byte_source *source, void *buf, size_t len);

/* The sentence of the last failure. */
const char *byte_source_error(const struct byte_source *source);

/* What to call it in a sentence: the path, or "standard input". */
const char *byte_source_name(const struct byte_source *source);

/* "gzip", "zstd", or NULL for bytes as they are. */
const char *byte_source_packing(const struct byte_source *source);

/* Bytes taken from the file so far (packed), and how many it has or 0 when unknown. */
uint64_t byte_source_position(const struct byte_source *source);
uint64_t byte_source_size(const struct byte_source *source);

void byte_source_close(struct byte_source *source);

#endif
