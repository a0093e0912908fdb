/*
 * timer_wheel.h - when to look at a flow again, on packet time.
 *
 * Five levels of 256 slots; the finest slot is about one millisecond.  Entries are flow numbers
 * linked through two 32-bit fields of the flow, so the wheel allocates nothing per flow.
 * A flow sits in the slot of the deadline it had when it was filed; packets that arrive later do
 * not touch the wheel.  When its slot comes up, the owner computes the true deadline and files it
 * again if that lies ahead: a deadline may move later for free, and only an earlier one needs
 * wheel_file() again.
 *
 * Units: ns since the epoch.  Threads: the context's own.
 */
#ifndef MOS_FLOW_TIMER_WHEEL_H
#define MOS_FLOW_TIMER_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

enum {
	WHEEL_LEVELS = 5,
	WHEEL_SLOTS = 256,
	WHEEL_TICK_SHIFT = 20
};

struct wheel {
	uint64_t tick; /* all slots before this one are empty */
	uint64_t count;
	uint64_t used[WHEEL_LEVELS][WHEEL_SLOTS / 64];
	uint32_t head[WHEEL_LEVELS][WHEEL_SLOTS];
};

struct flow_table;

void wheel_init(struct wheel *wheel);

/* File entry `number`, which is in no slot; it comes up at most one slot after the deadline. */
void wheel_file(struct wheel *wheel, struct flow_table *table, uint32_t number, uint64_t deadline_ns);

/* Take an entry out of its slot; nothing happens if it is in none. */
void wheel_remove(struct wheel *wheel, struct flow_table *table, uint32_t number);

/*
 * Take one entry that may be due at now_ns out of the wheel; false when there is none left.
 * The caller computes the true deadline and ends the flow or files it again.
 */
bool wheel_take(struct wheel *wheel, struct flow_table *table, uint64_t now_ns, uint32_t *number);

/* True when nothing filed can be due at now_ns: the usual case, one compare. */
static inline bool wheel_idle(const struct wheel *wheel, uint64_t now_ns)
{
	return (now_ns >> WHEEL_TICK_SHIFT) < wheel->tick;
}

#endif
