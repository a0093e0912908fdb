/*
 * eal.h - DPDK's environment, started at most once per process and only when a port (or a native
 * per-packet filter) needs it, without disturbing the process: CPU affinity, standard output,
 * signal handlers and getopt state stay as they were; EAL's log goes to eal_log_take().
 *
 * Never calls rte_exit() or rte_panic().  Threads: eal_start() may be called from any thread;
 * calls are serialised.  After fork(2) the child may not use EAL: -EPERM with a sentence.
 */
#ifndef MOS_IO_EAL_H
#define MOS_IO_EAL_H

#include <stdbool.h>
#include <stddef.h>

/* 0 when EAL runs (also when it ran already); else -errno and a sentence with the remedy. */
int eal_start(char *err, size_t errlen);
bool eal_started(void);
/* "22.11.11" */
const char *eal_dpdk_version(void);
/*
 * Move what DPDK logged since the last call to buf, the oldest part left out if it is too long.
 * Lines are joined by "; ".  Returns the length; 0 when DPDK said nothing.
 */
size_t eal_log_take(char *buf, size_t len);

#endif
