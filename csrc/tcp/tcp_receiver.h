/*
 * tcp_receiver.h - what the receiver of a segment now knows (RFC 9293 3.10.7.4), and the bytes
 * it got.
 */
#ifndef MOS_TCP_RECEIVER_H
#define MOS_TCP_RECEIVER_H

#include "segment.h"
#include "stream.h"

/* After the HK_SND callbacks, before those of HK_RCV: moves the receiver's state. */
void tcp_receiver_update(struct segment *segment);

/* How far the receiver of `side`'s data can read, as a rel number of the first byte not there. */
int64_t tcp_readable_edge(const struct flow *flow, int side);

enum {
	/* An ACK may be captured before the data it covers: wait this long before a hole below it
	 * is given up. */
	GAP_HOLD_PACKETS = 64,  /* of the flow */
	GAP_HOLD_NS = 100000000 /* of packet time */
};

/*
 * Give up the holes of `side`'s direction that its receiver has acknowledged, when the wait is
 * over or `at_once`.  Returns true when something was skipped: *at and *bytes say where the gap
 * begins and how much is missing.
 */
bool tcp_skip_gap(struct flow *flow, int side, uint64_t now_ns, bool at_once, int64_t *at, uint64_t *bytes);

#endif
