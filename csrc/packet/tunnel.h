/*
 * tunnel.h - IP packets and Ethernet frames inside IP packets: IP-in-IP (RFC 2003), 6in4
 * (RFC 4213), GRE (RFC 2784, 2890), ERSPAN, VXLAN (RFC 7348), GENEVE (RFC 8926), GTP-U
 * (3GPP TS 29.281).
 *
 * Tunnels over UDP are known by their port and by a header that makes sense; anything else is
 * left alone: it is a UDP packet then.
 */
#ifndef MOS_PACKET_TUNNEL_H
#define MOS_PACKET_TUNNEL_H

#include "walk.h"

/*
 * walk->proto at walk->at begins a tunnel: step to its inside, walk->type names what follows.
 * false, and nothing changed, when it is none.
 */
bool tunnel_open(struct mos_pkt *pkt, struct walk *walk);

#endif
