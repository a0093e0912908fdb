/*
 * tcp_opts.h - TCP options: MSS, window scale, SACK permitted (RFC 9293 3.2, RFC 7323, RFC 2018)
 * and the timestamp.  A malformed list ends the parse; what was read before it counts.
 */
#ifndef MOS_TCP_OPTS_H
#define MOS_TCP_OPTS_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_opts {
	uint32_t ts_value, ts_echo;
	uint16_t mss;   /* 0 = absent */
	uint8_t wscale; /* WSCALE_NONE = absent; capped at 14 (RFC 7323 2.3) */
	bool sack_permitted, timestamps, md5;
	bool malformed; /* a length that cannot be */
};

void tcp_opts_parse(const uint8_t *option, uint32_t len, struct tcp_opts *opts);

/* The timestamp alone, on the path of every packet: the common layout first. */
bool tcp_opts_timestamp(const uint8_t *option, uint32_t len, uint32_t *value);

#endif
