/*
 * checksum.h - the Internet checksum (RFC 1071) of IPv4 headers and TCP segments.
 *
 * Arguments are bytes as on the wire.  Threads: pure functions.
 */
#ifndef MOS_PACKET_CHECKSUM_H
#define MOS_PACKET_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One's complement sum of len bytes, not folded, added to `sum`. */
uint64_t checksum_add(const uint8_t *data, size_t len, uint64_t sum);

/* The 16-bit checksum that belongs to an unfolded sum, in host order. */
uint16_t checksum_finish(uint64_t sum);

/* True when the header's checksum is right. */
bool checksum_ipv4_ok(const uint8_t *header, size_t header_len);

/* True when the TCP checksum is right: addresses of addr_len bytes each, segment of len bytes. */
bool checksum_tcp_ok(const uint8_t *source, const uint8_t *target, size_t addr_len, const uint8_t *segment,
                     uint32_t len);

#endif
