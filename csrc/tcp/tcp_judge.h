/*
 * tcp_judge.h - where a segment lies, and whether its receiver's stack takes it
 * (RFC 9293 3.10.7.4 "first, check sequence number"; RFC 5961 for acknowledgements).
 *
 * The observer knows less than the hosts, so windows are judged generously: with the largest
 * window ever advertised, from the farther of what was acknowledged and what was seen.
 */
#ifndef MOS_TCP_JUDGE_H
#define MOS_TCP_JUDGE_H

#include "segment.h"

/*
 * Sets rel, data, end, ack_rel, accepted, and raises the error that speaks against the segment.
 * Learns a direction's ISN from the first evidence when its SYN was not seen.
 */
void tcp_judge(struct segment *segment);

#endif
