/*
 * pkt.h - one packet and one burst, as they travel through the pipeline.
 *
 * A producer (io/capture or io/port) fills the first part; packet/decode fills the rest.  Nothing
 * above decode reads raw headers, except packet/rewrite.
 * Ownership: `frame` belongs to the producer and is valid until its next burst.
 * Units: bytes, ns; host byte order.
 */
#ifndef MOS_PACKET_PKT_H
#define MOS_PACKET_PKT_H

#include "../flow/flow_key.h"
#include "../mos.h"

enum {
	MOS_BURST_MAX = 64
};

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20
};

/* What decode found. */
enum pkt_kind {
	PKT_TCP,     /* a whole TCP segment; every field is set */
	PKT_OTHER,   /* IP, but not TCP: an orphan */
	PKT_IGNORED, /* `reason` says why */
	PKT_FRAGMENT /* a part of a datagram, for packet/frag; l3_* and payload_off are set */
};

struct mos_pkt {
	/* by the producer */
	const uint8_t *frame; /* first captured byte */
	uint64_t time_ns;     /* since the epoch */
	uint32_t caplen;      /* bytes at `frame` */
	uint32_t wirelen;     /* bytes on the wire */
	uint16_t linktype;    /* LINKTYPE_* of pcap-linktype(7) */
	uint16_t port;        /* interface or port number */
	void *mbuf;           /* struct rte_mbuf, live only */

	/* by decode */
	struct flow_key key;  /* direction-free */
	uint32_t hash;        /* keyed hash of `key` */
	uint32_t l2_off;      /* innermost link header, UINT32_MAX if none */
	uint32_t l3_off;      /* innermost IP header */
	uint32_t l4_off;      /* TCP header */
	uint32_t payload_off; /* TCP payload, or the data of a fragment */
	uint32_t payload_len; /* TCP payload by the IP length */
	uint32_t payload_cap; /* of it, captured */
	uint32_t l3_len;      /* captured bytes from l3_off to the end of the IP packet */
	uint32_t seq, ack;
	uint16_t window;
	uint16_t urgent;     /* urgent pointer, with TCP_URG */
	uint16_t reason;     /* enum mos_counter, when kind is PKT_IGNORED */
	uint8_t kind;        /* enum pkt_kind */
	uint8_t flags;       /* enum tcp_flag */
	uint8_t tcp_opt_len; /* bytes of TCP options, at l4_off + 20 */
	uint8_t from_hi;     /* the sender is the key's second endpoint */
	uint8_t ipv6;
	uint8_t short_frame;     /* the IP packet is longer than its frame was on the wire */
	uint8_t rewritten;       /* `frame` is a reassembled datagram, not the producer's */
	uint16_t frag_next_at;   /* IPv6 fragment: octet from l3_off that says "fragment header" */
	uint32_t fragments_wire; /* wirelen of earlier fragments of this datagram */
};

struct mos_burst {
	uint32_t count;
	struct mos_pkt pkt[MOS_BURST_MAX];
};

#endif
