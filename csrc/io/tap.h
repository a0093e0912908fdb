/*
 * tap.h - the Linux side of a tap: what the kernel says about an interface, and the few things
 * that net_af_packet does not do itself.
 *
 * Nothing here changes the interface: promiscuous mode is a packet-socket membership, which the
 * kernel counts and takes back even when the process is killed.
 * Units: bytes.  Errors: -errno and a sentence in err.  Threads: one thread per struct tap.
 */
#ifndef MOS_IO_TAP_H
#define MOS_IO_TAP_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap {
	char name[IFNAMSIZ]; /* as it was when opened */
	int index;
	int fd;            /* our socket: ioctls and the promiscuous membership; receives nothing */
	uint16_t linktype; /* LINKTYPE_* of pcap-linktype(7) */
	uint32_t mtu;
	bool big_frames; /* GRO, LRO or TSO may make frames larger than the MTU */
	bool loopback;
	bool promisc_flag; /* IFF_PROMISC was set by an administrator */
};

int tap_open(struct tap *tap, const char *name, char *err, size_t errlen);
void tap_close(struct tap *tap);

/* 0 while the interface is there and up (also under a new name), else -ENETDOWN. */
int tap_check(const struct tap *tap, char *err, size_t errlen);

/*
 * The socket of net_af_packet's receive ring, which the driver keeps to itself; -1 if not found.
 * It belongs to the driver: poll it, ask it, but do not close it.
 */
int tap_ring_fd(const struct tap *tap);

/*
 * Keep the ring's memory out of fork children: a mapping keeps the socket alive even when every
 * descriptor of it is closed.  The descriptor itself is closed on exec.
 */
void tap_ring_keep_private(int ring_fd);

/* Frames the kernel dropped since the last call because the ring was full. */
uint64_t tap_ring_drops(int ring_fd);

/* On the loopback interface every frame passes twice; keep the received one, as tcpdump does. */
int tap_ring_skip_outgoing(int ring_fd);

/*
 * Put /dev/null in the place of the driver's socket for a moment, so that what the driver asks
 * of it comes to nothing; returns what tap_ring_show() needs, -1 if nothing was hidden.
 */
int tap_ring_hide(int ring_fd);
/* `gone`: the driver has closed its socket in the meantime. */
void tap_ring_show(int ring_fd, int hidden, bool gone);

#endif
