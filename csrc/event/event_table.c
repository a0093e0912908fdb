/* event_table.c - see event_table.h. */
#include "event_table.h"

#include <stdlib.h>
#include <string.h>

#include "../live.h"

static const uint64_t number_of[EVENTS] = {
	[EV_PKT_IN] = MOS_ON_PKT_IN,
	[EV_CONN_START] = MOS_ON_CONN_START,
	[EV_STATE_CHANGE] = MOS_ON_TCP_STATE_CHANGE,
	[EV_REXMIT] = MOS_ON_REXMIT,
	[EV_NEW_DATA] = MOS_ON_CONN_NEW_DATA,
	[EV_ERROR] = MOS_ON_ERROR,
	[EV_CONN_END] = MOS_ON_CONN_END,
	[EV_ORPHAN] = MOS_ON_ORPHAN,
};

int event_index(uint64_t event)
{
	for (int ev = 0; ev < EVENTS; ev++)
		if (number_of[ev] == event)
			return ev;
	return -1;
}

uint64_t event_number(enum ev ev)
{
	return number_of[ev];
}

int hook_index(uint32_t hook)
{
	switch (hook) {
	case MOS_NULL:
		return AT_NULL;
	case MOS_HK_RCV:
		return AT_RCV;
	case MOS_HK_SND:
		return AT_SND;
	default:
		return -1;
	}
}

struct event_table *event_table_new(void)
{
	struct event_table *table = calloc(1, sizeof *table);

	if (table) {
		table->refs = 1;
		live_add(&live_objects.tables, 1);
	}
	return table;
}

struct event_table *event_table_ref(struct event_table *table)
{
	table->refs++;
	return table;
}

void event_table_unref(struct event_table *table, const struct event_host *host)
{
	if (!table || --table->refs)
		return;
	for (int hook = 0; hook < HOOKS; hook++)
		for (int ev = 0; ev < EVENTS; ev++)
			if (table->callable[hook][ev])
				host->release(table->callable[hook][ev]);
	free(table);
	live_add(&live_objects.tables, -1);
}

static struct event_table *copy(const struct event_table *table, const struct event_host *host)
{
	struct event_table *twin = event_table_new();

	if (!twin)
		return NULL;
	memcpy(twin->wanted, table->wanted, sizeof twin->wanted);
	memcpy(twin->callable, table->callable, sizeof twin->callable);
	for (int hook = 0; hook < HOOKS; hook++)
		for (int ev = 0; ev < EVENTS; ev++)
			if (twin->callable[hook][ev])
				host->retain(twin->callable[hook][ev]);
	return twin;
}

int event_table_set(struct event_table **table, const struct event_host *host, enum hook_index hook, enum ev ev,
                    void *callable)
{
	void *before;

	if ((*table)->refs > 1) {
		struct event_table *twin = copy(*table, host);

		if (!twin)
			return -ENOMEM;
		event_table_unref(*table, host);
		*table = twin;
	}
	before = (*table)->callable[hook][ev];
	if (callable)
		host->retain(callable);
	(*table)->callable[hook][ev] = callable;
	if (callable)
		(*table)->wanted[hook] |= EV_BIT(ev);
	else
		(*table)->wanted[hook] &= ~EV_BIT(ev);
	if (before)
		host->release(before);
	return 0;
}
