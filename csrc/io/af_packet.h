/*
 * af_packet.h - DPDK's net_af_packet driver, brought up on one interface and taken down again.
 *
 * Units: bytes.  Errors: -errno and a sentence in err.
 * Threads: up and down change DPDK's list of devices; the caller holds a lock around them.
 */
#ifndef MOS_IO_AF_PACKET_H
#define MOS_IO_AF_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "af_packet_ring.h"
#include "tap.h"

struct rte_mempool;

enum {
	AF_PACKET_MBUFS = 127
}; /* a burst of 64, and as many that a later stage may keep */

struct af_packet {
	struct tap tap; /* opened and closed by the owner of this struct */
	struct af_packet_ring ring;
	struct rte_mempool *pool;
	uint64_t time_flag; /* set in mbufs that have the driver's packet time, ... */
	int time_offset;    /* ... which is here; -1 if the driver gives none */
	int ring_fd;        /* the driver's socket; -1 if it was not found */
	uint16_t id;        /* DPDK's port number */
	bool attached, started;
	char device[32];
};

/* EAL runs and dev->tap is open.  After a failure call af_packet_down() as well. */
int af_packet_up(struct af_packet *dev, unsigned number, char *err, size_t errlen);
void af_packet_down(struct af_packet *dev);

#endif
