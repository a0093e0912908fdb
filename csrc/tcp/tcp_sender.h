/*
 * tcp_sender.h - what this segment says its sender did: numbers used, acknowledgements given,
 * window offered, state moved.
 */
#ifndef MOS_TCP_SENDER_H
#define MOS_TCP_SENDER_H

#include "segment.h"

/* After tcp_judge(), before the HK_SND callbacks. */
void tcp_sender_update(struct segment *segment);

/* Packets, bytes and flags of any segment of a flow, also of late and rejected ones. */
void tcp_count(struct flow *flow, int side, const struct mos_pkt *pkt);

/* Count a class seen; the cold record is made on first use. */
void tcp_count_class(struct flow *flow, int side, uint8_t seg_class);

/* Move the contiguous edge over what is no longer missing. */
void tcp_refresh_edge(struct flow *flow, int side);

#endif
