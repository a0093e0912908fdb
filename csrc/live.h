/*
 * live.h - how many heap objects of each kind live in the process, for leak assertions.
 * Counted where memory is taken and given back, never per packet.  Safe from any thread.
 */
#ifndef MOS_LIVE_H
#define MOS_LIVE_H

#include <stdatomic.h>
#include <stdint.h>

struct live_objects {
	_Atomic int64_t contexts, flow_chunks, pages, ranges, tables;
};

extern struct live_objects live_objects;

static inline void live_add(_Atomic int64_t *counter, int64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
