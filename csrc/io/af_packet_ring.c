/* af_packet_ring.c - see af_packet_ring.h. */
#include "af_packet_ring.h"

enum {
	/* Before the frame: the kernel's header and address (52), 16 for the link header, rounded. */
	SLOT_HEADER = 80,
	/* What the driver thinks may follow its header: slot - 32. */
	DRIVER_HEADER = 32,
	LINK_HEADER = 14 + 4 * 4, /* Ethernet and some tags */
	/* Largest slot whose frame fits an mbuf (65,535 with 128 of headroom) and that, 32 of them,
	 * fills whole pages.  The driver wants blocks without a rest. */
	BIG_SLOT = 65408,
	BIG_BLOCK = 32 * BIG_SLOT,
	SMALL_BLOCK = 128 * 1024,
	/* The driver doubles it for a send ring, and all of it is locked memory. */
	RING_BYTES = 32 * 1024 * 1024,
	RING_LEAST = 2 * 1024 * 1024
};

static void set_shape(struct af_packet_ring *ring, uint32_t slot, uint32_t block, uint32_t blocks)
{
	ring->slot = slot;
	ring->block = block;
	ring->slots = block / slot * blocks;
	ring->room = slot - DRIVER_HEADER;
	ring->cut_from = slot - SLOT_HEADER;
}

bool af_packet_ring_next(struct af_packet_ring *ring, const struct tap *tap, unsigned *slots)
{
	uint32_t need = tap->mtu + LINK_HEADER + SLOT_HEADER, slot = 2048, block, bytes;

	while (slot < need && slot < 32768)
		slot *= 2;
	/* Frames of one slot each: small slots make a ring that holds more frames. */
	block = SMALL_BLOCK;
	if (tap->big_frames || slot < need) {
		slot = BIG_SLOT;
		block = BIG_BLOCK;
	}
	bytes = *slots == 0 ? RING_BYTES : *slots * slot / 4;
	if (bytes < RING_LEAST / 2)
		return false;
	set_shape(ring, slot, block, bytes / block > 0 ? bytes / block : 1);
	*slots = ring->slots;
	return true;
}

static uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

uint32_t af_packet_ring_wirelen(const uint8_t *frame, uint32_t len, uint16_t linktype)
{
	uint32_t at = 0, type = 0, ip = 0;

	if (len < 64)
		return len;
	if (linktype == 1) {
		type = get16(frame + 12);
		for (at = 14; (type == 0x8100 || type == 0x88a8) && at < 40; at += 4)
			type = get16(frame + at + 2);
		if (type != 0x0800 && type != 0x86dd)
			return len;
	}
	/* A length of 0 says "more than 65,535" (BIG TCP): unknown. */
	if (frame[at] >> 4 == 4)
		ip = get16(frame + at + 2);
	else if (frame[at] >> 4 == 6 && get16(frame + at + 4) != 0)
		ip = get16(frame + at + 4) + 40;
	return at + ip > len ? at + ip : len;
}
