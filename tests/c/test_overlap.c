/* test_overlap.c - which copy of a byte stays: against naive models, and against a kernel's own answers. */
// sources: tcp/stream.c tcp/stream_read.c tcp/overlap.c tcp/seg_tree.c tcp/pages.c tcp/ranges.c live.c
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "live.h"
#include "random.h"
#include "tcp/stream.h"

enum {
	MOST = 48,  /* segments of a case */
	WIDEST = 64 /* bytes of a case */
};

struct seg {
	int start, end;
	bool fin;
	char letter;
};

static struct page_pool pool;

static void finish(struct stream *stream)
{
	stream_free(stream, &pool);
	CHECK_EQ(pool.used, 0);
	CHECK_EQ(live_objects.pages, 0);
	CHECK_EQ(live_objects.ranges, 0);
}

/* ---- naive models: what is delivered of a case, written to `text` ------------------------------------------- */

/* First and last: an array of bytes. */
static void array_model(const struct seg *seg, int count, bool last, char *text)
{
	int length = 0;

	memset(text, 0, WIDEST + 1);
	for (int i = 0; i < count; i++)
		for (int at = seg[i].start; at < seg[i].end; at++)
			if (last || !text[at])
				text[at] = seg[i].letter;
	while (text[length])
		length++;
	memset(text + length, 0, (size_t)(WIDEST - length));
}

/* The others: a list of segments with their bytes, as those systems have it. */
struct list_seg {
	int start, end;
	char data[WIDEST];
};

struct list {
	struct list_seg seg[MOST + 1];
	int count, delivered;
	char text[WIDEST + 1];
};

static void list_insert(struct list *list, int index, const struct list_seg *seg)
{
	memmove(&list->seg[index + 1], &list->seg[index], (size_t)(list->count - index) * sizeof *seg);
	list->seg[index] = *seg;
	list->count++;
}

static void list_remove(struct list *list, int index)
{
	list->count--;
	memmove(&list->seg[index], &list->seg[index + 1], (size_t)(list->count - index) * sizeof list->seg[0]);
}

static void list_deliver(struct list *list)
{
	while (list->count && list->seg[0].start <= list->delivered) {
		const struct list_seg *seg = &list->seg[0];

		for (; list->delivered < seg->end; list->delivered++)
			list->text[list->delivered] = seg->data[list->delivered];
		list_remove(list, 0);
	}
}

/* 4.4BSD: cut the new one behind who precedes, cut or drop who follows. */
static void bsd_insert(struct list *list, struct list_seg *seg)
{
	int index = 0;

	while (index < list->count && list->seg[index].start <= seg->start)
		index++;
	if (index && list->seg[index - 1].end > seg->start)
		seg->start = list->seg[index - 1].end;
	if (seg->start >= seg->end)
		return;
	while (index < list->count && list->seg[index].end <= seg->end)
		list_remove(list, index);
	if (index < list->count && list->seg[index].start < seg->end)
		list->seg[index].start = seg->end;
	list_insert(list, index, seg);
}

/* OpenSolaris: every segment drops followers that it covers, else is cut where the follower begins. */
static void solaris_cut(struct list *list, int index)
{
	while (index + 1 < list->count && list->seg[index].end > list->seg[index + 1].start) {
		if (list->seg[index].end < list->seg[index + 1].end) {
			list->seg[index].end = list->seg[index + 1].start;
			return;
		}
		list_remove(list, index + 1);
	}
}

static void solaris_insert(struct list *list, struct list_seg *seg)
{
	int index = 1;

	if (!list->count || seg->start < list->seg[0].start) {
		list_insert(list, 0, seg);
		solaris_cut(list, 0);
		return;
	}
	while (index < list->count && list->seg[index].start < seg->start)
		index++;
	list_insert(list, index, seg);
	solaris_cut(list, index);
	solaris_cut(list, index - 1);
}

static void list_model(const struct seg *seg, int count, bool solaris, char *text)
{
	static struct list list;

	memset(&list, 0, sizeof list);
	for (int i = 0; i < count; i++) {
		struct list_seg new = {.start = seg[i].start, .end = seg[i].end};

		if (new.start < list.delivered)
			new.start = list.delivered;
		if (new.start >= new.end)
			continue;
		memset(new.data, seg[i].letter, sizeof new.data);
		if (solaris)
			solaris_insert(&list, &new);
		else
			bsd_insert(&list, &new);
		list_deliver(&list);
	}
	memcpy(text, list.text, sizeof list.text);
}

/* ---- the stream ------------------------------------------------------------------------------------------------ */

/* `lazy`: the reader reads at the end, and all is one burst; else after every segment, each a burst. */
static void deliver(const struct seg *seg, int count, uint8_t policy, bool lazy, char *text)
{
	struct stream *stream = stream_new(1);
	static uint8_t data[MOST][WIDEST];
	size_t length = 0;

	stream->rmem = 1 << 16;
	stream->policy = policy;
	for (int i = 0; i < count; i++) {
		struct stream_put put = {.fin = seg[i].fin};

		memset(data[i], seg[i].letter, WIDEST);
		stream_put(stream, &pool, seg[i].start + 1, data[i], (uint32_t)(seg[i].end - seg[i].start), &put);
		CHECK(!put.no_memory);
		stream_advance(stream, stream->next + (int64_t)stream_run(stream, stream->next, INT64_MAX));
		if (lazy)
			continue;
		length += stream_read(stream, 1 + (int64_t)length, (uint8_t *)text + length, WIDEST, stream->next);
		stream_settle(stream, &pool, stream->next);
		memset(data[i], '!', WIDEST);
	}
	length += stream_read(stream, 1 + (int64_t)length, (uint8_t *)text + length, WIDEST, stream->next);
	memset(text + length, 0, WIDEST + 1 - length);
	if (stream->next == stream->top)
		CHECK_EQ(stream->held.root, SEG_NONE);
	finish(stream);
}

static void model(const struct seg *seg, int count, uint8_t policy, char *text)
{
	if (policy == MOS_OVERLAP_POLICY_FIRST || policy == MOS_OVERLAP_POLICY_LAST)
		array_model(seg, count, policy == MOS_OVERLAP_POLICY_LAST, text);
	else
		list_model(seg, count, policy == MOS_OVERLAP_POLICY_SOLARIS, text);
}

static void show(const struct seg *seg, int count, uint8_t policy)
{
	printf("policy %u:", policy);
	for (int i = 0; i < count; i++)
		printf(" %d-%d%s", seg[i].start, seg[i].end, seg[i].fin ? "F" : "");
	printf("\n");
}

static void check_case(struct seg *seg, int count, uint8_t policy)
{
	char expected[WIDEST + 1], found[2 * WIDEST + 1];

	for (int i = 0; i < count; i++)
		seg[i].letter = (char)('A' + i);
	model(seg, count, policy, expected);
	for (int lazy = policy == MOS_OVERLAP_POLICY_LAST; lazy < 2 && !check_failures; lazy++) {
		deliver(seg, count, policy, lazy, found);
		if (!CHECK_STR(found, expected))
			show(seg, count, policy);
	}
}

static const uint8_t modelled[] = {MOS_OVERLAP_POLICY_FIRST, MOS_OVERLAP_POLICY_LAST, MOS_OVERLAP_POLICY_BSD,
                                   MOS_OVERLAP_POLICY_WINDOWS, MOS_OVERLAP_POLICY_SOLARIS};

static void begin(void)
{
	page_pool_init(&pool, 1 << 20);
}

static void end(void)
{
	page_pool_free(&pool);
}

/* ---- every pair and every triple ----------------------------------------------------------------------------------- */

static int spans(int first, int last, struct seg *span)
{
	int count = 0;

	for (int start = first; start < last; start++)
		for (int stop = start + 1; stop <= last; stop++)
			span[count++] = (struct seg){.start = start, .end = stop};
	return count;
}

/* `chosen` with the first byte put in at `place`; place > count: not at all. */
static void check_filled(const struct seg *chosen, int count, int place)
{
	struct seg seg[MOST];
	int total = 0;

	for (int i = 0; i <= count; i++) {
		if (i == place)
			seg[total++] = (struct seg){.start = 0, .end = 1};
		if (i < count)
			seg[total++] = chosen[i];
	}
	for (size_t i = 0; i < sizeof modelled; i++)
		check_case(seg, total, modelled[i]);
}

TEST(every_pair_and_triple_in_a_hole_and_after_delivery)
{
	struct seg span[64], chosen[3];
	long cases = 0;

	begin();
	for (int first = 0; first < 2; first++) {
		int count = spans(first, first + 5, span);

		for (int i = 0; i < count * count * (count + 1) && !check_failures; i++) {
			int length = i % (count + 1) ? 3 : 2;

			chosen[0] = span[i / (count + 1) / count];
			chosen[1] = span[i / (count + 1) % count];
			if (length == 3)
				chosen[2] = span[i % (count + 1) - 1];
			/* the hole is filled first, between, or last; or the segments themselves begin the stream */
			for (int place = first ? 0 : length + 1; place <= (first ? length : length + 1);
			     place++, cases++)
				check_filled(chosen, length, place);
		}
	}
	CHECK(cases > 15000);
	end();
}

TEST(many_segments_at_random)
{
	struct seg seg[MOST];

	begin();
	random_begin("overlaps");
	for (int round = 0; round < 6000 && !check_failures; round++) {
		int count = (int)random_between(3, round % 8 ? 12 : MOST - 1),
		    width = (int)random_between(4, round % 8 ? 16 : WIDEST);

		for (int i = 0; i < count; i++) {
			int start = (int)random_between(0, width - 1);

			if (!start && random_chance(70))
				start = 1;
			seg[i] = (struct seg){.start = start, .end = (int)random_between(start + 1, width)};
			if (random_chance(60) && seg[i].end > start + 3)
				seg[i].end = start + (int)random_between(1, 3);
		}
		seg[count - 1].start = random_chance(50) ? 0 : seg[count - 1].start;
		for (size_t i = 0; i < sizeof modelled; i++)
			check_case(seg, count, modelled[i]);
	}
	end();
}

/* ---- Linux: what a kernel answered ----------------------------------------------------------------------------------- */

/* Lines `"2-3 1-4F 0-1 = CBB",`; the answer is where the result points. */
static int parse(char *line, struct seg *seg, char **answer)
{
	char *at = line + 1, *equals = strstr(line, " = ");
	int count = 0, used;

	if (*line != '"' || !equals)
		return 0;
	*answer = equals + 3;
	(*answer)[strcspn(*answer, "\"")] = '\0';
	*equals = '\0';
	while (sscanf(at, "%d-%d%n", &seg[count].start, &seg[count].end, &used) == 2) {
		at += used;
		seg[count].fin = *at == 'F';
		at += seg[count].fin;
		seg[count].letter = (char)('A' + count);
		count++;
	}
	return count;
}

static FILE *open_golden(void)
{
	FILE *file = fopen("tests/data/kernel_overlaps.json", "r");

	return file ? file : fopen("../data/kernel_overlaps.json", "r");
}

TEST(linux_is_the_recorded_kernel)
{
	FILE *file = open_golden();
	char line[1024], found[2 * WIDEST + 1], *answer;
	int cases = 0;

	REQUIRE(file);
	begin();
	while (fgets(line, sizeof line, file) && !check_failures) {
		struct seg seg[MOST];
		int count = parse(line, seg, &answer);

		for (int lazy = 0; lazy < 2 && count; lazy++, cases++) {
			deliver(seg, count, MOS_OVERLAP_POLICY_LINUX, lazy, found);
			if (!CHECK_STR(found, answer))
				show(seg, count, MOS_OVERLAP_POLICY_LINUX);
		}
	}
	fclose(file);
	CHECK(cases > 6000);
	end();
}

/* A segment that ends where one begins that is not met on the way down is not joined to it. */
TEST(linux_joins_by_the_shape_of_the_tree)
{
	struct seg met[] = {{1, 3, 0, 'A'}, {2, 4, 0, 'B'}, {3, 5, 0, 'C'}, {0, 1, 0, '-'}};
	struct seg missed[] = {{6, 7, 0, 'A'}, {1, 3, 0, 'B'}, {2, 4, 0, 'C'},
	                       {8, 9, 0, 'D'}, {3, 5, 0, 'E'}, {0, 1, 0, '-'}};
	char found[2 * WIDEST + 1];

	begin();
	deliver(met, 4, MOS_OVERLAP_POLICY_LINUX, false, found);
	CHECK_STR(found, "-AACC");
	deliver(missed, 6, MOS_OVERLAP_POLICY_LINUX, false, found);
	CHECK_STR(found, "-BBCE");
	end();
}

/* ---- the tree ---------------------------------------------------------------------------------------------------------- */

static struct {
	int nodes, black; /* black nodes on every way down, -1 before the first */
	int64_t edge;
} walk;

static int64_t check_subtree(struct seg_tree *tree, uint32_t node, uint32_t parent, int black)
{
	struct seg_node *at = seg_at(tree, node);
	int64_t top, right;

	if (node == SEG_NONE) {
		if (walk.black < 0)
			walk.black = black;
		CHECK_EQ(black, walk.black);
		return INT64_MIN;
	}
	walk.nodes++;
	CHECK_EQ(at->parent, parent);
	CHECK(!at->red || (!seg_at(tree, at->left)->red && !seg_at(tree, at->right)->red));
	top = check_subtree(tree, at->left, node, black + !at->red);
	CHECK(at->start >= walk.edge);
	walk.edge = at->start;
	right = check_subtree(tree, at->right, node, black + !at->red);
	top = at->end > top ? at->end : top;
	top = right > top ? right : top;
	CHECK_EQ(at->top, top);
	return top;
}

static void check_tree(struct seg_tree *tree, int nodes)
{
	int64_t top = INT64_MIN;
	int count = 0;

	memset(&walk, 0, sizeof walk);
	walk.black = -1;
	walk.edge = INT64_MIN;
	check_subtree(tree, tree->root, SEG_NONE, 0);
	CHECK_EQ(walk.nodes, nodes);
	CHECK(!seg_at(tree, tree->root)->red);
	for (uint32_t node = tree->first; node != SEG_NONE; node = seg_tree_next(tree, node), count++) {
		CHECK_EQ(seg_tree_top_before(tree, node), top);
		top = seg_at(tree, node)->end > top ? seg_at(tree, node)->end : top;
		if (seg_tree_next(tree, node) == SEG_NONE)
			CHECK_EQ(tree->last, node);
	}
	CHECK_EQ(count, nodes);
}

static uint32_t random_node(struct seg_tree *tree, int nodes)
{
	uint32_t node = tree->first;

	for (int64_t skip = random_between(0, nodes - 1); skip > 0; skip--)
		node = seg_tree_next(tree, node);
	return node;
}

TEST(the_tree_stays_ordered_and_balanced)
{
	struct seg_tree tree;
	int nodes = 0;

	begin();
	random_begin("tree");
	seg_tree_init(&tree);
	for (int step = 0; step < 12000 && !check_failures; step++) {
		bool grow = random_chance((step / 300) % 2 ? 30 : 70);

		if (grow || !nodes) {
			uint32_t before = nodes && random_chance(95) ? random_node(&tree, nodes) : SEG_NONE;
			int64_t start = before == SEG_NONE ? INT64_MIN + 1 : seg_at(&tree, before)->start;

			nodes += seg_tree_add_behind(&tree, &pool, before, start, random_between(0, 1000)) != SEG_NONE;
		} else {
			seg_tree_remove(&tree, &pool, random_node(&tree, nodes));
			nodes--;
		}
		if (nodes && random_chance(20))
			seg_tree_set_end(&tree, random_node(&tree, nodes), random_between(0, 1000));
		if (step % 7 == 0 || nodes < 12)
			check_tree(&tree, nodes);
	}
	while (nodes-- > 0)
		seg_tree_remove(&tree, &pool, tree.first);
	CHECK_EQ(pool.used, 0); /* the last one gave everything back */
	seg_tree_free(&tree, &pool);
	end();
}

/* ---- memory, time -------------------------------------------------------------------------------------------------------- */

/* Without memory for boundaries bytes may be lost, but none is made up, and nothing stays. */
TEST(a_small_pool_invents_nothing)
{
	static uint8_t data[26][40];

	random_begin("overlaps, small pool");
	for (int i = 0; i < 26; i++)
		memset(data[i], 'a' + i, sizeof data[i]);
	for (int round = 0; round < 400 && !check_failures; round++) {
		struct stream *stream = stream_new(1);
		uint32_t sent[4000] = {0};
		uint8_t got;

		page_pool_init(&pool, (uint64_t)random_between(0, 4) * PAGE_BYTES);
		stream->rmem = 1 << 16;
		stream->policy = (uint8_t)(round % MOS_OVERLAP_POLICIES);
		for (int i = 0; i < 300; i++) {
			int64_t at = random_between(1, 3900), len = random_between(1, 40);
			int letter = i % 26;
			struct stream_put put = {0};

			stream_put(stream, &pool, at, data[letter], (uint32_t)len, &put);
			for (int64_t j = at; j < at + len; j++)
				sent[j] |= 1u << letter;
		}
		for (int64_t at = 1; at < stream->top; at++)
			if (stream_read(stream, at, &got, 1, stream->top))
				CHECK(sent[at] >> (got - 'a') & 1);
		finish(stream);
		page_pool_free(&pool);
	}
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Position number i of `count`, in one of some orders; all positions come once. */
static int64_t position(int order, int64_t i, int64_t count)
{
	switch (order) {
	case 0:
		return count - 1 - i;
	case 1: /* every other one, then those between, downwards */
		return i < count / 2 ? 2 * i + 1 : 2 * (count - 1 - i);
	case 2: /* both ends in turn, 0 last */
		if (i == count - 1)
			return 0;
		return i % 2 ? 1 + i / 2 : count - 1 - i / 2;
	default: /* scattered: count is no multiple of the step */
		return i * 7919 % count;
	}
}

TEST(one_byte_segments_in_any_order_cost_the_same)
{
	enum {
		COUNT = 60001
	};
	static uint8_t byte[COUNT], back[COUNT];

	for (int64_t i = 0; i < COUNT; i++)
		byte[i] = (uint8_t)(i * 31);
	page_pool_init(&pool, 64 << 20);
	for (int run = 0; run < 4 * MOS_OVERLAP_POLICIES; run++) {
		struct stream *stream = stream_new(0);
		double began = seconds();

		stream->rmem = 1 << 20;
		stream->policy = (uint8_t)(run / 4);
		for (int64_t i = 0; i < COUNT; i++) {
			int64_t at = position(run % 4, i, COUNT);
			struct stream_put put = {0};

			stream_put(stream, &pool, at, &byte[at], 1, &put);
		}
		stream_advance(stream, stream->top);
		CHECK_EQ(stream_read(stream, 0, back, COUNT, stream->next), COUNT);
		CHECK_MEM(back, byte, COUNT);
		CHECK(seconds() - began < 3);
		finish(stream);
	}
	page_pool_free(&pool);
}
