/*
 * af_packet_ring.h - the shape of net_af_packet's ring, and frames that were too long for it.
 * Pure: no system call.  Units: bytes.
 */
#ifndef MOS_IO_AF_PACKET_RING_H
#define MOS_IO_AF_PACKET_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "tap.h"

struct af_packet_ring {
	uint32_t slot;  /* one frame with the kernel's header before it */
	uint32_t block; /* allocated at once by the kernel; a whole number of slots and pages */
	uint32_t slots;
	uint32_t room;     /* what an mbuf must hold */
	uint32_t cut_from; /* a frame of this length or more may have been cut */
};

/*
 * The shape for this interface, the largest ring first; `slots` is 0 for the first call and the
 * loop's memory after that.  False when there is no smaller one.
 */
bool af_packet_ring_next(struct af_packet_ring *ring, const struct tap *tap, unsigned *slots);

/* The length on the wire of a frame that may have been cut to `len`, from its IP header. */
uint32_t af_packet_ring_wirelen(const uint8_t *frame, uint32_t len, uint16_t linktype);

#endif
