/* timer_wheel.c - see timer_wheel.h. */
#include "timer_wheel.h"

#include <string.h>

#include "flow_table.h"

enum {
	SLOT_BITS = 8,
	SLOT_MASK = WHEEL_SLOTS - 1
};

/* A slot's first entry names its slot in `prev`; flow numbers stay below this bit. */
#define AT_HEAD 0x80000000u

static uint32_t *next_of(struct flow_table *table, uint32_t number)
{
	return &flow_at(table, number)->next;
}

static uint32_t *prev_of(struct flow_table *table, uint32_t number)
{
	return &flow_at(table, number)->prev;
}

void wheel_init(struct wheel *wheel)
{
	memset(wheel->used, 0, sizeof wheel->used);
	memset(wheel->head, 0xff, sizeof wheel->head);
	wheel->tick = 0;
	wheel->count = 0;
}

static void link_entry(struct wheel *wheel, struct flow_table *table, uint32_t number, int level, uint32_t slot)
{
	uint32_t *head = &wheel->head[level][slot];

	*next_of(table, number) = *head;
	*prev_of(table, number) = AT_HEAD | (uint32_t)level << SLOT_BITS | slot;
	if (*head != FLOW_NONE)
		*prev_of(table, *head) = number;
	*head = number;
	wheel->used[level][slot / 64] |= 1ull << (slot % 64);
	wheel->count++;
}

void wheel_file(struct wheel *wheel, struct flow_table *table, uint32_t number, uint64_t deadline_ns)
{
	uint64_t tick = (deadline_ns >> WHEEL_TICK_SHIFT) + 1, ahead;
	int level = 0;

	if (tick < wheel->tick)
		tick = wheel->tick;
	ahead = tick - wheel->tick;
	while (level < WHEEL_LEVELS - 1 && ahead >> (SLOT_BITS * (level + 1)))
		level++;
	if (ahead >> (SLOT_BITS * WHEEL_LEVELS)) /* decades ahead: the last slot, looked at again then */
		tick = wheel->tick + (1ull << (SLOT_BITS * WHEEL_LEVELS)) - 1;
	link_entry(wheel, table, number, level, (uint32_t)(tick >> (SLOT_BITS * level)) & SLOT_MASK);
}

void wheel_remove(struct wheel *wheel, struct flow_table *table, uint32_t number)
{
	uint32_t next = *next_of(table, number), prev = *prev_of(table, number);

	if (prev == FLOW_NONE)
		return;
	if (prev & AT_HEAD) {
		uint32_t slot = prev & SLOT_MASK, level = (prev & ~AT_HEAD) >> SLOT_BITS;

		wheel->head[level][slot] = next;
		if (next == FLOW_NONE)
			wheel->used[level][slot / 64] &= ~(1ull << (slot % 64));
	} else {
		*next_of(table, prev) = next;
	}
	if (next != FLOW_NONE)
		*prev_of(table, next) = prev;
	*prev_of(table, number) = FLOW_NONE;
	wheel->count--;
}

/* First used slot at or after `from`, WHEEL_SLOTS if none. */
static uint32_t next_used(const uint64_t *used, uint32_t from)
{
	for (uint32_t word = from / 64; word < WHEEL_SLOTS / 64; word++) {
		uint64_t bits = used[word];

		if (word == from / 64)
			bits &= ~0ull << (from % 64);
		if (bits)
			return word * 64 + (uint32_t)__builtin_ctzll(bits);
	}
	return WHEEL_SLOTS;
}

/* The tick at which the level's nearest used slot begins; slots behind us are the next round's. */
static uint64_t level_next(const struct wheel *wheel, int level)
{
	uint64_t at = wheel->tick >> (SLOT_BITS * level), round = at & ~(uint64_t)SLOT_MASK;
	uint32_t index = (uint32_t)at & SLOT_MASK, slot;

	slot = index + 1 < WHEEL_SLOTS ? next_used(wheel->used[level], index + 1) : WHEEL_SLOTS;
	if (slot == WHEEL_SLOTS) {
		slot = next_used(wheel->used[level], 0);
		round += WHEEL_SLOTS;
	}
	return slot == WHEEL_SLOTS ? UINT64_MAX : (round + slot) << (SLOT_BITS * level);
}

/* Go to the next tick at which something may wait, at most to `limit`. */
static void step(struct wheel *wheel, uint64_t limit)
{
	uint64_t tick = limit;

	for (int level = 0; level < WHEEL_LEVELS; level++) {
		uint64_t next = level_next(wheel, level);

		if (next < tick)
			tick = next;
	}
	wheel->tick = tick;
}

/* An entry of a slot that begins right at the wheel's tick, at any level; FLOW_NONE if none. */
static uint32_t entry_at_tick(const struct wheel *wheel)
{
	for (int level = 0; level < WHEEL_LEVELS; level++) {
		uint64_t at = wheel->tick >> (SLOT_BITS * level);

		if (at << (SLOT_BITS * level) != wheel->tick)
			break;
		if (wheel->head[level][at & SLOT_MASK] != FLOW_NONE)
			return wheel->head[level][at & SLOT_MASK];
	}
	return FLOW_NONE;
}

bool wheel_take(struct wheel *wheel, struct flow_table *table, uint64_t now_ns, uint32_t *number)
{
	uint64_t now = now_ns >> WHEEL_TICK_SHIFT;

	while (wheel->tick <= now) {
		*number = entry_at_tick(wheel);
		if (*number != FLOW_NONE) {
			wheel_remove(wheel, table, *number);
			return true;
		}
		step(wheel, now + 1);
	}
	return false;
}
