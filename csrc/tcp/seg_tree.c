/* seg_tree.c - see seg_tree.h. */
#include "seg_tree.h"

#include <stdlib.h>

void seg_tree_init(struct seg_tree *tree)
{
	*tree = (struct seg_tree){.none = {.top = INT64_MIN}};
}

void seg_tree_free(struct seg_tree *tree, struct page_pool *pool)
{
	while (tree->pages)
		page_pool_give(pool, tree->page[--tree->pages]);
	free(tree->page);
	seg_tree_init(tree);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static bool add_page(struct seg_tree *tree, struct page_pool *pool)
{
	if (tree->pages == tree->room) {
		uint32_t room = tree->room ? tree->room * 2 : 4;
		struct seg_node **page = realloc(tree->page, room * sizeof *page);

		if (!page)
			return false;
		tree->page = page;
		tree->room = room;
	}
	tree->page[tree->pages] = page_pool_take(pool);
	if (!tree->page[tree->pages])
		return false;
	tree->pages++;
	return true;
}

static uint32_t take_node(struct seg_tree *tree, struct page_pool *pool)
{
	uint32_t node = tree->spare;

	if (node != SEG_NONE) {
		tree->spare = seg_at(tree, node)->parent;
		return node;
	}
	if (tree->made == tree->pages * SEG_PER_PAGE && !add_page(tree, pool))
		return SEG_NONE;
	return ++tree->made;
}

static void give_node(struct seg_tree *tree, uint32_t node)
{
	seg_at(tree, node)->parent = tree->spare;
	tree->spare = node;
}

/* ---- largest ends ---------------------------------------------------------------------------- */

static int64_t larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void refresh(struct seg_tree *tree, struct seg_node *at)
{
	at->top = larger(at->end, larger(seg_at(tree, at->left)->top, seg_at(tree, at->right)->top));
}

static void refresh_up(struct seg_tree *tree, uint32_t node)
{
	for (; node != SEG_NONE; node = seg_at(tree, node)->parent)
		refresh(tree, seg_at(tree, node));
}

/* The end of `node` has changed: on the way up, until it makes no difference. */
static void refresh_changed(struct seg_tree *tree, uint32_t node)
{
	for (; node != SEG_NONE; node = seg_at(tree, node)->parent) {
		struct seg_node *at = seg_at(tree, node);
		int64_t top = at->top;

		refresh(tree, at);
		if (at->top == top)
			return;
	}
}

void seg_tree_set_end(struct seg_tree *tree, uint32_t node, int64_t end)
{
	seg_at(tree, node)->end = end;
	refresh_changed(tree, node);
}

int64_t seg_tree_top_before(struct seg_tree *tree, uint32_t node)
{
	int64_t top = seg_at(tree, seg_at(tree, node)->left)->top;

	for (uint32_t up; (up = seg_at(tree, node)->parent) != SEG_NONE; node = up) {
		struct seg_node *parent = seg_at(tree, up);

		if (parent->right == node)
			top = larger(top, larger(parent->end, seg_at(tree, parent->left)->top));
	}
	return top;
}

/* ---- shape ----------------------------------------------------------------------------------- */

/* `child` takes the place of `node` below its parent. */
static void replace(struct seg_tree *tree, uint32_t node, uint32_t child)
{
	uint32_t up = seg_at(tree, node)->parent;

	if (up == SEG_NONE)
		tree->root = child;
	else if (seg_at(tree, up)->left == node)
		seg_at(tree, up)->left = child;
	else
		seg_at(tree, up)->right = child;
	seg_at(tree, child)->parent = up;
}

/* The child on the other side comes up, `node` goes down to the side `right`. */
static void rotate(struct seg_tree *tree, uint32_t node, bool right)
{
	struct seg_node *down = seg_at(tree, node);
	uint32_t child = right ? down->left : down->right, inner;
	struct seg_node *up = seg_at(tree, child);

	inner = right ? up->right : up->left;
	replace(tree, node, child);
	if (right) {
		down->left = inner;
		up->right = node;
	} else {
		down->right = inner;
		up->left = node;
	}
	if (inner != SEG_NONE)
		seg_at(tree, inner)->parent = node;
	down->parent = child;
	refresh(tree, down);
	refresh(tree, up);
}

static void balance_added(struct seg_tree *tree, uint32_t node)
{
	while (seg_at(tree, seg_at(tree, node)->parent)->red) {
		uint32_t up = seg_at(tree, node)->parent, top = seg_at(tree, up)->parent;
		bool left = seg_at(tree, top)->left == up;
		struct seg_node *uncle = seg_at(tree, left ? seg_at(tree, top)->right : seg_at(tree, top)->left);

		if (uncle->red) {
			seg_at(tree, up)->red = uncle->red = false;
			seg_at(tree, top)->red = true;
			node = top;
			continue;
		}
		if (node == (left ? seg_at(tree, up)->right : seg_at(tree, up)->left)) {
			node = up;
			rotate(tree, node, !left);
			up = seg_at(tree, node)->parent;
		}
		seg_at(tree, up)->red = false;
		seg_at(tree, top)->red = true;
		rotate(tree, top, left);
	}
	seg_at(tree, tree->root)->red = false;
}

/* The black height below `node` is one too small; it may be SEG_NONE, whose parent is then set. */
static void balance_removed(struct seg_tree *tree, uint32_t node)
{
	while (node != tree->root && !seg_at(tree, node)->red) {
		uint32_t up = seg_at(tree, node)->parent;
		bool left = seg_at(tree, up)->left == node;
		uint32_t other = left ? seg_at(tree, up)->right : seg_at(tree, up)->left;
		struct seg_node *near, *far;

		if (seg_at(tree, other)->red) {
			seg_at(tree, other)->red = false;
			seg_at(tree, up)->red = true;
			rotate(tree, up, !left);
			other = left ? seg_at(tree, up)->right : seg_at(tree, up)->left;
		}
		near = seg_at(tree, left ? seg_at(tree, other)->left : seg_at(tree, other)->right);
		far = seg_at(tree, left ? seg_at(tree, other)->right : seg_at(tree, other)->left);
		if (!near->red && !far->red) {
			seg_at(tree, other)->red = true;
			node = up;
			continue;
		}
		if (!far->red) {
			near->red = false;
			seg_at(tree, other)->red = true;
			rotate(tree, other, left);
			other = left ? seg_at(tree, up)->right : seg_at(tree, up)->left;
			far = seg_at(tree, left ? seg_at(tree, other)->right : seg_at(tree, other)->left);
		}
		seg_at(tree, other)->red = seg_at(tree, up)->red;
		seg_at(tree, up)->red = far->red = false;
		rotate(tree, up, !left);
		node = tree->root;
	}
	seg_at(tree, node)->red = false;
}

/* ---- adding and removing --------------------------------------------------------------------- */

static uint32_t leftmost(struct seg_tree *tree, uint32_t node)
{
	while (seg_at(tree, node)->left != SEG_NONE)
		node = seg_at(tree, node)->left;
	return node;
}

static uint32_t rightmost(struct seg_tree *tree, uint32_t node)
{
	while (seg_at(tree, node)->right != SEG_NONE)
		node = seg_at(tree, node)->right;
	return node;
}

uint32_t seg_tree_next(struct seg_tree *tree, uint32_t node)
{
	uint32_t up = seg_at(tree, node)->parent;

	if (seg_at(tree, node)->right != SEG_NONE)
		return leftmost(tree, seg_at(tree, node)->right);
	while (up != SEG_NONE && seg_at(tree, up)->right == node) {
		node = up;
		up = seg_at(tree, node)->parent;
	}
	return up;
}

uint32_t seg_tree_add(struct seg_tree *tree, struct page_pool *pool, uint32_t parent, bool right, int64_t start,
                      int64_t end)
{
	uint32_t node = take_node(tree, pool);

	if (node == SEG_NONE)
		return SEG_NONE;
	*seg_at(tree,
	        node) = (struct seg_node){.start = start, .end = end, .top = INT64_MIN, .parent = parent, .red = true};
	if (parent == SEG_NONE)
		tree->root = node;
	else if (right)
		seg_at(tree, parent)->right = node;
	else
		seg_at(tree, parent)->left = node;
	if (parent == tree->last && (right || parent == SEG_NONE))
		tree->last = node;
	if (parent == tree->first && (!right || parent == SEG_NONE))
		tree->first = node;
	refresh_changed(tree, node);
	balance_added(tree, node);
	return node;
}

uint32_t seg_tree_add_behind(struct seg_tree *tree, struct page_pool *pool, uint32_t before, int64_t start, int64_t end)
{
	uint32_t below = before == SEG_NONE ? tree->root : seg_at(tree, before)->right;

	if (below == SEG_NONE)
		return seg_tree_add(tree, pool, before, true, start, end);
	return seg_tree_add(tree, pool, leftmost(tree, below), false, start, end);
}

/* Take a node with two children out: its successor moves to its place.  Returns who moved up below. */
static uint32_t remove_inner(struct seg_tree *tree, uint32_t node, bool *red)
{
	struct seg_node *gone = seg_at(tree, node);
	uint32_t heir = leftmost(tree, gone->right);
	struct seg_node *at = seg_at(tree, heir);
	uint32_t child = at->right;

	*red = at->red;
	if (at->parent == node) {
		seg_at(tree, child)->parent = heir;
	} else {
		replace(tree, heir, child);
		at->right = gone->right;
		seg_at(tree, at->right)->parent = heir;
	}
	replace(tree, node, heir);
	at->left = gone->left;
	seg_at(tree, at->left)->parent = heir;
	at->red = gone->red;
	return child;
}

void seg_tree_remove(struct seg_tree *tree, struct page_pool *pool, uint32_t node)
{
	struct seg_node *gone = seg_at(tree, node);
	bool red = gone->red;
	uint32_t child;

	if (node == tree->first)
		tree->first = seg_tree_next(tree, node);
	if (gone->left != SEG_NONE && gone->right != SEG_NONE) {
		child = remove_inner(tree, node, &red);
	} else {
		child = gone->left != SEG_NONE ? gone->left : gone->right;
		replace(tree, node, child);
	}
	give_node(tree, node);
	if (tree->root == SEG_NONE) {
		seg_tree_free(tree, pool);
		return;
	}
	refresh_up(tree, seg_at(tree, child)->parent);
	if (!red)
		balance_removed(tree, child);
	if (node == tree->last)
		tree->last = rightmost(tree, tree->root);
}
