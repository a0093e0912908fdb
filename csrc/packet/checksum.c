/* checksum.c - see checksum.h. */
#include "checksum.h"

#include <string.h>

uint64_t checksum_add(const uint8_t *data, size_t len, uint64_t sum)
{
	for (; len >= 4; data += 4, len -= 4) {
		uint32_t word;

		memcpy(&word, data, 4);
		sum += word;
	}
	for (size_t i = 0; i < len; i++)
		sum += (uint64_t)data[i] << (8 * i);
	return sum;
}

uint16_t checksum_finish(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return __builtin_bswap16((uint16_t)~sum);
}

bool checksum_ipv4_ok(const uint8_t *header, size_t header_len)
{
	return checksum_finish(checksum_add(header, header_len, 0)) == 0;
}

bool checksum_tcp_ok(const uint8_t *source, const uint8_t *target, size_t addr_len, const uint8_t *segment,
                     uint32_t len)
{
	const uint8_t tail[8] = {len >> 24, len >> 16 & 0xff, len >> 8 & 0xff, len & 0xff, 0, 0, 0, 6};
	uint64_t sum = checksum_add(source, addr_len, 0);

	sum = checksum_add(target, addr_len, sum);
	sum = checksum_add(tail, sizeof tail, sum);
	sum = checksum_add(segment, len, sum);
	return checksum_finish(sum) == 0;
}
