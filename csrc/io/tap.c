/* tap.c - see tap.h. */
#define _GNU_SOURCE
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LINKTYPE_ETHERNET = 1,
	LINKTYPE_RAW = 101
};

__attribute__((format(printf, 4, 5))) static int fail(char *err, size_t errlen, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (errlen > 0)
		vsnprintf(err, errlen, format, ap);
	va_end(ap);
	return code;
}

static struct ifreq request(const struct tap *tap)
{
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, tap->name, sizeof ifr.ifr_name);
	return ifr;
}

/* ---- open --------------------------------------------------------------------------------- */

static int no_such_interface(const char *name, char *err, size_t errlen)
{
	struct if_nameindex *all = if_nameindex();
	char list[256] = "";
	size_t used = 0;

	for (struct if_nameindex *i = all; i != NULL && i->if_index != 0 && used < sizeof list; i++)
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", i->if_name);
	if (all != NULL)
		if_freenameindex(all);
	return fail(err, errlen, -ENODEV, "no network interface is called \"%s\"; there is: %s", name, list);
}

static int check_name(const char *name, char *err, size_t errlen)
{
	size_t len = strlen(name);

	/* The name travels through DPDK's comma-separated device arguments. */
	if (len > 0 && len < IFNAMSIZ && strpbrk(name, ",=[]()\"' /") != NULL)
		return fail(err, errlen, -EINVAL,
		            "interface \"%s\" cannot be opened: DPDK takes no name with one of "
		            ",=[]()\"' in it; rename the interface: ip link set ... name ...",
		            name);
	if (len == 0 || len >= IFNAMSIZ)
		return no_such_interface(name, err, errlen);
	return 0;
}

static int open_socket(struct tap *tap, char *err, size_t errlen)
{
	char python[256] = "python3";
	ssize_t len;

	/* Protocol 0: no packet is ever queued to it. */
	tap->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (tap->fd >= 0)
		return 0;
	if (errno != EPERM && errno != EACCES)
		return fail(err, errlen, -errno, "cannot open a packet socket for \"%s\": %s", tap->name,
		            strerror(errno));
	len = readlink("/proc/self/exe", python, sizeof python - 1);
	if (len > 0)
		python[len] = '\0';
	return fail(
		err, errlen, -EPERM,
		"no permission to read interface \"%s\": that needs CAP_NET_RAW and CAP_NET_ADMIN. Run "
		"with sudo, or give them to this Python once: sudo setcap cap_net_raw,cap_net_admin,cap_ipc_lock+ep %s",
		tap->name, python);
}

static int read_linktype(struct tap *tap, char *err, size_t errlen)
{
	struct ifreq ifr = request(tap);

	if (ioctl(tap->fd, SIOCGIFHWADDR, &ifr) != 0)
		return fail(err, errlen, -errno, "cannot ask for the type of interface \"%s\": %s", tap->name,
		            strerror(errno));
	switch (ifr.ifr_hwaddr.sa_family) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		tap->linktype = LINKTYPE_ETHERNET;
		return 0;
	case ARPHRD_NONE: /* tun, WireGuard */
	case ARPHRD_RAWIP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
		tap->linktype = LINKTYPE_RAW;
		return 0;
	default:
		return fail(err, errlen, -EOPNOTSUPP,
		            "interface \"%s\" has link type %d (ARPHRD_*), and only Ethernet, "
		            "loopback and plain IP ones can be read; use the interface below it",
		            tap->name, ifr.ifr_hwaddr.sa_family);
	}
}

static bool ethtool_on(const struct tap *tap, uint32_t command, uint32_t mask)
{
	struct ethtool_value value = {.cmd = command};
	struct ifreq ifr = request(tap);

	ifr.ifr_data = (void *)&value;
	return ioctl(tap->fd, SIOCETHTOOL, &ifr) == 0 && (value.data & mask) != 0;
}

/* A peer or guest may hand over TSO frames whatever this side says: virtual ones count as big. */
static bool makes_big_frames(const struct tap *tap)
{
	char path[64];

	snprintf(path, sizeof path, "/sys/class/net/%s/device", tap->name);
	return access(path, F_OK) != 0 || ethtool_on(tap, ETHTOOL_GGRO, ~0U) || ethtool_on(tap, ETHTOOL_GTSO, ~0U) ||
	       ethtool_on(tap, ETHTOOL_GFLAGS, ETH_FLAG_LRO);
}

static int read_link(struct tap *tap, char *err, size_t errlen)
{
	struct ifreq ifr = request(tap);
	int rc;

	if (ioctl(tap->fd, SIOCGIFINDEX, &ifr) != 0)
		return no_such_interface(tap->name, err, errlen);
	tap->index = ifr.ifr_ifindex;
	rc = read_linktype(tap, err, errlen);
	if (rc != 0)
		return rc;
	ifr = request(tap);
	tap->mtu = ioctl(tap->fd, SIOCGIFMTU, &ifr) == 0 ? (uint32_t)ifr.ifr_mtu : 65536;
	ifr = request(tap);
	if (ioctl(tap->fd, SIOCGIFFLAGS, &ifr) == 0) {
		tap->loopback = (ifr.ifr_flags & IFF_LOOPBACK) != 0;
		tap->promisc_flag = (ifr.ifr_flags & IFF_PROMISC) != 0;
	}
	tap->big_frames = makes_big_frames(tap);
	return tap_check(tap, err, errlen);
}

int tap_open(struct tap *tap, const char *name, char *err, size_t errlen)
{
	struct packet_mreq member = {.mr_type = PACKET_MR_PROMISC};
	int rc = check_name(name, err, errlen);

	*tap = (struct tap){.fd = -1};
	if (rc != 0)
		return rc;
	memcpy(tap->name, name, strlen(name));
	if (if_nametoindex(name) == 0)
		return no_such_interface(name, err, errlen);
	rc = open_socket(tap, err, errlen);
	if (rc == 0)
		rc = read_link(tap, err, errlen);
	if (rc != 0) {
		tap_close(tap);
		return rc;
	}
	/* Not every interface can (tun, WireGuard); it then shows what it gets anyway. */
	member.mr_ifindex = tap->index;
	(void)setsockopt(tap->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &member, sizeof member);
	return 0;
}

void tap_close(struct tap *tap)
{
	if (tap->fd >= 0)
		close(tap->fd);
	tap->fd = -1;
}

int tap_check(const struct tap *tap, char *err, size_t errlen)
{
	struct ifreq ifr = {.ifr_ifindex = tap->index};

	if (ioctl(tap->fd, SIOCGIFNAME, &ifr) != 0)
		return fail(err, errlen, -ENETDOWN,
		            "interface \"%s\" is gone: it was removed, or moved to another network "
		            "namespace",
		            tap->name);
	if (ioctl(tap->fd, SIOCGIFFLAGS, &ifr) != 0 || (ifr.ifr_flags & IFF_UP) == 0)
		return fail(err, errlen, -ENETDOWN, "interface \"%s\" is down; bring it up: ip link set %s up",
		            tap->name, tap->name);
	return 0;
}

/* ---- the driver's ring -------------------------------------------------------------------- */

/* A packet socket bound to our interface, with a fan-out group: only the driver makes that. */
static bool is_ring(const struct tap *tap, int fd)
{
	struct sockaddr_ll addr = {0};
	int domain = 0, fanout = 0;
	socklen_t len = sizeof domain;

	if (fd == tap->fd || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 || domain != AF_PACKET)
		return false;
	len = sizeof addr;
	if (getsockname(fd, (struct sockaddr *)&addr, &len) != 0 || addr.sll_ifindex != tap->index)
		return false;
	len = sizeof fanout;
	return getsockopt(fd, SOL_PACKET, PACKET_FANOUT, &fanout, &len) == 0 &&
	       (fanout & 0xffff) == ((getpid() ^ tap->index) & 0xffff) && fanout != 0;
}

int tap_ring_fd(const struct tap *tap)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	int found = -1;

	if (folder == NULL)
		return -1;
	while (found < 0 && (entry = readdir(folder)) != NULL) {
		char *end;
		long fd = strtol(entry->d_name, &end, 10);

		if (end != entry->d_name && is_ring(tap, (int)fd))
			found = (int)fd;
	}
	closedir(folder);
	return found;
}

void tap_ring_keep_private(int ring_fd)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	struct stat ring;
	char line[256];

	if (maps == NULL)
		return;
	while (fstat(ring_fd, &ring) == 0 && fgets(line, sizeof line, maps) != NULL) {
		unsigned long from, to, inode;

		if (strstr(line, "socket:") != NULL &&
		    sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3 && inode == ring.st_ino)
			(void)madvise((void *)from, to - from, MADV_DONTFORK);
	}
	fclose(maps);
	(void)fcntl(ring_fd, F_SETFD, FD_CLOEXEC);
}

uint64_t tap_ring_drops(int ring_fd)
{
	struct tpacket_stats stats = {0};
	socklen_t len = sizeof stats;

	if (ring_fd < 0 || getsockopt(ring_fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) != 0)
		return 0;
	return stats.tp_drops;
}

int tap_ring_skip_outgoing(int ring_fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

	return setsockopt(ring_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : -errno;
}

int tap_ring_hide(int ring_fd)
{
	int hidden = ring_fd >= 0 ? fcntl(ring_fd, F_DUPFD_CLOEXEC, 0) : -1;
	int nothing = hidden >= 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	if (nothing < 0 || dup3(nothing, ring_fd, O_CLOEXEC) < 0) {
		if (hidden >= 0)
			close(hidden);
		hidden = -1;
	}
	if (nothing >= 0)
		close(nothing);
	return hidden;
}

void tap_ring_show(int ring_fd, int hidden, bool gone)
{
	if (hidden < 0)
		return;
	if (!gone)
		(void)dup3(hidden, ring_fd, O_CLOEXEC);
	close(hidden);
}
