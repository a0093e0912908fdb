/*
 * tcp_state.h - the state machine of one emulated stack (RFC 9293 3.3.2 and 3.10) as a table.
 *
 * A stack moves by what it sends and by what it receives; the callers decide that an input is
 * valid, this file decides where it leads.  docs/tcp-states.md is made from the table.
 */
#ifndef MOS_TCP_STATE_H
#define MOS_TCP_STATE_H

#include "segment.h"

enum tcp_input {
	SENT_SYN,
	SENT_SYN_ACK,
	SENT_ACK,  /* anything that shows the sender has the peer's SYN */
	SENT_DATA, /* payload or FIN beyond the SYN: shows the sender is synchronized */
	SENT_FIN,
	SENT_CROSSING_FIN, /* a FIN that does not acknowledge the peer's: both were under way */
	SENT_RST,
	GOT_SYN,
	GOT_SYN_ACK,
	GOT_ACK_OF_SYN,
	GOT_ACK_OF_FIN,
	GOT_FIN,
	GOT_RST,
	TCP_INPUTS
};

/* Where `input` leads from `state`. */
uint8_t tcp_next_state(uint8_t state, enum tcp_input input);

/* The only writer of a stack's state; notes the change in the segment. */
static inline void tcp_set_state(struct segment *segment, int side, uint8_t state)
{
	struct flow_half *half = &segment->flow->half[side];

	if (half->state == state)
		return;
	half->state = state;
	segment->changed |= (uint8_t)(1 << side);
}

static inline void tcp_move(struct segment *segment, int side, enum tcp_input input)
{
	tcp_set_state(segment, side, tcp_next_state(segment->flow->half[side].state, input));
}

/* Nothing more can come from, or matter to, this stack. */
static inline bool tcp_is_finished(uint8_t state, bool time_wait_counts)
{
	return state == MOS_TCP_CLOSED || (state == MOS_TCP_TIME_WAIT && !time_wait_counts);
}

/* The handshake of this stack is over. */
static inline bool tcp_is_synchronized(uint8_t state)
{
	return state >= MOS_TCP_ESTABLISHED;
}

const char *tcp_state_name(int state);

#endif
