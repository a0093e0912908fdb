/*
 * bytes.h - payload into the receive buffers of a flow, and NEW_DATA out of them.
 */
#ifndef MOS_MONITOR_BYTES_H
#define MOS_MONITOR_BYTES_H

#include "context.h"

/*
 * Take the segment's payload into the receiver's stream, if anybody reads that side.
 * Returns true when the readable stream grew: NEW_DATA belongs to this packet's HK_RCV dispatch.
 */
bool bytes_receive(struct mos_context *ctx, struct segment *segment);

/* Give up acknowledged holes whose wait is over (or all, at_once), on both sides; ERROR and NEW_DATA follow. */
void bytes_skip_gaps(struct mos_context *ctx, struct flow *flow, uint64_t now_ns, bool at_once);

/*
 * An acknowledgement settles what was sent but perhaps not taken: data of a SYN (RFC 7413), a byte
 * sent into a closed window.  What became readable is told at once, before any answer to it.
 */
void bytes_acked(struct mos_context *ctx, const struct segment *segment);

/* The flow ends: NEW_DATA for what is readable and not told yet, at both hooks. */
void bytes_flush(struct mos_context *ctx, struct flow *flow);

/*
 * End of a burst: NEW_DATA at MOS_NULL, then unread bytes are copied out of the frames.
 * false: a callback stopped the loop; call again to go on.
 */
bool bytes_end_burst(struct mos_context *ctx);

/* Take the stream of what `side` receives from the flow; it is freed when nobody can hold it. */
void bytes_switch_off(struct mos_context *ctx, struct flow *flow, int side);

/* Free the streams that were switched off. */
void bytes_free_retired(struct mos_context *ctx);

/* The overlap policy of what `side` receives: that of the first socket that reads it. */
uint8_t bytes_overlap_policy(const struct flow *flow, int side);

/* The lowest position that some reader of `side` has not read. */
int64_t bytes_unread_from(const struct flow *flow, int side);

#endif
