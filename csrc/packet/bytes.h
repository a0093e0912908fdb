/* bytes.h - unaligned big-endian loads. */
#ifndef MOS_PACKET_BYTES_H
#define MOS_PACKET_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t load_be16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return __builtin_bswap16(v);
}

static inline uint32_t load_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mos is written for little-endian machines"
#endif

#endif
