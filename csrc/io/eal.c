/*
 * eal.c - starts DPDK's environment inside a process that belongs to somebody else.
 *
 * rte_eal_init() works once per process, pins its caller to one CPU (threads started later
 * inherit that), starts a thread that inherits the caller's signal mask, writes its log to
 * stderr and syslog, and leaves a folder behind.  Everything around the call is here to undo
 * that.  No port is given to it: ports come and go by hot-plug (port.c).
 */
#define _GNU_SOURCE
#include "eal.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_version.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "mos needs DPDK 22.11 or newer"
#endif

enum {
	/* Reserved address space; pages are taken when touched.  A tap needs about 9 of them. */
	MEMORY_MB = 256,
	LOG_KEPT = 2048,
	MAX_ARGS = 16
};

enum eal_state {
	EAL_FRESH,
	EAL_RUNNING,
	EAL_FAILED
};

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int state = EAL_FRESH;
static _Atomic bool forked;  /* this process is a child of the one that called eal_start() */
static char *args[MAX_ARGS]; /* EAL keeps pointers to these strings: never freed */

static struct {
	pthread_mutex_t lock;
	char text[LOG_KEPT];
	size_t len;
} eal_log = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- log ---------------------------------------------------------------------------------- */

/* fopencookie(3) write: the newest LOG_KEPT bytes stay. */
static ssize_t log_write(void *cookie, const char *text, size_t len)
{
	size_t total = len;

	(void)cookie;
	pthread_mutex_lock(&eal_log.lock);
	if (len > LOG_KEPT) {
		text += len - LOG_KEPT;
		len = LOG_KEPT;
	}
	if (eal_log.len + len > LOG_KEPT) {
		size_t surplus = eal_log.len + len - LOG_KEPT;

		memmove(eal_log.text, eal_log.text + surplus, eal_log.len - surplus);
		eal_log.len -= surplus;
	}
	memcpy(eal_log.text + eal_log.len, text, len);
	eal_log.len += len;
	pthread_mutex_unlock(&eal_log.lock);
	return (ssize_t)total;
}

size_t eal_log_take(char *buf, size_t len)
{
	size_t out = 0;

	if (len == 0)
		return 0;
	pthread_mutex_lock(&eal_log.lock);
	while (eal_log.len > 0 && eal_log.text[eal_log.len - 1] == '\n')
		eal_log.len--;
	/* worst case every byte is a line end and takes two */
	for (size_t i = eal_log.len > (len - 1) / 2 ? eal_log.len - (len - 1) / 2 : 0; i < eal_log.len; i++) {
		if (eal_log.text[i] == '\n')
			buf[out++] = ';';
		buf[out++] = eal_log.text[i] == '\n' ? ' ' : eal_log.text[i];
	}
	eal_log.len = 0;
	pthread_mutex_unlock(&eal_log.lock);
	buf[out] = '\0';
	return out;
}

static int log_redirect(void)
{
	FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = log_write});

	if (stream == NULL || rte_openlog_stream(stream) != 0)
		return -ENOMEM;
	return 0;
}

/* ---- what the calling process must find unchanged ----------------------------------------- */

struct surroundings {
	pthread_t thread;
	cpu_set_t affinity;
	char name[16];
	sigset_t mask;
	struct sigaction action[_NSIG];
	char *arg;
	int ind, err, opt;
};

/* Returns 0, or the errno of the only call that can fail in earnest. */
static int surroundings_save(struct surroundings *s)
{
	sigset_t all;
	int rc;

	s->thread = pthread_self();
	rc = pthread_getaffinity_np(s->thread, sizeof s->affinity, &s->affinity);
	if (rc != 0)
		return rc;
	if (pthread_getname_np(s->thread, s->name, sizeof s->name) != 0)
		s->name[0] = '\0';
	for (int i = 1; i < _NSIG; i++)
		if (sigaction(i, NULL, &s->action[i]) != 0)
			s->action[i].sa_handler = SIG_ERR;
	s->arg = optarg;
	s->ind = optind;
	s->err = opterr;
	s->opt = optopt;
	/* EAL's threads inherit this mask: the process's signals stay with its own threads. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	return pthread_sigmask(SIG_SETMASK, &all, &s->mask);
}

static void surroundings_restore(const struct surroundings *s)
{
	for (int i = 1; i < _NSIG; i++) {
		struct sigaction now;

		if (s->action[i].sa_handler == SIG_ERR || sigaction(i, NULL, &now) != 0)
			continue;
		if (now.sa_sigaction != s->action[i].sa_sigaction)
			sigaction(i, &s->action[i], NULL);
	}
	pthread_setaffinity_np(s->thread, sizeof s->affinity, &s->affinity);
	if (s->name[0] != '\0')
		pthread_setname_np(s->thread, s->name);
	optarg = s->arg;
	optind = s->ind;
	opterr = s->err;
	optopt = s->opt;
	/* EAL called openlog(3) with its own name; the next syslog(3) opens it anew. */
	closelog();
	pthread_sigmask(SIG_SETMASK, &s->mask, NULL);
}

/* EAL makes a folder named after the prefix even when nothing will be shared through it. */
static void remove_runtime_folder(void)
{
	const char *folder = rte_eal_get_runtime_dir();

	if (folder != NULL && folder[0] != '\0')
		rmdir(folder);
}

/* ---- start -------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void say(char *err, size_t errlen, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (errlen > 0)
		vsnprintf(err, errlen, format, ap);
	va_end(ap);
}

static bool add_arg(int *count, const char *format, int value)
{
	if (*count == MAX_ARGS - 1 || asprintf(&args[*count], format, value) < 0)
		return false;
	(*count)++;
	return true;
}

/* `pci`: let EAL look for PCI devices; ports named by PCI address will need it. */
static int make_args(int cpu, bool pci)
{
	int n = 0;
	bool ok = add_arg(&n, "mos", 0) && add_arg(&n, "--no-huge", 0) && add_arg(&n, "--no-shconf", 0) &&
	          add_arg(&n, "--no-telemetry", 0) && add_arg(&n, "--iova-mode=va", 0) && add_arg(&n, "-m", 0) &&
	          add_arg(&n, "%d", MEMORY_MB) && add_arg(&n, "--file-prefix=mos-%d", getpid()) &&
	          add_arg(&n, "--lcores=0@%d", cpu) && add_arg(&n, "--log-level=warning", 0) &&
	          (pci || add_arg(&n, "--no-pci", 0));

	return ok ? n : -ENOMEM;
}

static int first_cpu(const cpu_set_t *set)
{
	for (int cpu = 0; cpu < CPU_SETSIZE && cpu < RTE_MAX_LCORE; cpu++)
		if (CPU_ISSET(cpu, set))
			return cpu;
	return -1;
}

static void in_child(void)
{
	atomic_store(&forked, true);
}

/* Once per process, under start_lock; on failure the state says whether another try makes sense. */
static int start(const cpu_set_t *allowed, char *err, size_t errlen)
{
	int cpu = first_cpu(allowed), argc = make_args(cpu, false), rc;
	char said[512], *argv[MAX_ARGS]; /* a copy: EAL writes into the array */

	if (cpu < 0) {
		say(err, errlen,
		    "DPDK cannot start: this thread may only run on CPUs above %d, which this "
		    "DPDK build does not know; run it under: taskset -c 0-%d",
		    RTE_MAX_LCORE - 1, RTE_MAX_LCORE - 1);
		return -ENOTSUP;
	}
	if (argc < 0 || log_redirect() != 0 || pthread_atfork(NULL, NULL, in_child) != 0) {
		say(err, errlen, "DPDK cannot start: out of memory");
		return -ENOMEM;
	}
	memcpy(argv, args, sizeof argv);
	rc = rte_eal_init(argc, argv);
	if (rc >= 0) {
		atomic_store(&state, EAL_RUNNING);
		return 0;
	}
	rc = rte_errno != 0 ? rte_errno : EIO;
	atomic_store(&state, EAL_FAILED);
	if (eal_log_take(said, sizeof said) == 0)
		snprintf(said, sizeof said, "it gave no reason");
	say(err, errlen,
	    "DPDK %s could not start: %s (%s). Run `mos doctor`, mend what it shows, then restart "
	    "Python: DPDK can be started only once in a process",
	    eal_dpdk_version(), said, rte_strerror(rc));
	return -rc;
}

static int start_undisturbed(char *err, size_t errlen)
{
	struct surroundings *around = malloc(sizeof *around);
	int rc = around != NULL ? surroundings_save(around) : ENOMEM;

	if (rc != 0) {
		say(err, errlen, "DPDK cannot start: the thread's CPU affinity and signals cannot be read (%s)",
		    strerror(rc));
		free(around);
		return -rc;
	}
	rc = start(&around->affinity, err, errlen);
	remove_runtime_folder();
	surroundings_restore(around);
	free(around);
	return rc;
}

int eal_start(char *err, size_t errlen)
{
	int rc;

	/* Before the lock: a child may inherit it locked by a thread that it does not have. */
	if (atomic_load(&forked)) {
		say(err, errlen,
		    "DPDK cannot be used in process %d: it was started in the parent before fork(); "
		    "start the process with multiprocessing's \"spawn\" method or subprocess",
		    getpid());
		return -EPERM;
	}
	pthread_mutex_lock(&start_lock);
	switch (atomic_load(&state)) {
	case EAL_RUNNING:
		rc = 0;
		break;
	case EAL_FAILED:
		say(err, errlen,
		    "DPDK failed to start earlier in this process and cannot be started again; "
		    "run `mos doctor`, then restart Python");
		rc = -EALREADY;
		break;
	default:
		rc = start_undisturbed(err, errlen);
	}
	pthread_mutex_unlock(&start_lock);
	return rc;
}

bool eal_started(void)
{
	return atomic_load_explicit(&state, memory_order_acquire) == EAL_RUNNING &&
	       !atomic_load_explicit(&forked, memory_order_relaxed);
}

const char *eal_dpdk_version(void)
{
	const char *text = rte_version();

	return strncmp(text, "DPDK ", 5) == 0 ? text + 5 : text;
}
