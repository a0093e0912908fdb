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

/* The server answered a SYN that carried data: take the data or forget it. */
void bytes_settle_syn_data(struct mos_context *ctx, struct segment *segment);

/* NEW_DATA at MOS_NULL that is due for this flow, now: the flow ends. */
void bytes_flush(struct mos_context *ctx, struct flow *flow);

/*
 * End of a burst: NEW_DATA at MOS_NULL, then unread bytes are copied out of the frames.
 * false: a callback stopped the loop; call again to go on.
 */
bool bytes_end_burst(struct mos_context *ctx);

/* The lowest position that some reader of `side` has not read. */
int64_t bytes_unread_from(const struct flow *flow, int side);

#endif
