/*
 * port.h - DPDK ports as packet sources.
 *
 * A plain interface name is opened as a tap through the net_af_packet driver, hot-plugged into
 * the one EAL of the process.  Ports are removed again by port_close(); interface state that we
 * changed is put back.
 * Units: bytes, ns.  Threads: one thread per port.
 * Ownership: the frames of a burst live in mbufs until port_release().
 */
#ifndef MOS_IO_PORT_H
#define MOS_IO_PORT_H

#include "../packet/pkt.h"

struct port;

struct port_stats {
	uint64_t received; /* frames taken from the port */
	uint64_t dropped;  /* frames the kernel or NIC dropped before us */
	uint64_t no_mbuf;  /* receive attempts without a free buffer */
};

/* Starts EAL if needed.  -errno and a sentence in err (no such interface, no permission, ...). */
int port_open(struct port **port, const char *name, char *err, size_t errlen);

/*
 * Receive up to `max` packets (frame, time_ns, caplen, wirelen, linktype = Ethernet, port, mbuf).
 * Returns how many, 0 = nothing now, -errno when the port failed (-ENETDOWN: interface gone).
 */
int port_read(struct port *port, struct mos_pkt *pkt, unsigned max);

/* Give the buffers of a burst back.  Called after the pipeline is done with it. */
void port_release(struct port *port, struct mos_pkt *pkt, unsigned count);

/* Sleep until a packet is there or `timeout_ns` is over; for idle taps. */
void port_wait(struct port *port, uint64_t timeout_ns);

void port_stats(struct port *port, struct port_stats *stats);
const char *port_error(const struct port *port);
void port_close(struct port *port);

/* mbufs in use in the whole process. */
uint64_t port_live_mbufs(void);

#endif
