/* link.c - see link.h. */
#include "link.h"

#include "bytes.h"

/* LINKTYPE_* values of capture files, and the DLT_RAW numbers some systems write. */
enum {
	LINK_NULL = 0,
	LINK_ETHERNET = 1,
	LINK_PPP = 9,
	LINK_RAW_BSD = 12,
	LINK_RAW_OPENBSD = 14,
	LINK_PPP_HDLC = 50,
	LINK_RAW = 101,
	LINK_C_HDLC = 104,
	LINK_80211 = 105,
	LINK_LOOP = 108,
	LINK_SLL = 113,
	LINK_80211_RADIOTAP = 127,
	LINK_IPV4 = 228,
	LINK_IPV6 = 229,
	LINK_SLL2 = 276
};

enum {
	PPP_IPV4 = 0x0021,
	PPP_IPV6 = 0x0057,
	PPP_MPLS = 0x0281
};

static inline bool is_vlan(uint16_t type)
{
	return type == ETHER_VLAN || type == ETHER_QINQ || type == ETHER_QINQ_OLD;
}

bool link_ethernet(struct mos_pkt *pkt, struct walk *walk)
{
	if (!walk_has(walk, 14))
		return false;
	pkt->l2_off = walk->at;
	walk->type = load_be16(pkt->frame + walk->at + 12);
	walk->at += 14;
	return true;
}

/* No EtherType: the IP version nibble decides. */
static bool by_version(const struct mos_pkt *pkt, struct walk *walk)
{
	if (!walk_has(walk, 1))
		return false;
	walk->type = pkt->frame[walk->at] >> 4 == 6 ? ETHER_IPV6 : ETHER_IPV4;
	return true;
}

/* Labels (RFC 3032) up to the bottom of the stack; then IP, or a pseudo-wire with Ethernet (RFC 4448). */
static bool step_mpls(struct mos_pkt *pkt, struct walk *walk)
{
	bool bottom = false;
	uint8_t nibble;

	while (!bottom) {
		if (!walk_has(walk, 4))
			return false;
		bottom = pkt->frame[walk->at + 2] & 1;
		walk->at += 4;
	}
	if (!walk_has(walk, 4))
		return false;
	nibble = pkt->frame[walk->at] >> 4;
	if (nibble == 4 || nibble == 6)
		return by_version(pkt, walk);
	if (nibble == 0)
		walk->at += 4; /* the control word */
	return link_ethernet(pkt, walk);
}

static uint16_t ppp_type(uint16_t protocol)
{
	switch (protocol) {
	case PPP_IPV4:
		return ETHER_IPV4;
	case PPP_IPV6:
		return ETHER_IPV6;
	case PPP_MPLS:
		return ETHER_MPLS;
	default:
		return ETHER_NONE;
	}
}

/* A PPP frame (RFC 1661), with or without address and control. */
static bool step_ppp(const struct mos_pkt *pkt, struct walk *walk)
{
	if (walk_has(walk, 2) && pkt->frame[walk->at] == 0xff && pkt->frame[walk->at + 1] == 0x03)
		walk->at += 2;
	if (!walk_has(walk, 2))
		return false;
	if (pkt->frame[walk->at] & 1) { /* a compressed, one-byte protocol */
		walk->type = ppp_type(pkt->frame[walk->at]);
		walk->at += 1;
		return true;
	}
	walk->type = ppp_type(load_be16(pkt->frame + walk->at));
	walk->at += 2;
	return true;
}

/* A PPPoE session (RFC 2516): six bytes, then PPP without address and control. */
static bool step_pppoe(const struct mos_pkt *pkt, struct walk *walk)
{
	if (!walk_has(walk, 8))
		return false;
	walk->at += 6;
	walk->type = ppp_type(load_be16(pkt->frame + walk->at));
	walk->at += 2;
	return true;
}

bool link_shims_slow(struct mos_pkt *pkt, struct walk *walk)
{
	for (;;) {
		if (is_vlan(walk->type)) {
			if (!walk_has(walk, 4))
				return false;
			walk->type = load_be16(pkt->frame + walk->at + 2);
			walk->at += 4;
		} else if (walk->type == ETHER_MPLS || walk->type == ETHER_MPLS_MULTICAST) {
			if (!step_mpls(pkt, walk))
				return false;
		} else if (walk->type == ETHER_PPPOE) {
			if (!step_pppoe(pkt, walk))
				return false;
		} else {
			return true;
		}
	}
}

/* Linux "cooked" headers: the EtherType stands at `type_at` of `len` bytes. */
static bool enter_cooked(const struct mos_pkt *pkt, struct walk *walk, uint32_t type_at, uint32_t len)
{
	if (!walk_has(walk, len))
		return false;
	walk->type = load_be16(pkt->frame + type_at);
	walk->at = len;
	return true;
}

/* A data frame of 802.11 with LLC/SNAP; encrypted ones and other kinds carry nothing to read. */
static bool enter_80211(const struct mos_pkt *pkt, struct walk *walk)
{
	const uint8_t *frame = pkt->frame + walk->at;
	uint32_t header = 24;

	if (!walk_has(walk, 24))
		return false;
	if ((frame[0] & 0x0c) != 0x08 || frame[0] & 0x40 || frame[1] & 0x40)
		return true; /* no data, or encrypted: type stays ETHER_NONE */
	if ((frame[1] & 0x03) == 0x03)
		header += 6; /* four addresses */
	if (frame[0] & 0x80)
		header += 2; /* QoS control */
	if (!walk_has(walk, header + 8))
		return false;
	if (load_be32(frame + header) == 0xaaaa0300)
		walk->type = load_be16(frame + header + 6);
	walk->at += header + 8;
	return true;
}

static bool enter_radiotap(const struct mos_pkt *pkt, struct walk *walk)
{
	uint32_t len;

	if (!walk_has(walk, 4))
		return false;
	len = pkt->frame[2] | (uint32_t)pkt->frame[3] << 8; /* little endian, as the rest of radiotap */
	if (!walk_has(walk, len))
		return false;
	walk->at = len;
	return enter_80211(pkt, walk);
}

static bool enter(struct mos_pkt *pkt, struct walk *walk)
{
	switch (pkt->linktype) {
	case LINK_NULL:
	case LINK_LOOP:
		if (!walk_has(walk, 4))
			return false;
		walk->at = 4;
		return by_version(pkt, walk);
	case LINK_PPP:
	case LINK_PPP_HDLC:
		return step_ppp(pkt, walk);
	case LINK_C_HDLC:
		return enter_cooked(pkt, walk, 2, 4);
	case LINK_SLL:
		return enter_cooked(pkt, walk, 14, 16);
	case LINK_SLL2:
		return enter_cooked(pkt, walk, 0, 20);
	case LINK_80211:
		return enter_80211(pkt, walk);
	case LINK_80211_RADIOTAP:
		return enter_radiotap(pkt, walk);
	default:
		return by_version(pkt, walk); /* raw IP */
	}
}

enum link_result link_enter_other(struct mos_pkt *pkt, struct walk *walk)
{
	switch (pkt->linktype) {
	case LINK_NULL:
	case LINK_PPP:
	case LINK_RAW_BSD:
	case LINK_RAW_OPENBSD:
	case LINK_PPP_HDLC:
	case LINK_RAW:
	case LINK_C_HDLC:
	case LINK_80211:
	case LINK_LOOP:
	case LINK_SLL:
	case LINK_80211_RADIOTAP:
	case LINK_IPV4:
	case LINK_IPV6:
	case LINK_SLL2:
		return enter(pkt, walk) ? LINK_FINE : LINK_SHORT;
	default:
		return LINK_UNKNOWN;
	}
}
