/*
 * af_packet.c - what the net_af_packet driver of DPDK 22.11 does, and what is done about it.
 *
 * - One slot of its ring holds one frame; a longer frame is cut and its true length is lost.
 *   A slot ends at 65,439 bytes, because an mbuf counts its room in 16 bits.
 * - It makes a send ring of the same size, whether wanted or not.
 * - Its socket hears every interface until it is bound: the ring starts with foreign frames.
 * - Starting the port writes the MAC address back to the interface, which empties the ARP cache
 *   and marks the address as set by hand.
 * - It puts its socket into a fan-out group named after pid and interface: a second port on the
 *   same interface would share the frames with the first.  The group has the kernel reassemble
 *   IPv4 fragments, so a live tap shows whole datagrams.
 * - No packet times and no drop counter (newer ones have both), and no interrupt to wait for.
 */
#define _GNU_SOURCE
#include "af_packet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

#include "eal.h"

enum {
	MBUF_CACHE = 32,
	BURST = 64,
	DESCRIPTORS = 512 /* ethdev asks for a number, the driver ignores it */
};

/* What to do about words of the driver whose meaning is known. */
static const char *remedy(const char *said)
{
	if (strstr(said, "mmap failed") != NULL)
		return "Let the process lock more memory: ulimit -l unlimited";
	if (strstr(said, "PACKET_FANOUT") != NULL)
		return "The driver's group number is taken by another process: start again, to get another process id";
	return "`mos doctor` shows what is missing";
}

/* "what (DPDK's words)": the log if it says something, else the code. */
static int fail(const struct af_packet *dev, int code, const char *what, char *err, size_t errlen)
{
	char said[512];
	int number = code < 0 ? -code : EIO;

	if (eal_log_take(said, sizeof said) == 0)
		snprintf(said, sizeof said, "%s", strerror(number));
	snprintf(err, errlen, "interface \"%s\" cannot be opened: %s (%s). %s", dev->tap.name, what, said,
	         remedy(said));
	return -number;
}

/* Big rings first: a small limit on locked memory (ulimit -l) may refuse them. */
static int attach(struct af_packet *dev, char *err, size_t errlen)
{
	char devargs[160], forget[8];
	int rc = -ENOMEM;

	for (unsigned slots = 0; rc != 0 && af_packet_ring_next(&dev->ring, &dev->tap, &slots);) {
		snprintf(devargs, sizeof devargs, "iface=%s,blocksz=%u,framesz=%u,framecnt=%u", dev->tap.name,
		         dev->ring.block, dev->ring.slot, dev->ring.slots);
		(void)eal_log_take(forget, sizeof forget);
		rc = rte_eal_hotplug_add("vdev", dev->device, devargs);
	}
	/* The driver knows only one code, -1, which would read as "no permission". */
	if (rc != 0)
		return fail(dev, -EIO, "the net_af_packet driver refused it", err, errlen);
	dev->attached = true;
	dev->ring_fd = tap_ring_fd(&dev->tap);
	tap_ring_keep_private(dev->ring_fd);
	if (rte_eth_dev_get_port_by_name(dev->device, &dev->id) != 0)
		return fail(dev, -ENODEV, "the net_af_packet driver made no port", err, errlen);
	return 0;
}

static int make_pool(struct af_packet *dev)
{
	dev->pool = rte_pktmbuf_pool_create(dev->device, AF_PACKET_MBUFS, MBUF_CACHE, 0,
	                                    (uint16_t)(dev->ring.room + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
	return dev->pool != NULL ? 0 : -rte_errno;
}

static int configure(struct af_packet *dev)
{
	struct rte_eth_conf conf = {0};
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(dev->id, &info);

	if (rc != 0)
		return rc;
	if ((info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0 &&
	    rte_mbuf_dyn_rx_timestamp_register(&dev->time_offset, &dev->time_flag) == 0)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
	rc = rte_eth_dev_configure(dev->id, 1, 1, &conf);
	if (rc == 0)
		rc = rte_eth_rx_queue_setup(dev->id, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, dev->pool);
	if (rc == 0)
		rc = rte_eth_tx_queue_setup(dev->id, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	return rc;
}

/*
 * Starting replays ethdev's idea of the MAC address and of the promiscuous flag onto the
 * interface.  The first is asked of the driver's socket, which is out of sight meanwhile (its
 * failure is ignored); the second changes nothing if ethdev knows the flag, but the kernel
 * demands CAP_NET_ADMIN all the same.
 */
static int start(struct af_packet *dev)
{
	char forget[8];
	int hidden, rc;

	if (dev->tap.promisc_flag)
		(void)rte_eth_promiscuous_enable(dev->id);
	hidden = tap_ring_hide(dev->ring_fd);
	rc = rte_eth_dev_start(dev->id);
	tap_ring_show(dev->ring_fd, hidden, rc != 0);
	dev->started = rc == 0;
	if (rc == 0) /* the failure we wanted was logged as an error */
		(void)eal_log_take(forget, sizeof forget);
	return rc;
}

/* Throw away what came before the socket was bound: it may be from other interfaces. */
static void discard_early_frames(struct af_packet *dev)
{
	struct rte_mbuf *mbufs[BURST];
	uint16_t n = 1;

	for (unsigned seen = 0; n > 0 && seen < dev->ring.slots; seen += n) {
		n = rte_eth_rx_burst(dev->id, 0, mbufs, BURST);
		rte_pktmbuf_free_bulk(mbufs, n);
	}
	(void)tap_ring_drops(dev->ring_fd);
}

int af_packet_up(struct af_packet *dev, unsigned number, char *err, size_t errlen)
{
	int rc;

	dev->time_offset = -1;
	dev->ring_fd = -1;
	snprintf(dev->device, sizeof dev->device, "net_af_packet%u", number);
	rc = attach(dev, err, errlen);
	if (rc != 0)
		return rc;
	rc = make_pool(dev);
	if (rc != 0)
		return fail(dev, rc, "no memory for packet buffers; close other ports of this process", err, errlen);
	rc = configure(dev);
	if (rc == 0)
		rc = start(dev);
	if (rc == -EPERM)
		return fail(dev, rc, "this DPDK's driver needs CAP_NET_ADMIN besides CAP_NET_RAW, run with sudo", err,
		            errlen);
	if (rc != 0)
		return fail(dev, rc, "DPDK could not start the port", err, errlen);
	if (dev->tap.loopback && (dev->ring_fd < 0 || tap_ring_skip_outgoing(dev->ring_fd) != 0))
		return fail(dev, -ENOTSUP,
		            "every packet would be seen twice, and the socket of DPDK's driver was not found "
		            "to filter that; is /proc mounted?",
		            err, errlen);
	discard_early_frames(dev);
	return 0;
}

void af_packet_down(struct af_packet *dev)
{
	int fd = -1;

	if (dev->started)
		(void)rte_eth_dev_stop(dev->id);
	if (dev->attached)
		(void)rte_eal_hotplug_remove("vdev", dev->device);
	/* The driver closes its socket when it stops, hence never if it was not started. */
	if (dev->attached && !dev->started)
		fd = tap_ring_fd(&dev->tap);
	if (fd >= 0)
		close(fd);
	rte_mempool_free(dev->pool);
	dev->attached = dev->started = false;
	dev->pool = NULL;
	dev->ring_fd = -1;
}
