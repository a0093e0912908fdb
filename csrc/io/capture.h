/*
 * capture.h - our capture reader: pcap and pcapng records walked in place in large read(2)
 * buffers; plain files, gzip, zstd and standard input are byte sources underneath.
 *
 * Units: ns, bytes.  Threads: one thread per capture.
 * Ownership: the frames of a burst are valid until the next capture_read() or capture_close().
 * Errors: -errno, and capture_error() gives the sentence.
 * Formats: pcap (draft-ietf-opsawg-pcap, pcap-savefile(5)) and pcapng (draft-ietf-opsawg-pcapng),
 * told by their first bytes, not by the name.
 * `port` numbers the interfaces of all files as they appear: a pcap file has one, a pcapng file one
 * per interface description.  `linktype` is the file's own number, 65535 if it needs more bits.
 */
#ifndef MOS_IO_CAPTURE_H
#define MOS_IO_CAPTURE_H

#include "../packet/pkt.h"

struct capture;

/*
 * Open `count` files ("-" = standard input); with more than one, their packets come merged by
 * time, ties in argument order.  The headers are read and checked here.
 * On failure returns -errno (ENOENT, EACCES, EISDIR, EINVAL = not a capture, ENOMEM, ...) and writes a sentence
 * to err.
 */
int capture_open(struct capture **capture, const char *const *paths, int count, char *err, size_t errlen);

/*
 * Fill up to `max` packets (frame, time_ns, caplen, wirelen, linktype, port).
 * Returns how many; 0 = end of input; -errno when the input is broken: a record cut off by the
 * end of the file, an impossible length, a read error.  Packets before the break are always
 * returned first; when files are merged, the unbroken ones are read to their ends as well.
 * -EAGAIN is no failure: a pipe has been silent for 50 ms or a signal came; look at the signals
 * and call again.  Files never give it.
 */
int capture_read(struct capture *capture, struct mos_pkt *pkt, unsigned max);

/* The sentence of the last failure: file, offset, what is wrong. */
const char *capture_error(const struct capture *capture);

/* Input bytes consumed (compressed size), and the total or 0 when unknown. */
uint64_t capture_position(const struct capture *capture);
uint64_t capture_size(const struct capture *capture);

void capture_close(struct capture *capture);

#endif
