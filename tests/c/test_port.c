/*
 * test_port.c - opens an interface through csrc/io/port.h and prints what it saw as `key value`
 * lines; tests/live/test_port_live.py makes the interfaces and the traffic and judges.
 *
 *	test_port open IFACE                 the error sentence, or "ok"
 *	test_port count IFACE SECONDS WANT   count frames until WANT probes came or time is over
 *	test_port stall IFACE SECONDS        open, read nothing for SECONDS, then read what is left
 *	test_port idle IFACE SECONDS         CPU time of waiting
 *	test_port until-down IFACE SECONDS   read until an error, print it
 *	test_port reopen IFACE TIMES         open and close, then count what is left behind
 *	test_port undisturbed IFACE          what the process finds changed
 *	test_port fork IFACE SECONDS WANT    a fork child must not disturb the parent's next tap
 *	test_port thread IFACE SECONDS WANT  count in a thread that EAL does not know
 *	test_port twice IFACE                the sentence for a second port on the interface
 *
 * A probe is a UDP datagram to port 9999 whose payload bytes count up from 0.
 */
// args-from: pytest
// sources: io/eal.c io/tap.c io/port.c io/af_packet.c io/af_packet_ring.c
// pkg: libdpdk
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/eal.h"
#include "io/port.h"

#define MS 1000000ULL
enum {
	PROBE_PORT = 9999
};

struct seen {
	uint64_t frames, probes, tagged, bad, max_cap, max_wire, early, late;
	uint64_t payload; /* bytes of probes */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static void say(const char *key, uint64_t value)
{
	printf("%s %llu\n", key, (unsigned long long)value);
	fflush(stdout);
}

static struct port *open_or_die(const char *name)
{
	char err[1024] = "";
	struct port *port;
	int rc = port_open(&port, name, err, sizeof err);

	if (rc != 0) {
		printf("error %d %s\n", rc, err);
		exit(1);
	}
	return port;
}

static void look(const struct mos_pkt *pkt, struct seen *seen, uint64_t started_ns)
{
	const uint8_t *at = pkt->frame + 12;
	bool tagged = get16(at) == 0x8100;
	const uint8_t *ip = at + (tagged ? 6 : 2), *udp = ip + 20;
	size_t len;

	seen->frames++;
	seen->max_cap = pkt->caplen > seen->max_cap ? pkt->caplen : seen->max_cap;
	seen->max_wire = pkt->wirelen > seen->max_wire ? pkt->wirelen : seen->max_wire;
	seen->early += pkt->time_ns < started_ns;
	seen->late += pkt->time_ns > clock_ns(CLOCK_REALTIME);
	if (pkt->caplen < 46 || get16(ip - 2) != 0x0800 || ip[0] != 0x45 || ip[9] != 17 ||
	    (get16(ip + 6) & 0x1fff) != 0 || get16(udp + 2) != PROBE_PORT)
		return;
	seen->probes++;
	seen->tagged += tagged && (get16(at + 2) & 0xfff) == 100;
	len = get16(udp + 4) - 8U;
	seen->payload += len;
	for (size_t i = 0; i < len && udp + 8 + i < pkt->frame + pkt->caplen; i++)
		if (udp[8 + i] != (uint8_t)i) {
			seen->bad++;
			break;
		}
}

static int read_for(struct port *port, uint64_t for_ns, uint64_t want, struct seen *seen)
{
	uint64_t end = clock_ns(CLOCK_MONOTONIC) + for_ns, started = clock_ns(CLOCK_REALTIME);
	struct mos_pkt pkt[MOS_BURST_MAX];
	bool ending = false;

	memset(pkt, 0, sizeof pkt);
	while (clock_ns(CLOCK_MONOTONIC) < end) {
		int n = port_read(port, pkt, MOS_BURST_MAX);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			look(&pkt[i], seen, started);
		port_release(port, pkt, (unsigned)n);
		if (n == 0)
			port_wait(port, 100 * MS);
		if (seen->probes >= want && !ending) { /* stay a little, for frames that are too many */
			ending = true;
			end = clock_ns(CLOCK_MONOTONIC) + 300 * MS;
		}
	}
	return 0;
}

static void report(struct port *port, const struct seen *seen)
{
	struct port_stats stats;

	port_stats(port, &stats);
	say("frames", seen->frames);
	say("probes", seen->probes);
	say("tagged", seen->tagged);
	say("bad", seen->bad);
	say("payload", seen->payload);
	say("max_cap", seen->max_cap);
	say("max_wire", seen->max_wire);
	say("wrong_time", seen->early + seen->late);
	say("received", stats.received);
	say("dropped", stats.dropped);
	say("no_mbuf", stats.no_mbuf);
	printf("notice %s\n", port_error(port));
}

static void count(const char *name, uint64_t seconds, uint64_t want)
{
	struct seen seen = {0};
	struct port *port = open_or_die(name);

	say("ready", 1);
	read_for(port, seconds * 1000 * MS, want, &seen);
	report(port, &seen);
	port_close(port);
	say("mbufs", port_live_mbufs());
}

static void stall(const char *name, uint64_t seconds)
{
	struct seen seen = {0};
	struct port *port = open_or_die(name);

	say("ready", 1);
	sleep((unsigned)seconds);
	read_for(port, 300 * MS, UINT64_MAX, &seen);
	report(port, &seen);
	port_close(port);
}

static void idle(const char *name, uint64_t seconds)
{
	struct port *port = open_or_die(name);
	struct seen seen = {0};
	struct rusage use;
	uint64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

	read_for(port, seconds * 1000 * MS, UINT64_MAX, &seen);
	say("cpu_us", (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before) / 1000);
	getrusage(RUSAGE_SELF, &use);
	say("rss_kb", (uint64_t)use.ru_maxrss);
	port_close(port);
}

static void until_down(const char *name, uint64_t seconds)
{
	struct port *port = open_or_die(name);
	struct seen seen = {0};
	uint64_t before = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	int rc;

	say("ready", 1);
	rc = read_for(port, seconds * 1000 * MS, UINT64_MAX, &seen);
	printf("error %d %s\n", rc, port_error(port));
	say("cpu_us", (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before) / 1000);
	port_close(port);
}

static uint64_t entries(const char *path)
{
	DIR *folder = opendir(path);
	uint64_t n = 0;

	while (folder != NULL && readdir(folder) != NULL)
		n++;
	if (folder != NULL)
		closedir(folder);
	return n;
}

static uint64_t resident_kb(void)
{
	unsigned long total = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (file != NULL) {
		if (fscanf(file, "%lu %lu", &total, &resident) != 2)
			resident = 0;
		fclose(file);
	}
	return resident * 4;
}

static void reopen(const char *name, uint64_t times)
{
	uint64_t fds = 0, threads = 0, kb = 0, before = 0;
	struct seen seen = {0};

	for (uint64_t i = 0; i < times; i++) {
		struct port *port = open_or_die(name);

		read_for(port, 5 * MS, UINT64_MAX, &seen);
		port_close(port);
		if (i == 1) { /* the first two pay for what EAL and libc keep */
			fds = entries("/proc/self/fd");
			threads = entries("/proc/self/task");
			kb = resident_kb();
			before = clock_ns(CLOCK_MONOTONIC);
		}
	}
	say("us_a_round", (clock_ns(CLOCK_MONOTONIC) - before) / 1000 / (times - 2));
	say("more_fds", entries("/proc/self/fd") - fds);
	say("more_threads", entries("/proc/self/task") - threads);
	say("more_kb", resident_kb() > kb ? resident_kb() - kb : 0);
	say("mbufs", port_live_mbufs());
}

static void on_signal(int number)
{
	(void)number;
}

static uint64_t changed_actions(const struct sigaction *before)
{
	uint64_t changed = 0;

	for (int i = 1; i < _NSIG; i++) {
		struct sigaction now;

		/* 32 and 33 are glibc's own, installed with a process's first thread. */
		if (i != 32 && i != 33 && sigaction(i, NULL, &now) == 0)
			changed += now.sa_handler != before[i].sa_handler || now.sa_flags != before[i].sa_flags;
	}
	return changed;
}

static void undisturbed(const char *name)
{
	struct sigaction before[_NSIG], mine = {.sa_handler = on_signal};
	cpu_set_t cpus, cpus_now;
	sigset_t mask, mask_now;
	struct port *port;

	sigaction(SIGINT, &mine, NULL);
	sigaction(SIGBUS, &mine, NULL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	optind = 7;
	for (int i = 1; i < _NSIG; i++)
		sigaction(i, NULL, &before[i]);
	sched_getaffinity(0, sizeof cpus, &cpus);
	pthread_setname_np(pthread_self(), "my-name");
	port = open_or_die(name);
	sched_getaffinity(0, sizeof cpus_now, &cpus_now);
	sigprocmask(SIG_SETMASK, NULL, &mask_now);
	say("affinity", !CPU_EQUAL(&cpus, &cpus_now));
	say("mask", memcmp(&mask, &mask_now, 8) != 0);
	say("actions", changed_actions(before));
	say("getopt", optind != 7);
	say("runtime_folder", access("/var/run/dpdk", F_OK) == 0 ? entries("/var/run/dpdk") - 2 : 0);
	port_close(port);
}

static void fork_between(const char *name, uint64_t seconds, uint64_t want)
{
	struct port *port = open_or_die(name);
	char err[512];
	pid_t child = fork();

	if (child == 0) {
		struct mos_pkt pkt;
		int refused = port_read(port, &pkt, 1) == -EPERM && port_open(&port, name, err, sizeof err) == -EPERM;

		sleep((unsigned)seconds);
		_exit(refused ? 0 : 1);
	}
	port_close(port);
	count(name, seconds, want);
	kill(child, 0);
	int status = -1;
	waitpid(child, &status, 0);
	say("child_failed", status != 0);
}

struct count_args {
	const char *name;
	uint64_t seconds, want;
};

static void *count_in_thread(void *arg)
{
	const struct count_args *args = arg;

	count(args->name, args->seconds, args->want);
	return NULL;
}

static void threaded(const char *name, uint64_t seconds, uint64_t want)
{
	struct count_args args = {name, seconds, want};
	char err[512];
	pthread_t thread;

	if (eal_start(err, sizeof err) != 0 || pthread_create(&thread, NULL, count_in_thread, &args) != 0)
		exit(1);
	pthread_join(thread, NULL);
}

static void twice(const char *name)
{
	struct port *port = open_or_die(name), *second;
	char err[512] = "";

	printf("error %d %s\n", port_open(&second, name, err, sizeof err), err);
	port_close(port);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "", *name = argc > 2 ? argv[2] : "";
	uint64_t a = argc > 3 ? strtoull(argv[3], NULL, 10) : 0, b = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;

	if (strcmp(mode, "open") == 0)
		port_close(open_or_die(name)), puts("ok");
	else if (strcmp(mode, "count") == 0)
		count(name, a, b);
	else if (strcmp(mode, "stall") == 0)
		stall(name, a);
	else if (strcmp(mode, "idle") == 0)
		idle(name, a);
	else if (strcmp(mode, "until-down") == 0)
		until_down(name, a);
	else if (strcmp(mode, "reopen") == 0)
		reopen(name, a);
	else if (strcmp(mode, "undisturbed") == 0)
		undisturbed(name);
	else if (strcmp(mode, "fork") == 0)
		fork_between(name, a, b);
	else if (strcmp(mode, "thread") == 0)
		threaded(name, a, b);
	else if (strcmp(mode, "twice") == 0)
		twice(name);
	else
		return fprintf(stderr, "usage: test_port MODE IFACE [NUMBER...]; see the top of test_port.c\n"), 2;
	return 0;
}
