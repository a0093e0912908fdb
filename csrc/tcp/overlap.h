/*
 * overlap.h - which copy of a byte a host keeps that came twice, by the host's operating system.
 *
 * A host decides by the segments it holds beyond the first missing byte, not by bytes.  Their
 * boundaries are kept here as the host keeps them; the bytes are the stream's.  An arriving
 * segment wins one run of positions, whatever the system:
 *
 *   linux    What fills the first hole is delivered whole, over what waits.  Among waiting
 *            segments the one in front wins.  A segment inside one that waits is dropped; one that
 *            begins with a waiting one and ends later takes its place; those behind it that it
 *            covers go.  A segment that begins where one ends is joined to it, if that one is the
 *            last, or is met on the way down the tree.
 *   bsd      4.4BSD: the segment that holds the first new byte keeps its bytes, later ones lose.
 *   solaris  OpenSolaris: what follows wins over the end of what precedes, unless it lies in it
 *            whole.  Arriving segments meet their followers first.
 *   windows  Windows 2000, XP and 2003: as bsd.  Vista and later keep the first copy: policy first.
 *
 * docs/options.md says where these come from.
 * Positions are rel numbers (seq.h).  Errors: -ENOMEM; the segment is then forgotten.
 * Threads: the context's own.
 */
#ifndef MOS_TCP_OVERLAP_H
#define MOS_TCP_OVERLAP_H

#include "../mos.h"
#include "seg_tree.h"

/* The new copy wins [from, to); from >= to: nowhere. */
struct overlap_win {
	int64_t from, to;
};

/* Does the policy need boundaries? */
static inline bool overlap_has_boundaries(uint8_t policy)
{
	return policy != MOS_OVERLAP_POLICY_FIRST && policy != MOS_OVERLAP_POLICY_LAST;
}

/* Take [start, end); everything below `edge` has been delivered, start >= edge. */
int overlap_take(struct seg_tree *held, struct page_pool *pool, uint8_t policy, int64_t edge, int64_t start,
                 int64_t end, struct overlap_win *win);

/* Forget what was delivered: the stream is whole up to `edge`. */
void overlap_deliver(struct seg_tree *held, struct page_pool *pool, int64_t edge);

#endif
