/* socket.c - see socket.h. */
#include "socket.h"

#include <stdlib.h>
#include <string.h>

#include "../live.h"
#include "context.h"

enum {
	NUMBER_BITS = 28,
	INDEX_BITS = 6,
	GENERATION_SHIFT = NUMBER_BITS + INDEX_BITS
};

struct watch_set *watch_set_ref(struct watch_set *set)
{
	set->refs++;
	return set;
}

void watch_set_unref(struct mos_context *ctx, struct watch_set *set)
{
	if (!set || --set->refs)
		return;
	for (uint32_t i = 0; i < set->count; i++)
		event_table_unref(set->watch[i].table, ctx->host);
	free(set);
	live_add(&live_objects.tables, -1);
}

bool watch_reads(const struct watch *watch, int side)
{
	uint32_t wanted = watch->table->wanted[AT_NULL] | watch->table->wanted[AT_RCV];

	if (watch->closed || watch->stopped >> side & 1 || !watch->buffer[side])
		return false;
	return watch->buffer[side] > 0 || wanted & EV_BIT(EV_NEW_DATA);
}

void watch_set_refresh(struct watch_set *set)
{
	memset(set->wanted, 0, sizeof set->wanted);
	memset(set->read, 0, sizeof set->read);
	for (uint32_t i = 0; i < set->count; i++) {
		const struct watch *watch = &set->watch[i];

		for (int side = 0; side < 2; side++) {
			if (watch->closed || watch->stopped >> side & 1)
				continue;
			for (int hook = 0; hook < HOOKS; hook++)
				set->wanted[side][hook] |= watch->table->wanted[hook];
			set->read[side] |= watch_reads(watch, side);
		}
	}
}

static struct watch_set *alloc_set(uint32_t count)
{
	struct watch_set *set = calloc(1, sizeof *set + count * sizeof *set->watch);

	if (!set)
		return NULL;
	set->refs = 1;
	set->count = count;
	live_add(&live_objects.tables, 1);
	return set;
}

struct watch_set *watch_set_new(struct mos_context *ctx, uint64_t matched)
{
	struct watch_set *set = alloc_set((uint32_t)__builtin_popcountll(matched));
	struct watch *watch;

	if (!set)
		return NULL;
	watch = set->watch;
	for (; matched; matched &= matched - 1, watch++) {
		struct mon_socket *socket = ctx->socket[__builtin_ctzll(matched)];

		watch->table = event_table_ref(socket->table);
		watch->stopped = socket->stopped;
		memcpy(watch->buffer, socket->buffer, sizeof watch->buffer);
		memcpy(watch->overlap, socket->overlap, sizeof watch->overlap);
	}
	watch_set_refresh(set);
	return set;
}

struct watch_set *watch_set_own(struct mos_context *ctx, struct flow *flow)
{
	struct watch_set *set = flow->set, *twin;

	if (set->refs == 1)
		return set;
	twin = alloc_set(set->count);
	if (!twin)
		return NULL;
	memcpy(twin->wanted, set->wanted, sizeof twin->wanted);
	memcpy(twin->read, set->read, sizeof twin->read);
	memcpy(twin->watch, set->watch, set->count * sizeof *set->watch);
	for (uint32_t i = 0; i < twin->count; i++)
		event_table_ref(twin->watch[i].table);
	watch_set_unref(ctx, set);
	flow->set = twin;
	return twin;
}

uint32_t watch_set_buffer(const struct mos_context *ctx, const struct watch_set *set, int side)
{
	uint32_t size = 0;

	for (uint32_t i = 0; i < set->count; i++) {
		const struct watch *watch = &set->watch[i];
		uint32_t wanted = watch->buffer[side] > 0 ? (uint32_t)watch->buffer[side] : ctx->config.rmem_size;

		if (watch_reads(watch, side) && wanted > size)
			size = wanted;
	}
	return size;
}

struct mon_socket *mon_socket_find(struct mos_context *ctx, int64_t id)
{
	for (uint32_t i = 0; i < ctx->sockets; i++)
		if (ctx->socket[i]->id == id)
			return ctx->socket[i]->closed ? NULL : ctx->socket[i];
	return NULL;
}

bool flow_sock_find(struct mos_context *ctx, int64_t id, struct flow **flow, uint32_t *index)
{
	uint32_t number = (uint32_t)(id >> INDEX_BITS) & ((1u << NUMBER_BITS) - 1);

	if (id >> GENERATION_SHIFT <= 0 || !flow_in_use(&ctx->table, number))
		return false;
	*flow = flow_at(&ctx->table, number);
	*index = (uint32_t)id & ((1u << INDEX_BITS) - 1);
	if ((*flow)->generation != (uint64_t)id >> GENERATION_SHIFT || (*flow)->flags & FLOW_ENDED)
		return false;
	return *index < (*flow)->set->count && !(*flow)->set->watch[*index].closed;
}

struct flow_reader *flow_reader(struct flow *flow, uint32_t index)
{
	if (!flow_cold(flow))
		return NULL;
	if (!flow->cold->reader) {
		struct flow_reader *reader = calloc(flow->set->count, sizeof *reader);

		if (!reader)
			return NULL;
		for (uint32_t i = 0; i < flow->set->count; i++)
			reader[i].at[0] = reader[i].at[1] = 1;
		flow->cold->reader = reader;
		flow->cold->readers = flow->set->count;
	}
	return &flow->cold->reader[index];
}

void mon_socket_free(struct mos_context *ctx, struct mon_socket *socket)
{
	event_table_unref(socket->table, ctx->host);
	filter_free(socket->syn);
	filter_free(socket->orphan);
	filter_free(socket->raw);
	if (socket->uctx)
		ctx->host->release(socket->uctx);
	free(socket);
}
