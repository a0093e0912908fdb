/*
 * walk.h - the way down through the headers of one frame, shared by link, tunnel and decode.
 * Offsets count from the frame's first byte.  Internal to csrc/packet.
 */
#ifndef MOS_PACKET_WALK_H
#define MOS_PACKET_WALK_H

#include "pkt.h"

enum ether_type {
	ETHER_NONE = 0,
	ETHER_IPV4 = 0x0800,
	ETHER_TEB = 0x6558, /* an Ethernet frame inside (RFC 1701) */
	ETHER_VLAN = 0x8100,
	ETHER_IPV6 = 0x86dd,
	ETHER_MPLS = 0x8847,
	ETHER_MPLS_MULTICAST = 0x8848,
	ETHER_PPPOE = 0x8864,
	ETHER_QINQ = 0x88a8,
	ETHER_ERSPAN = 0x88be,
	ETHER_ERSPAN_III = 0x22eb,
	ETHER_QINQ_OLD = 0x9100
};

enum {
	WALK_DEPTH = 8
}; /* tunnels inside tunnels that are followed */

struct walk {
	uint32_t at;       /* next byte to look at */
	uint32_t end;      /* captured bytes end here */
	uint32_t wire_end; /* the packet's bytes end here, captured or not */
	uint16_t type;     /* EtherType of what follows */
	uint8_t proto;     /* IP protocol of what follows */
	uint8_t depth;     /* tunnels opened */
	bool fragment;     /* a part of a datagram only */
};

static inline bool walk_has(const struct walk *walk, uint32_t bytes)
{
	return walk->end - walk->at >= bytes;
}

#endif
