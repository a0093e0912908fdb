/*
 * consumer.h - the consumer of stream bytes in C: the hashes of `mos flows`.
 * `side` is the receiving side.  Bytes are handed over where they lie, in order, once.
 */
#ifndef MOS_MONITOR_CONSUMER_H
#define MOS_MONITOR_CONSUMER_H

#include "../flow/flow.h"
#include "../tcp/stream.h"

void consumer_bytes(struct flow *flow, int side, const uint8_t *data, size_t len);

/* What became readable in the stream since `at`. */
void consumer_stream(struct flow *flow, int side, const struct stream *stream, int64_t at);

#endif
