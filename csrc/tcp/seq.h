/*
 * seq.h - all wrap-around lives here.
 *
 * On the wire a sequence number is 32 bits and wraps (RFC 9293 3.4).  Inside, a direction's
 * numbers are 64-bit `rel` numbers that never wrap: rel 0 is the SYN (the ISN), rel 1 the first
 * byte of data.  Users see `offset` = rel - 1.
 */
#ifndef MOS_TCP_SEQ_H
#define MOS_TCP_SEQ_H

#include <stdint.h>

/* The rel number of `seq` that lies nearest to `near`, which it may precede or follow by 2^31. */
static inline int64_t seq_to_rel(uint32_t seq, uint32_t isn, int64_t near)
{
	return near + (int32_t)(seq - (isn + (uint32_t)near));
}

static inline uint32_t rel_to_seq(int64_t rel, uint32_t isn)
{
	return isn + (uint32_t)rel;
}

/* a < b in the circle of 32-bit numbers; for timestamps (RFC 7323 5.2) and raw numbers. */
static inline int seq_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline int64_t rel_max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static inline int64_t rel_min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Time from one packet to another, ns; 0 when captures stamped the later one earlier. */
static inline uint64_t time_since(uint64_t from_ns, uint64_t now_ns)
{
	return now_ns > from_ns ? now_ns - from_ns : 0;
}

#endif
