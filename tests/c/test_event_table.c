/* test_event_table.c - tables of callbacks: shared, copied on write, every reference accounted for. */
// sources: event/event_table.c live.c
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "event/event_table.h"
#include "live.h"
#include "random.h"

/* A host whose callables are counters of references. */
enum {
	CALLABLES = 8
};

static int refs[CALLABLES];
static struct event_table *watched; /* looked at when a reference is released */
static bool released_while_listed;

static void retain(void *callable)
{
	++*(int *)callable;
}

static void release(void *callable)
{
	--*(int *)callable;
	for (int hook = 0; watched && hook < HOOKS; hook++)
		for (int ev = 0; ev < EVENTS; ev++)
			if (watched->callable[hook][ev] == callable && *(int *)callable == 0)
				released_while_listed = true;
}

static const struct event_host host = {.retain = retain, .release = release};

static void check_refs(int a, int b, int c)
{
	CHECK_EQ(refs[0], a);
	CHECK_EQ(refs[1], b);
	CHECK_EQ(refs[2], c);
}

TEST(numbers_of_the_manual)
{
	static const struct {
		uint64_t event;
		int ev;
	} pairs[] = {{MOS_ON_PKT_IN, EV_PKT_IN},
	             {MOS_ON_CONN_START, EV_CONN_START},
	             {MOS_ON_TCP_STATE_CHANGE, EV_STATE_CHANGE},
	             {MOS_ON_REXMIT, EV_REXMIT},
	             {MOS_ON_CONN_NEW_DATA, EV_NEW_DATA},
	             {MOS_ON_ERROR, EV_ERROR},
	             {MOS_ON_CONN_END, EV_CONN_END},
	             {MOS_ON_ORPHAN, EV_ORPHAN}};

	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		CHECK_EQ(event_index(pairs[i].event), pairs[i].ev);
		CHECK_EQ(event_number((enum ev)pairs[i].ev), pairs[i].event);
	}
	CHECK_EQ(sizeof pairs / sizeof *pairs, EVENTS);
	for (int bit = 0; bit < 64; bit++) {
		int ev = event_index(UINT64_C(1) << bit);

		CHECK(ev == -1 || event_number((enum ev)ev) == UINT64_C(1) << bit);
	}
	CHECK_EQ(event_index(0), -1);
	CHECK_EQ(event_index(MOS_ON_PKT_IN | MOS_ON_CONN_START), -1);
	CHECK_EQ(event_index(UINT64_MAX), -1);
}

/* Specification, section 1: the order within one dispatch; callers walk the mask from bit 0. */
TEST(the_order_of_firing)
{
	CHECK(EV_PKT_IN < EV_CONN_START);
	CHECK(EV_CONN_START < EV_STATE_CHANGE);
	CHECK(EV_STATE_CHANGE < EV_REXMIT);
	CHECK(EV_REXMIT < EV_NEW_DATA);
}

TEST(hooks)
{
	CHECK_EQ(hook_index(MOS_NULL), AT_NULL);
	CHECK_EQ(hook_index(MOS_HK_RCV), AT_RCV);
	CHECK_EQ(hook_index(MOS_HK_SND), AT_SND);
	CHECK_EQ(hook_index(0), -1);
	CHECK_EQ(hook_index(MOS_HK_RCV | MOS_HK_SND), -1);
	CHECK_EQ(hook_index(1), -1);
}

TEST(set_replace_and_remove)
{
	struct event_table *table = event_table_new();

	memset(refs, 0, sizeof refs);
	REQUIRE(table != NULL);
	CHECK_EQ(live_objects.tables, 1);
	CHECK_EQ(table->wanted[AT_SND] | table->wanted[AT_RCV] | table->wanted[AT_NULL], 0);
	CHECK_EQ(event_table_set(&table, &host, AT_SND, EV_REXMIT, &refs[0]), 0);
	check_refs(1, 0, 0);
	CHECK_EQ(table->wanted[AT_SND], EV_BIT(EV_REXMIT));
	CHECK_EQ(table->wanted[AT_RCV], 0);
	CHECK(table->callable[AT_SND][EV_REXMIT] == &refs[0]);
	CHECK_EQ(event_table_set(&table, &host, AT_SND, EV_REXMIT, &refs[1]), 0);
	check_refs(0, 1, 0);
	CHECK_EQ(event_table_set(&table, &host, AT_RCV, EV_PKT_IN, &refs[1]), 0);
	check_refs(0, 2, 0);
	CHECK_EQ(event_table_set(&table, &host, AT_SND, EV_REXMIT, NULL), 0);
	check_refs(0, 1, 0);
	CHECK_EQ(table->wanted[AT_SND], 0);
	CHECK_EQ(event_table_set(&table, &host, AT_SND, EV_REXMIT, NULL), 0); /* nothing there: fine */
	check_refs(0, 1, 0);
	event_table_unref(table, &host);
	check_refs(0, 0, 0);
	CHECK_EQ(live_objects.tables, 0);
	event_table_unref(NULL, &host);
}

/* Setting the same callable again must not let go of the only reference to it. */
TEST(replaced_by_itself)
{
	struct event_table *table = event_table_new();

	memset(refs, 0, sizeof refs);
	event_table_set(&table, &host, AT_SND, EV_REXMIT, &refs[0]);
	watched = table;
	released_while_listed = false;
	CHECK_EQ(event_table_set(&table, &host, AT_SND, EV_REXMIT, &refs[0]), 0);
	check_refs(1, 0, 0);
	CHECK(!released_while_listed);
	CHECK_EQ(event_table_set(&table, &host, AT_SND, EV_REXMIT, NULL), 0);
	CHECK(!released_while_listed); /* it is out of the table when its finaliser runs */
	watched = NULL;
	event_table_unref(table, &host);
	check_refs(0, 0, 0);
}

TEST(a_shared_table_is_copied_on_write)
{
	struct event_table *one = event_table_new(), *two, *before;

	memset(refs, 0, sizeof refs);
	event_table_set(&one, &host, AT_SND, EV_PKT_IN, &refs[0]);
	two = event_table_ref(one);
	before = one;
	CHECK(two == one);
	CHECK_EQ(one->refs, 2);
	CHECK_EQ(event_table_set(&two, &host, AT_RCV, EV_ERROR, &refs[1]), 0);
	CHECK(one == before);
	CHECK(two != one);
	CHECK_EQ(one->refs, 1);
	CHECK_EQ(two->refs, 1);
	check_refs(2, 1, 0);
	CHECK_EQ(one->wanted[AT_RCV], 0);
	CHECK_EQ(two->wanted[AT_RCV], EV_BIT(EV_ERROR));
	CHECK_EQ(two->wanted[AT_SND], EV_BIT(EV_PKT_IN));
	CHECK(two->callable[AT_SND][EV_PKT_IN] == &refs[0]);
	before = one;
	CHECK_EQ(event_table_set(&one, &host, AT_SND, EV_PKT_IN, &refs[2]), 0);
	CHECK(one == before); /* nobody else has it now */
	check_refs(1, 1, 1);
	CHECK(two->callable[AT_SND][EV_PKT_IN] == &refs[0]);
	event_table_unref(one, &host);
	check_refs(1, 1, 0);
	event_table_unref(two, &host);
	check_refs(0, 0, 0);
	CHECK_EQ(live_objects.tables, 0);
}

/* A dispatch holds a reference, and a callback de-registers itself. */
TEST(a_running_dispatch_keeps_its_table)
{
	struct event_table *table = event_table_new(), *running;

	memset(refs, 0, sizeof refs);
	event_table_set(&table, &host, AT_RCV, EV_CONN_END, &refs[0]);
	running = event_table_ref(table);
	CHECK_EQ(event_table_set(&table, &host, AT_RCV, EV_CONN_END, NULL), 0);
	CHECK_EQ(refs[0], 1);
	CHECK(running->callable[AT_RCV][EV_CONN_END] == &refs[0]);
	CHECK(table->callable[AT_RCV][EV_CONN_END] == NULL);
	event_table_unref(running, &host);
	CHECK_EQ(refs[0], 0);
	event_table_unref(table, &host);
	CHECK_EQ(live_objects.tables, 0);
}

TEST(random_tables_leave_nothing_behind)
{
	enum {
		TABLES = 20
	};
	struct event_table *table[TABLES];
	void *model[TABLES][HOOKS][EVENTS] = {0};

	random_begin("event table");
	memset(refs, 0, sizeof refs);
	for (int i = 0; i < TABLES; i++)
		table[i] = event_table_new();
	for (int step = 0; step < 20000 && !check_failures; step++) {
		int i = (int)random_below(TABLES), j = (int)random_below(TABLES);
		int hook = (int)random_below(HOOKS), ev = (int)random_below(EVENTS);

		if (random_chance(20) && i != j) {
			event_table_ref(table[j]);
			event_table_unref(table[i], &host);
			table[i] = table[j];
			memcpy(model[i], model[j], sizeof model[i]);
		} else {
			void *callable = random_chance(30) ? NULL : &refs[random_below(CALLABLES)];

			CHECK_EQ(event_table_set(&table[i], &host, (enum hook_index)hook, (enum ev)ev, callable), 0);
			model[i][hook][ev] = callable;
		}
		j = (int)random_below(TABLES);
		CHECK(!memcmp(table[j]->callable, model[j], sizeof model[j]));
		CHECK_EQ(table[j]->wanted[hook] >> ev & 1, model[j][hook][ev] != NULL);
	}
	for (int i = 0; i < TABLES; i++)
		event_table_unref(table[i], &host);
	for (int i = 0; i < CALLABLES; i++)
		CHECK_EQ(refs[i], 0);
	CHECK_EQ(live_objects.tables, 0);
}
