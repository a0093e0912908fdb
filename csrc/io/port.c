/* port.c - see port.h.  What is peculiar to the driver is in af_packet.c, to Linux in tap.c. */
#define _GNU_SOURCE
#include "port.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <rte_config.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

#include "af_packet.h"
#include "eal.h"

#define CHECK_EVERY_NS 250000000ULL /* ask whether the interface is up, only while idle */
#define SLEEP_MIN_NS 50000ULL       /* without the driver's socket: sleep in growing steps */
#define SLEEP_MAX_NS 1000000ULL

struct port {
	struct port *next; /* of all_ports */
	struct af_packet dev;
	bool listed, registered;
	uint64_t checked_ns, sleep_ns;
	uint64_t cut; /* frames that did not fit a slot of the ring */
	unsigned out; /* mbufs in the caller's hands */
	struct port_stats stats;
	char error[512];
};

static pthread_mutex_t ports_lock = PTHREAD_MUTEX_INITIALIZER; /* what follows, and DPDK's devices */
static struct port *all_ports;
static unsigned ports_made;
static bool fork_watched;

static _Atomic uint64_t live_mbufs;
static _Thread_local unsigned registered_here; /* ports that keep this thread's lcore id */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* ---- open and close ----------------------------------------------------------------------- */

/*
 * A fork child inherits the driver's socket.  Left open, it would keep the tap alive after the
 * parent closed it, and take a share of the packets when the parent opens it again (its place in
 * the fan-out group).  See also tap_ring_keep_private().
 */
static void in_child(void)
{
	for (struct port *port = all_ports; port != NULL; port = port->next) {
		if (port->dev.ring_fd >= 0)
			close(port->dev.ring_fd);
		port->dev.ring_fd = -1;
		tap_close(&port->dev.tap);
	}
}

/* Under ports_lock. */
static int enlist(struct port *port, char *err, size_t errlen)
{
	for (struct port *other = all_ports; other != NULL; other = other->next) {
		if (other->dev.tap.index != port->dev.tap.index)
			continue;
		snprintf(err, errlen,
		         "interface \"%s\" is open already in this process, and each port would get only a part of "
		         "its packets; close the other one, or use a second process",
		         port->dev.tap.name);
		return -EBUSY;
	}
	if (!fork_watched && pthread_atfork(NULL, NULL, in_child) == 0)
		fork_watched = true;
	port->next = all_ports;
	all_ports = port;
	port->listed = true;
	return 0;
}

/* Under ports_lock. */
static void unlist(struct port *port)
{
	for (struct port **at = &all_ports; *at != NULL; at = &(*at)->next) {
		if (*at == port) {
			*at = port->next;
			return;
		}
	}
}

/* Threads that EAL did not start have no lcore id, and without one the mbuf cache is unused. */
static void enter_lcore(struct port *port)
{
	if (registered_here == 0 && rte_lcore_id() != LCORE_ID_ANY)
		return;
	if (registered_here == 0 && rte_thread_register() != 0)
		return; /* all ids are taken: slower, not wrong */
	registered_here++;
	port->registered = true;
}

static void leave_lcore(const struct port *port)
{
	/* registered_here is 0 when another thread closes the port; the id is then lost. */
	if (port->registered && registered_here > 0 && --registered_here == 0)
		rte_thread_unregister();
}

static int bring_up(struct port *port, char *err, size_t errlen)
{
	int rc;

	pthread_mutex_lock(&ports_lock);
	rc = enlist(port, err, errlen);
	if (rc == 0)
		rc = af_packet_up(&port->dev, ports_made++, err, errlen);
	pthread_mutex_unlock(&ports_lock);
	return rc;
}

int port_open(struct port **out, const char *name, char *err, size_t errlen)
{
	struct port *port = calloc(1, sizeof *port);
	int rc;

	*out = NULL;
	if (port == NULL) {
		snprintf(err, errlen, "interface \"%s\" cannot be opened: out of memory", name);
		return -ENOMEM;
	}
	port->dev.ring_fd = -1;
	/* The name is judged before EAL starts: a user's typing error costs no start. */
	rc = tap_open(&port->dev.tap, name, err, errlen);
	if (rc == 0)
		rc = eal_start(err, errlen);
	if (rc == 0)
		rc = bring_up(port, err, errlen);
	if (rc != 0) {
		port_close(port);
		return rc;
	}
	enter_lcore(port);
	*out = port;
	return 0;
}

void port_close(struct port *port)
{
	if (port == NULL)
		return;
	/* In a fork child DPDK's memory is the parent's: nothing of it may be touched. */
	if (port->listed && eal_started()) {
		pthread_mutex_lock(&ports_lock);
		af_packet_down(&port->dev);
		unlist(port);
		pthread_mutex_unlock(&ports_lock);
		leave_lcore(port);
	}
	tap_close(&port->dev.tap);
	if (port->listed && !eal_started())
		unlist(port);
	free(port);
}

/* ---- packets ------------------------------------------------------------------------------ */

static uint32_t wire_length(struct port *port, const struct rte_mbuf *m)
{
	uint32_t len = rte_pktmbuf_pkt_len(m), whole;

	if (rte_pktmbuf_data_len(m) < port->dev.ring.cut_from)
		return len;
	whole = af_packet_ring_wirelen(rte_pktmbuf_mtod(m, const uint8_t *), len, port->dev.tap.linktype);
	if (whole > len && port->cut++ == 0)
		snprintf(
			port->error, sizeof port->error,
			"frames on interface \"%s\" are cut: one of %u bytes was longer than the "
			"%u that DPDK's net_af_packet driver can take. Make them shorter: ip link set %s mtu %u, or switch off "
			"merging: ethtool -K %s gro off tso off",
			port->dev.tap.name, whole, len, port->dev.tap.name,
			port->dev.tap.mtu > 65280 ? 65280 : port->dev.tap.mtu, port->dev.tap.name);
	return whole;
}

static uint64_t packet_time(const struct port *port, const struct rte_mbuf *m, uint64_t burst_ns)
{
	if (port->dev.time_offset < 0 || (m->ol_flags & port->dev.time_flag) == 0)
		return burst_ns;
	return *RTE_MBUF_DYNFIELD(m, port->dev.time_offset, const rte_mbuf_timestamp_t *);
}

static void fill(struct port *port, struct mos_pkt *pkt, struct rte_mbuf *m, uint64_t burst_ns)
{
	uint32_t wirelen = wire_length(port, m);

	/* The driver puts the tag back itself unless a later version changes its mind. */
	if ((m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && rte_vlan_insert(&m) == 0)
		wirelen += (uint32_t)sizeof(struct rte_vlan_hdr);
	/* One that cannot be made contiguous goes on as a snapped frame. */
	if (!rte_pktmbuf_is_contiguous(m))
		(void)rte_pktmbuf_linearize(m);
	pkt->frame = rte_pktmbuf_mtod(m, const uint8_t *);
	pkt->caplen = rte_pktmbuf_data_len(m);
	pkt->wirelen = wirelen;
	pkt->time_ns = packet_time(port, m, burst_ns);
	pkt->linktype = port->dev.tap.linktype;
	pkt->port = port->dev.id;
	pkt->mbuf = m;
}

static int read_nothing(struct port *port)
{
	uint64_t now = now_ns(CLOCK_MONOTONIC_COARSE);

	if (now - port->checked_ns < CHECK_EVERY_NS)
		return 0;
	port->checked_ns = now;
	return tap_check(&port->dev.tap, port->error, sizeof port->error);
}

int port_read(struct port *port, struct mos_pkt *pkt, unsigned max)
{
	struct rte_mbuf *mbufs[MOS_BURST_MAX];
	uint64_t burst_ns;
	uint16_t n;

	if (!eal_started()) {
		snprintf(port->error, sizeof port->error,
		         "interface \"%s\" was opened before fork(); open it in the process "
		         "that reads it",
		         port->dev.tap.name);
		return -EPERM;
	}
	max = max < MOS_BURST_MAX ? max : MOS_BURST_MAX;
	n = rte_eth_rx_burst(port->dev.id, 0, mbufs, (uint16_t)max);
	if (n < max && port->out + n == AF_PACKET_MBUFS)
		port->stats.no_mbuf++;
	if (n == 0)
		return read_nothing(port);
	burst_ns = now_ns(CLOCK_REALTIME);
	for (unsigned i = 0; i < n; i++)
		fill(port, &pkt[i], mbufs[i], burst_ns);
	port->stats.received += n;
	port->out += n;
	port->sleep_ns = 0;
	atomic_fetch_add_explicit(&live_mbufs, n, memory_order_relaxed);
	return n;
}

void port_release(struct port *port, struct mos_pkt *pkt, unsigned count)
{
	unsigned freed = 0;

	if (!eal_started())
		return;
	for (unsigned i = 0; i < count; i++) {
		if (pkt[i].mbuf == NULL)
			continue;
		rte_pktmbuf_free(pkt[i].mbuf);
		pkt[i].mbuf = NULL;
		freed++;
	}
	port->out -= freed;
	atomic_fetch_sub_explicit(&live_mbufs, freed, memory_order_relaxed);
}

/* The driver's socket becomes readable with the first frame in the ring. */
void port_wait(struct port *port, uint64_t timeout_ns)
{
	struct pollfd ring = {.fd = port->dev.ring_fd, .events = POLLIN};
	struct timespec timeout;
	int reason;
	socklen_t len = sizeof reason;

	if (ring.fd < 0) {
		port->sleep_ns = port->sleep_ns == 0 ? SLEEP_MIN_NS : RTE_MIN(2 * port->sleep_ns, SLEEP_MAX_NS);
		timeout_ns = RTE_MIN(timeout_ns, port->sleep_ns);
	}
	timeout = (struct timespec){.tv_sec = (time_t)(timeout_ns / 1000000000U),
	                            .tv_nsec = (long)(timeout_ns % 1000000000U)};
	if (ppoll(&ring, 1, &timeout, NULL) > 0 && (ring.revents & POLLERR) != 0) {
		/* Went down: taking the error stops poll from returning at once for ever. */
		(void)getsockopt(ring.fd, SOL_SOCKET, SO_ERROR, &reason, &len);
		port->checked_ns = 0;
	}
}

/* ---- figures ------------------------------------------------------------------------------ */

void port_stats(struct port *port, struct port_stats *stats)
{
	struct rte_eth_stats driver = {0};

	/* The kernel's counter starts anew when read, so whoever reads it first (a newer driver, or
	 * we) has that part, and the sum is right. */
	if (eal_started()) {
		(void)rte_eth_stats_get(port->dev.id, &driver);
		port->stats.dropped += tap_ring_drops(port->dev.ring_fd);
	}
	*stats = port->stats;
	stats->dropped += driver.imissed;
	stats->no_mbuf += driver.rx_nombuf;
}

const char *port_error(const struct port *port)
{
	return port->error;
}

uint64_t port_live_mbufs(void)
{
	return atomic_load_explicit(&live_mbufs, memory_order_relaxed);
}
