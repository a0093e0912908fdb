/*
 * decode.h - bytes to one value struct: link layer, VLAN tags, IP, TCP.
 *
 * Trusts nothing: every length is checked against the captured bytes before it is used.  After
 * decode nobody checks again.
 * Units: bytes; host order, addresses and ports in the key stay as they lie in the packet.
 * Errors: pkt->kind == PKT_IGNORED and pkt->reason (enum mos_counter).
 * Threads: pure but for *decoder, which is read only.
 */
#ifndef MOS_PACKET_DECODE_H
#define MOS_PACKET_DECODE_H

#include "pkt.h"

struct decoder {
	const struct flow_hash_secret *secret;
	bool verify_checksums;
};

/* Fill the decoded part of *pkt from its frame. */
void decode(const struct decoder *decoder, struct mos_pkt *pkt);

#endif
