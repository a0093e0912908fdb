/* tunnel.c - see tunnel.h. */
#include "tunnel.h"

#include "bytes.h"
#include "link.h"

enum {
	PROTO_IPIP = 4,
	PROTO_UDP = 17,
	PROTO_IPV6 = 41,
	PROTO_GRE = 47
};
enum {
	PORT_GTPU = 2152,
	PORT_VXLAN = 4789,
	PORT_GENEVE = 6081,
	PORT_VXLAN_LINUX = 8472
};
enum {
	GRE_CHECKSUM = 0x8000,
	GRE_KEY = 0x2000,
	GRE_SEQUENCE = 0x1000,
	GRE_VERSION = 0x0007,
	GRE_ROUTING = 0x4000
};
enum {
	GTPU_G_PDU = 255,
	GTPU_OPTIONAL = 0x07,
	GTPU_EXTENSION = 0x04
};

/* The inside begins at `skip` bytes; an EtherType, or a whole Ethernet frame. */
static bool enter_inside(struct mos_pkt *pkt, struct walk *walk, uint32_t skip, uint16_t type)
{
	struct walk inside = *walk;

	if (!walk_has(walk, skip + 1))
		return false;
	inside.at += skip;
	inside.type = type;
	if (type == ETHER_TEB && !link_ethernet(pkt, &inside))
		return false;
	*walk = inside;
	return true;
}

static bool enter_by_version(struct mos_pkt *pkt, struct walk *walk, uint32_t skip)
{
	uint8_t version;

	if (!walk_has(walk, skip + 1))
		return false;
	version = pkt->frame[walk->at + skip] >> 4;
	if (version != 4 && version != 6)
		return false;
	return enter_inside(pkt, walk, skip, version == 6 ? ETHER_IPV6 : ETHER_IPV4);
}

/* ERSPAN after its GRE header: type I has no header of its own, II eight bytes, III twelve or twenty. */
static bool open_erspan(struct mos_pkt *pkt, struct walk *walk, uint32_t skip, uint16_t type, bool sequence)
{
	uint32_t header = 0;

	if (type == ETHER_ERSPAN && sequence)
		header = 8;
	if (type == ETHER_ERSPAN_III) {
		if (!walk_has(walk, skip + 12))
			return false;
		header = pkt->frame[walk->at + skip + 11] & 1 ? 20 : 12; /* the O flag: platform bytes follow */
	}
	return enter_inside(pkt, walk, skip + header, ETHER_TEB);
}

static bool open_gre(struct mos_pkt *pkt, struct walk *walk)
{
	uint16_t flags, type;
	uint32_t skip = 4;

	if (!walk_has(walk, 4))
		return false;
	flags = load_be16(pkt->frame + walk->at);
	type = load_be16(pkt->frame + walk->at + 2);
	if (flags & (GRE_VERSION | GRE_ROUTING))
		return false;
	skip += (flags & GRE_CHECKSUM ? 4u : 0) + (flags & GRE_KEY ? 4u : 0) + (flags & GRE_SEQUENCE ? 4u : 0);
	if (type == ETHER_ERSPAN || type == ETHER_ERSPAN_III)
		return open_erspan(pkt, walk, skip, type, flags & GRE_SEQUENCE);
	return enter_inside(pkt, walk, skip, type);
}

static bool open_vxlan(struct mos_pkt *pkt, struct walk *walk, uint32_t at)
{
	if (!walk_has(walk, at + 8) || !(pkt->frame[walk->at + at] & 0x08))
		return false; /* the flag that says a network id is there */
	return enter_inside(pkt, walk, at + 8, ETHER_TEB);
}

static bool open_geneve(struct mos_pkt *pkt, struct walk *walk, uint32_t at)
{
	const uint8_t *header = pkt->frame + walk->at + at;

	if (!walk_has(walk, at + 8) || header[0] >> 6)
		return false; /* version 0 only */
	return enter_inside(pkt, walk, at + 8 + (header[0] & 0x3fu) * 4, load_be16(header + 2));
}

/* GTP-U: eight bytes, four optional ones, then a chain of extension headers in units of four bytes. */
static bool open_gtpu(struct mos_pkt *pkt, struct walk *walk, uint32_t at)
{
	const uint8_t *header = pkt->frame + walk->at + at;
	uint32_t skip = at + 8;
	uint8_t next;

	if (!walk_has(walk, at + 8) || header[0] >> 4 != 3 || header[1] != GTPU_G_PDU)
		return false; /* version 1, GTP, a user packet */
	if (header[0] & GTPU_OPTIONAL) {
		if (!walk_has(walk, skip + 4))
			return false;
		next = header[0] & GTPU_EXTENSION ? header[11] : 0;
		skip += 4;
		while (next) {
			uint32_t len;

			if (!walk_has(walk, skip + 4))
				return false;
			len = pkt->frame[walk->at + skip] * 4u;
			if (!len || !walk_has(walk, skip + len))
				return false;
			next = pkt->frame[walk->at + skip + len - 1];
			skip += len;
		}
	}
	return enter_by_version(pkt, walk, skip);
}

static bool open_udp(struct mos_pkt *pkt, struct walk *walk)
{
	uint16_t source, target;

	if (!walk_has(walk, 8))
		return false;
	source = load_be16(pkt->frame + walk->at);
	target = load_be16(pkt->frame + walk->at + 2);
	if (target == PORT_VXLAN || target == PORT_VXLAN_LINUX)
		return open_vxlan(pkt, walk, 8);
	if (target == PORT_GENEVE)
		return open_geneve(pkt, walk, 8);
	if (target == PORT_GTPU || source == PORT_GTPU)
		return open_gtpu(pkt, walk, 8);
	return false;
}

bool tunnel_open(struct mos_pkt *pkt, struct walk *walk)
{
	switch (walk->proto) {
	case PROTO_IPIP:
		return enter_inside(pkt, walk, 0, ETHER_IPV4);
	case PROTO_IPV6:
		return enter_inside(pkt, walk, 0, ETHER_IPV6);
	case PROTO_GRE:
		return open_gre(pkt, walk);
	case PROTO_UDP:
		return open_udp(pkt, walk);
	default:
		return false;
	}
}
