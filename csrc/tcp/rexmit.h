/*
 * rexmit.h - has this sender sent this before, and what do we call the segment (spec section 3,
 * in tshark's words); round-trip times.
 *
 * "Seen" is decided by sequence numbers alone (snd_max and the holes below it), so it does not
 * depend on any buffer.
 */
#ifndef MOS_TCP_REXMIT_H
#define MOS_TCP_REXMIT_H

#include "segment.h"

/* Sets seg_class and rexmit; before the segment's numbers are marked as seen. */
void rexmit_classify(struct segment *segment);

/* The segment's numbers are new: start a round-trip sample if none runs. */
void rtt_start(struct segment *segment);
/* Karn's rule: a sample whose numbers were sent again measures nothing. */
void rtt_cancel(struct segment *segment);
/* side's data is acknowledged up to ack_rel. */
void rtt_acked(struct flow_half *half, int64_t ack_rel, uint64_t now_ns);

#endif
