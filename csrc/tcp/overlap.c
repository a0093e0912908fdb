/* overlap.c - see overlap.h. */
#include "overlap.h"

#include <errno.h>

#include "seq.h"

static int64_t start_of(struct seg_tree *held, uint32_t node)
{
	return seg_at(held, node)->start;
}

static int64_t end_of(struct seg_tree *held, uint32_t node)
{
	return seg_at(held, node)->end;
}

/* The last segment that begins below `at`; SEG_NONE if none does. */
static uint32_t last_below(struct seg_tree *held, int64_t at)
{
	uint32_t found = SEG_NONE;

	for (uint32_t node = held->root; node != SEG_NONE;) {
		bool below = start_of(held, node) < at;

		if (below)
			found = node;
		node = below ? seg_at(held, node)->right : seg_at(held, node)->left;
	}
	return found;
}

static uint32_t behind(struct seg_tree *held, uint32_t node)
{
	return node == SEG_NONE ? held->first : seg_tree_next(held, node);
}

/*
 * Remove the segments behind `node` that end at or below `end`; returns the first that stays if it
 * begins below `end`, else SEG_NONE.
 */
static uint32_t remove_covered(struct seg_tree *held, struct page_pool *pool, uint32_t node, int64_t end)
{
	for (;;) {
		uint32_t next = behind(held, node);

		if (next == SEG_NONE || start_of(held, next) >= end)
			return SEG_NONE;
		if (end_of(held, next) > end)
			return next;
		seg_tree_remove(held, pool, next);
	}
}

/* ---- Linux ----------------------------------------------------------------------------------- */

/* Where a segment belongs in Linux's queue. */
struct linux_place {
	uint32_t node;   /* the waiting segment that it is joined to, or whose place it takes */
	uint32_t parent; /* else: where to hang it */
	bool right;
	bool joined, dropped;
};

static struct linux_place linux_search(struct seg_tree *held, int64_t start, int64_t end)
{
	struct linux_place place = {.parent = held->last, .right = true};

	if (held->last == SEG_NONE || start > end_of(held, held->last))
		return place;
	if (start == end_of(held, held->last)) {
		place.node = held->last;
		place.joined = true;
		return place;
	}
	for (uint32_t node = held->root; node != SEG_NONE;) {
		const struct seg_node *at = seg_at(held, node);

		place.parent = node;
		place.right = start >= at->start;
		if (place.right && start <= at->end) {
			place.joined = start == at->end;
			place.dropped = !place.joined && end <= at->end;
			if (place.joined || place.dropped || start == at->start) {
				place.node = node;
				return place;
			}
		}
		node = place.right ? at->right : at->left;
	}
	return place;
}

static int linux_take(struct seg_tree *held, struct page_pool *pool, int64_t start, int64_t end,
                      struct overlap_win *win)
{
	struct linux_place place = linux_search(held, start, end);
	uint32_t node = place.node;

	if (place.dropped)
		return 0;
	if (node != SEG_NONE)
		seg_tree_set_end(held, node, end);
	else
		node = seg_tree_add(held, pool, place.parent, place.right, start, end);
	if (node == SEG_NONE)
		return -ENOMEM;
	if (!place.joined)
		remove_covered(held, pool, node, end);
	*win = (struct overlap_win){rel_max(start, seg_tree_top_before(held, node)), end};
	return 0;
}

/* ---- BSD, and Windows before Vista ------------------------------------------------------------ */

/* Segments do not overlap here: each is cut where it loses. */
static int bsd_take(struct seg_tree *held, struct page_pool *pool, int64_t start, int64_t end, struct overlap_win *win)
{
	uint32_t before = last_below(held, start + 1), next;

	if (before != SEG_NONE)
		start = rel_max(start, end_of(held, before));
	if (start >= end)
		return 0;
	next = remove_covered(held, pool, before, end);
	if (next != SEG_NONE)
		seg_at(held, next)->start = end;
	if (seg_tree_add_behind(held, pool, before, start, end) == SEG_NONE)
		return -ENOMEM;
	*win = (struct overlap_win){start, end};
	return 0;
}

/* ---- Solaris --------------------------------------------------------------------------------- */

/*
 * As in BSD, but followers are met first, and equal ones are told apart by the order of the list:
 * the first of all precedes, any other follows.  A segment cut to nothing stays in the list.
 */
static int solaris_take(struct seg_tree *held, struct page_pool *pool, int64_t start, int64_t end,
                        struct overlap_win *win)
{
	uint32_t before = last_below(held, start), first = held->first, next;

	if (before == SEG_NONE && first != SEG_NONE && start_of(held, first) == start)
		before = first;
	next = remove_covered(held, pool, before, end);
	if (next != SEG_NONE)
		end = start_of(held, next);
	if (before != SEG_NONE && end_of(held, before) > start) {
		if (end_of(held, before) >= end)
			return 0;
		seg_tree_set_end(held, before, start);
	}
	if (seg_tree_add_behind(held, pool, before, start, end) == SEG_NONE)
		return -ENOMEM;
	*win = (struct overlap_win){start, end};
	return 0;
}

/* ---- all ------------------------------------------------------------------------------------- */

int overlap_take(struct seg_tree *held, struct page_pool *pool, uint8_t policy, int64_t edge, int64_t start,
                 int64_t end, struct overlap_win *win)
{
	*win = (struct overlap_win){start, start};
	if (policy == MOS_OVERLAP_POLICY_LINUX) {
		if (start > edge)
			return linux_take(held, pool, start, end, win);
		win->to = end;
		return 0;
	}
	if (held->root == SEG_NONE && start == edge)
		return 0; /* is delivered at once */
	if (policy == MOS_OVERLAP_POLICY_SOLARIS)
		return solaris_take(held, pool, start, end, win);
	return bsd_take(held, pool, start, end, win);
}

void overlap_deliver(struct seg_tree *held, struct page_pool *pool, int64_t edge)
{
	while (held->root != SEG_NONE) {
		uint32_t first = held->first;

		if (start_of(held, first) > edge)
			return;
		seg_tree_remove(held, pool, first);
	}
}
