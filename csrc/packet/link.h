/*
 * link.h - from the first byte of a frame to the IP header: link types of capture files
 * (pcap-linktype(7)), VLAN tags at any depth, MPLS, PPPoE.
 */
#ifndef MOS_PACKET_LINK_H
#define MOS_PACKET_LINK_H

#include "walk.h"

enum link_result {
	LINK_FINE,
	LINK_SHORT,
	LINK_UNKNOWN
};

/* Enter a frame by its link type; walk->type then names what follows. */
enum link_result link_enter_other(struct mos_pkt *pkt, struct walk *walk);

/* An Ethernet header at walk->at; false if it is cut off. */
bool link_ethernet(struct mos_pkt *pkt, struct walk *walk);

/* Step over VLAN tags, MPLS labels and PPPoE; false if one is cut off. */
bool link_shims_slow(struct mos_pkt *pkt, struct walk *walk);

static inline bool link_shims(struct mos_pkt *pkt, struct walk *walk)
{
	if (__builtin_expect(walk->type == ETHER_IPV4 || walk->type == ETHER_IPV6, 1))
		return true;
	return link_shims_slow(pkt, walk);
}

#endif
