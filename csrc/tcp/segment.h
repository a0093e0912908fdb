/*
 * segment.h - one TCP segment on its way through the two emulated stacks.
 *
 * The pipeline fills the first part; tcp_judge(), tcp_sender_update() and tcp_receiver_update()
 * fill the rest, in this order (spec: sender update, HK_SND, receiver update, HK_RCV).
 * Positions are rel numbers (seq.h) of the sender, except ack_rel, which is one of the receiver.
 */
#ifndef MOS_TCP_SEGMENT_H
#define MOS_TCP_SEGMENT_H

#include "../flow/flow.h"
#include "../packet/pkt.h"

enum {
	SEGMENT_ERRORS = 4
};

struct segment_error {
	uint8_t reason; /* enum mos_error_reason */
	uint8_t side;   /* whose stack found it */
	int64_t at;
	uint64_t length;
};

struct segment {
	struct flow *flow;
	const struct mos_pkt *pkt;
	uint64_t now_ns;
	int side; /* of the sender */

	/* tcp_judge() */
	int64_t rel;     /* first sequence number: the SYN, else the first byte */
	int64_t data;    /* first byte of payload */
	int64_t end;     /* one past the last number, FIN included */
	int64_t ack_rel; /* with has_ack */
	bool has_ack;
	bool accepted; /* the receiver's stack takes it */
	bool has_timestamp;
	uint32_t ts_value; /* with has_timestamp */

	/* tcp_sender_update() */
	int64_t edge;      /* of what the receiver had, before this segment */
	uint8_t seg_class; /* enum mos_segment_class */
	bool rexmit;       /* carries a number seen before */
	bool hole_opened;  /* at hole_at, up to rel */
	int64_t hole_at;
	bool syn_replaced; /* a SYN/ACK with another ISN replaced the first */

	/* by tcp_set_state(): bit per side */
	uint8_t changed;

	uint8_t errors;
	struct segment_error error[SEGMENT_ERRORS];
};

/* One past the last byte of payload. */
static inline int64_t segment_data_end(const struct segment *segment)
{
	return segment->data + segment->pkt->payload_len;
}

static inline void segment_raise(struct segment *segment, enum mos_error_reason reason, int side, int64_t at,
                                 uint64_t length)
{
	if (segment->errors < SEGMENT_ERRORS)
		segment->error[segment->errors++] = (struct segment_error){(uint8_t)reason, (uint8_t)side, at, length};
}

#endif
