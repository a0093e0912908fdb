/* decode.c - see decode.h.  Layers in the order in which they lie in a frame. */
#include "decode.h"

#include "bytes.h"
#include "checksum.h"
#include "link.h"
#include "tunnel.h"

enum {
	LINKTYPE_ETHERNET = 1
};

enum {
	PROTO_HOP_BY_HOP = 0,
	PROTO_TCP = 6,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AUTH = 51,
	PROTO_DESTINATION = 60,
	PROTO_MOBILITY = 135,
	PROTO_HIP = 139,
	PROTO_SHIM6 = 140
};

static inline void ignore(struct mos_pkt *pkt, enum mos_counter reason)
{
	pkt->kind = PKT_IGNORED;
	pkt->reason = (uint16_t)reason;
}

/* The IP packet's own length counts: what follows it is padding.  A frame whose wire length is shorter had no more. */
static inline void clip(struct mos_pkt *pkt, struct walk *walk, uint32_t ip_end)
{
	if (ip_end > walk->wire_end)
		pkt->short_frame = 1;
	if (ip_end < walk->wire_end)
		walk->wire_end = ip_end;
	if (walk->wire_end < walk->end)
		walk->end = walk->wire_end;
}

static inline bool decode_ipv4(const struct decoder *decoder, struct mos_pkt *pkt, struct walk *walk)
{
	const uint8_t *ip = pkt->frame + walk->at;
	uint32_t header, total;

	if (walk->end - walk->at < 20)
		return ignore(pkt, MOS_CNT_IGNORED_SHORT_IP), false;
	header = (ip[0] & 15u) * 4;
	total = load_be16(ip + 2);
	if (ip[0] >> 4 != 4 || header < 20 || (total && total < header))
		return ignore(pkt, MOS_CNT_IGNORED_BAD_IP_HEADER), false;
	if (walk->end - walk->at < header)
		return ignore(pkt, MOS_CNT_IGNORED_SHORT_IP), false;
	if (decoder->verify_checksums && !checksum_ipv4_ok(ip, header))
		return ignore(pkt, MOS_CNT_IGNORED_BAD_CHECKSUM), false;
	if (total) /* 0: segmentation offload, the frame's length counts */
		clip(pkt, walk, walk->at + total);
	memcpy(pkt->key.lo, ip + 12, 4);
	memcpy(pkt->key.hi, ip + 16, 4);
	pkt->key.scope = 4;
	walk->fragment = (load_be16(ip + 6) & 0x3fff) != 0;
	walk->proto = ip[9];
	walk->at += header;
	return true;
}

/* Length of an IPv6 extension header (RFC 8200 4, RFC 4302 2.2), 0 if `proto` is none. */
static uint32_t extension_len(uint8_t proto, const uint8_t *header)
{
	switch (proto) {
	case PROTO_HOP_BY_HOP:
	case PROTO_ROUTING:
	case PROTO_DESTINATION:
	case PROTO_MOBILITY:
	case PROTO_HIP:
	case PROTO_SHIM6:
		return (header[1] + 1u) * 8;
	case PROTO_AUTH:
		return (header[1] + 2u) * 4;
	case PROTO_FRAGMENT:
		return 8;
	default:
		return 0;
	}
}

static bool decode_extensions(struct mos_pkt *pkt, struct walk *walk)
{
	uint32_t link = pkt->l3_off + 6; /* the octet that names the header at hand */

	for (;;) {
		const uint8_t *header = pkt->frame + walk->at;
		uint8_t proto = walk->proto;
		uint32_t len;

		if (!extension_len(proto, (const uint8_t[8]){0}))
			return true;
		if (walk->end - walk->at < 8)
			return ignore(pkt, MOS_CNT_IGNORED_SHORT_IP), false;
		len = extension_len(proto, header);
		if (proto == PROTO_FRAGMENT && (load_be16(header + 2) & 0xfff9)) {
			walk->fragment = true; /* offset or "more"; an atomic fragment (RFC 6946) has neither */
			pkt->frag_next_at = (uint16_t)(link - pkt->l3_off);
			walk->at += len;
			return true;
		}
		if (walk->end - walk->at < len)
			return ignore(pkt, MOS_CNT_IGNORED_SHORT_IP), false;
		walk->proto = header[0];
		link = walk->at;
		walk->at += len;
	}
}

static bool decode_ipv6(struct mos_pkt *pkt, struct walk *walk)
{
	const uint8_t *ip = pkt->frame + walk->at;
	uint32_t payload;

	if (walk->end - walk->at < 40)
		return ignore(pkt, MOS_CNT_IGNORED_SHORT_IP), false;
	if (ip[0] >> 4 != 6)
		return ignore(pkt, MOS_CNT_IGNORED_BAD_IP_HEADER), false;
	payload = load_be16(ip + 4);
	if (payload) /* 0: a jumbogram (RFC 2675) or segmentation offload */
		clip(pkt, walk, walk->at + 40 + payload);
	memcpy(pkt->key.lo, ip + 8, 16);
	memcpy(pkt->key.hi, ip + 24, 16);
	pkt->key.scope = 6;
	pkt->ipv6 = 1;
	walk->proto = ip[6];
	walk->at += 40;
	return decode_extensions(pkt, walk);
}

/* Put the lower endpoint first, so that both directions give one key. */
static inline void order_key(struct mos_pkt *pkt, const uint8_t *ports)
{
	struct flow_key *key = &pkt->key;
	int order = pkt->ipv6 ? memcmp(key->lo, key->hi, 16) : memcmp(key->lo, key->hi, 4);
	uint16_t port[2];

	memcpy(port, ports, 4);
	if (!order)
		order = (int)__builtin_bswap16(port[0]) - (int)__builtin_bswap16(port[1]);
	pkt->from_hi = order > 0;
	if (order <= 0) {
		key->ports = port[0] | (uint32_t)port[1] << 16;
		return;
	}
	key->ports = port[1] | (uint32_t)port[0] << 16;
	for (int i = 0; i < (pkt->ipv6 ? 4 : 1); i++) {
		uint32_t word = key->lo[i];
		key->lo[i] = key->hi[i];
		key->hi[i] = word;
	}
}

static bool tcp_checksum_bad(const struct mos_pkt *pkt, const struct walk *walk)
{
	const uint8_t *ip = pkt->frame + pkt->l3_off;
	uint32_t at = pkt->ipv6 ? 8 : 12, len = pkt->ipv6 ? 16 : 4;

	if (walk->end < walk->wire_end)
		return false; /* cut by the snap length: nobody can tell */
	return !checksum_tcp_ok(ip + at, ip + at + len, len, pkt->frame + walk->at, walk->wire_end - walk->at);
}

static inline void decode_tcp(const struct decoder *decoder, struct mos_pkt *pkt, struct walk *walk)
{
	const uint8_t *tcp = pkt->frame + walk->at;
	uint32_t header, segment = walk->wire_end - walk->at;

	if (walk->end - walk->at < 20) {
		ignore(pkt, MOS_CNT_IGNORED_SHORT_TCP);
		return;
	}
	header = (tcp[12] >> 4) * 4u;
	if (header < 20 || header > segment) {
		ignore(pkt, MOS_CNT_IGNORED_BAD_TCP_HEADER);
		return;
	}
	if (decoder->verify_checksums && tcp_checksum_bad(pkt, walk)) {
		ignore(pkt, MOS_CNT_IGNORED_BAD_CHECKSUM);
		return;
	}
	pkt->kind = PKT_TCP;
	pkt->l4_off = walk->at;
	pkt->payload_off = walk->at + header;
	pkt->payload_len = segment - header;
	pkt->payload_cap = walk->end > pkt->payload_off ? walk->end - pkt->payload_off : 0;
	pkt->tcp_opt_len = (uint8_t)((walk->end < pkt->payload_off ? walk->end : pkt->payload_off) - walk->at - 20);
	pkt->seq = load_be32(tcp + 4);
	pkt->ack = load_be32(tcp + 8);
	pkt->flags = tcp[13];
	pkt->window = load_be16(tcp + 14);
	pkt->urgent = load_be16(tcp + 18);
	order_key(pkt, tcp);
	pkt->hash = flow_key_hash(&pkt->key, decoder->secret);
}

static inline bool decode_link(struct mos_pkt *pkt, struct walk *walk)
{
	enum link_result result;

	if (pkt->linktype == LINKTYPE_ETHERNET)
		result = link_ethernet(pkt, walk) ? LINK_FINE : LINK_SHORT;
	else
		result = link_enter_other(pkt, walk);
	if (result == LINK_FINE)
		return true;
	ignore(pkt, result == LINK_SHORT ? MOS_CNT_IGNORED_SHORT_LINK : MOS_CNT_IGNORED_LINK_TYPE);
	return false;
}

/* From walk->type to the transport header; false when it ends here: ignored, or a fragment. */
static inline bool decode_network(const struct decoder *decoder, struct mos_pkt *pkt, struct walk *walk)
{
	if (!link_shims(pkt, walk))
		return ignore(pkt, MOS_CNT_IGNORED_SHORT_LINK), false;
	if (walk->type != ETHER_IPV4 && walk->type != ETHER_IPV6)
		return ignore(pkt, MOS_CNT_IGNORED_NOT_IP), false;
	pkt->l3_off = walk->at;
	pkt->l3_len = walk->end - walk->at; /* until the IP header says where the packet ends */
	if (walk->type == ETHER_IPV4 ? !decode_ipv4(decoder, pkt, walk) : !decode_ipv6(pkt, walk))
		return false;
	pkt->l3_len = walk->end - pkt->l3_off;
	if (!walk->fragment)
		return true;
	pkt->kind = PKT_FRAGMENT;
	pkt->payload_off = walk->at;
	return false;
}

/* What no tunnel is inside: TCP, or another protocol.  false: a tunnel was opened, go on inside. */
static inline bool decode_transport(const struct decoder *decoder, struct mos_pkt *pkt, struct walk *walk)
{
	if (__builtin_expect(walk->proto == PROTO_TCP, 1)) {
		decode_tcp(decoder, pkt, walk);
		return true;
	}
	pkt->kind = PKT_OTHER;
	if (!tunnel_open(pkt, walk))
		return true;
	if (++walk->depth > WALK_DEPTH) {
		ignore(pkt, MOS_CNT_IGNORED_TOO_DEEP);
		return true;
	}
	memset(&pkt->key, 0, sizeof pkt->key);
	pkt->ipv6 = 0;
	return false;
}

void decode(const struct decoder *decoder, struct mos_pkt *pkt)
{
	struct walk walk = {.end = pkt->caplen, .wire_end = pkt->wirelen};

	memset(&pkt->key, 0, sizeof pkt->key);
	pkt->l2_off = pkt->l3_off = pkt->l4_off = UINT32_MAX;
	pkt->l3_len = 0;
	pkt->payload_len = pkt->payload_cap = 0;
	pkt->ipv6 = pkt->rewritten = pkt->short_frame = 0;
	pkt->fragments_wire = 0;
	pkt->flags = 0;
	if (walk.wire_end < walk.end)
		walk.wire_end = walk.end;
	if (!decode_link(pkt, &walk))
		return;
	while (decode_network(decoder, pkt, &walk) && !decode_transport(decoder, pkt, &walk))
		;
}
