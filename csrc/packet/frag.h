/*
 * frag.h - IP fragments back to datagrams (RFC 791 3.2, RFC 815, RFC 8200 4.5).
 *
 * decode() marks a fragment (PKT_FRAGMENT); frag_take() keeps its bytes and, with the last one
 * that was missing, makes the packet the whole datagram: raw IP, fragment fields cleared, decoded
 * again.  Atomic fragments (RFC 6946) are whole and never come here.
 *
 * A datagram is known by source, destination, identification and, for IPv4, protocol (RFC 8200
 * leaves the next header out), under a keyed hash.
 * - A datagram ends incomplete after timeout_ns of packet time; the oldest ones go when max_bytes
 *   is reached.  A fragment that does not fit even then is refused.
 * - Bytes that came before win.  A fragment that brings nothing new is a duplicate.  One that
 *   brings new bytes and old ones is taken for IPv4; for IPv6 the whole datagram is given up with
 *   all that still comes of it (RFC 5722), as Linux does.
 * - A fragment that contradicts the length of the datagram, is empty, or would end beyond 65535
 *   bytes is bad and changes nothing.  An IPv4 fragment with "more" and an odd length is cut to a
 *   multiple of 8 as Linux does; for IPv6 it is bad.
 * - Cut by the snap length: the datagram counts with all its bytes, and is captured up to the
 *   first one that is missing.
 *
 * Cost: per fragment one look-up and a copy of its bytes, whatever their order (which 8-byte units
 * are there is a bitmap); per datagram one more copy.  Nothing is allocated before the first
 * fragment.
 * Units: bytes, ns.  Errors: pkt->kind PKT_IGNORED and pkt->reason.  Threads: one per table.
 * Ownership: rebuilt frames belong to the table and live until frag_end_burst(); at most one per
 * packet of a burst, and outside of max_bytes so that the burst size changes nothing.
 */
#ifndef MOS_PACKET_FRAG_H
#define MOS_PACKET_FRAG_H

#include "decode.h"

struct frag_table {
	struct frag_datagram **bucket; /* NULL until the first fragment */
	uint32_t mask;
	struct frag_datagram *oldest, *newest; /* by their first fragment */
	struct frag_rebuilt *rebuilt;          /* of this burst */
	const struct decoder *decoder;
	uint64_t *counter; /* by enum mos_counter */
	uint64_t max_bytes, bytes;
	uint64_t timeout_ns; /* 0 = never */
};

/* `decoder` and `counter` (MOS_CNT_COUNTERS of them) must outlive the table. */
void frag_init(struct frag_table *table, const struct decoder *decoder, uint64_t *counter, uint64_t max_bytes,
               uint64_t timeout_ns);

/*
 * Take a packet of kind PKT_FRAGMENT; `now_ns` never goes back.  Afterwards it is
 * - whole: any other kind that decode() gives; `rewritten` is set, time and wirelen stay those of
 *   this frame, and fragments_wire is the sum over the earlier ones;
 * - PKT_IGNORED: IGNORED_FRAGMENT (waits for the rest), IGNORED_BAD_FRAGMENT, IGNORED_TOO_DEEP
 *   (fragments in fragments), or DROPPED_FRAGMENT_MEMORY.
 */
void frag_take(struct frag_table *table, struct mos_pkt *pkt, uint64_t now_ns);

/* Give the rebuilt frames of the burst back. */
void frag_end_burst(struct frag_table *table);

void frag_free(struct frag_table *table);

#endif
