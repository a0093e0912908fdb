/*
 * seg_tree.h - segments [start, end) in order of position: a red-black tree, balanced step by step
 * as the textbook's (Cormen and others, 3rd edition, chapter 13), because one overlap policy
 * depends on who is whose ancestor.
 *
 * Nodes are named by numbers; SEG_NONE is no node.  The order is the caller's: a node is put left
 * or right of a place the caller found.  Every node knows the largest end in its subtree.
 *
 * Units: rel numbers (seq.h).  Errors: SEG_NONE when memory or the pool is out; nothing is then
 * changed.  Threads: the context's own.  Ownership: nodes live in pages of the pool;
 * seg_tree_free() gives everything back.
 */
#ifndef MOS_TCP_SEG_TREE_H
#define MOS_TCP_SEG_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "pages.h"

enum {
	SEG_NONE = 0
};

struct seg_node {
	int64_t start, end;
	int64_t top; /* largest end in the subtree */
	uint32_t parent, left, right;
	bool red;
};

struct seg_tree {
	struct seg_node none; /* stands for every missing node */
	struct seg_node **page;
	uint32_t pages, room;
	uint32_t made;  /* nodes ever taken from the pages */
	uint32_t spare; /* list of removed nodes, by their parent field */
	uint32_t root, first, last;
};

enum {
	SEG_PER_PAGE = PAGE_BYTES / sizeof(struct seg_node)
};

static inline struct seg_node *seg_at(struct seg_tree *tree, uint32_t node)
{
	return node == SEG_NONE ? &tree->none : &tree->page[(node - 1) / SEG_PER_PAGE][(node - 1) % SEG_PER_PAGE];
}

void seg_tree_init(struct seg_tree *tree);
void seg_tree_free(struct seg_tree *tree, struct page_pool *pool);

/* A new leaf below `parent`, which has none on that side; parent SEG_NONE: the first node. */
uint32_t seg_tree_add(struct seg_tree *tree, struct page_pool *pool, uint32_t parent, bool right, int64_t start,
                      int64_t end);
/* A new node right behind `before`; SEG_NONE: in front of all. */
uint32_t seg_tree_add_behind(struct seg_tree *tree, struct page_pool *pool, uint32_t before, int64_t start,
                             int64_t end);
/* The last node that goes gives the memory back. */
void seg_tree_remove(struct seg_tree *tree, struct page_pool *pool, uint32_t node);
void seg_tree_set_end(struct seg_tree *tree, uint32_t node, int64_t end);

uint32_t seg_tree_next(struct seg_tree *tree, uint32_t node);

/* The largest end of all nodes in front of `node`; INT64_MIN if it is the first. */
int64_t seg_tree_top_before(struct seg_tree *tree, uint32_t node);

#endif
