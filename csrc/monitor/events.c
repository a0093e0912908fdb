/* events.c - see events.h. */
#include "events.h"

static void call(struct mos_context *ctx, void *callable, int64_t sock, int side, enum ev ev)
{
	ctx->counter[MOS_CNT_CALLBACKS]++;
	if (ctx->host->deliver(ctx, callable, sock, side, event_number(ev)))
		ctx->stopping = true;
}

static void run_watch(struct mos_context *ctx, const struct flow *flow, const struct watch_set *set, uint32_t index,
                      enum hook_index hook, int side, uint32_t events)
{
	const struct watch *watch = &set->watch[index];
	int64_t sock = flow_sock_id(flow, index);

	if (watch->closed || watch->stopped >> side & 1)
		return;
	events &= watch->table->wanted[hook];
	/* a callback may close its socket: nothing comes with an id that is closed */
	while (events && !flow->set->watch[index].closed) {
		enum ev ev = (enum ev)__builtin_ctz(events);

		events &= events - 1;
		call(ctx, watch->table->callable[hook][ev], sock, side, ev);
	}
}

void event_run(struct mos_context *ctx, struct flow *flow, enum hook_index hook, int side, uint32_t events,
               enum event_order order)
{
	/* a callback may give the flow another set; this dispatch goes on with the one it began with */
	struct watch_set *set = watch_set_ref(flow->set);

	for (uint32_t i = 0; i < set->count; i++)
		run_watch(ctx, flow, set, order == CLIENT_FIRST ? i : set->count - 1 - i, hook, side, events);
	watch_set_unref(ctx, set);
}

void event_socket(struct mos_context *ctx, struct mon_socket *socket, int side, enum ev ev)
{
	struct event_table *table;

	if (socket->closed || !(socket->table->wanted[AT_NULL] & EV_BIT(ev)))
		return;
	table = event_table_ref(socket->table);
	call(ctx, table->callable[AT_NULL][ev], socket->id, side, ev);
	event_table_unref(table, ctx->host);
}

static void set_error(struct mos_context *ctx, enum mos_error_reason reason, int64_t at, uint64_t length)
{
	ctx->counter[MOS_CNT_ERRORS]++;
	ctx->error = (struct mos_error){(int32_t)reason, at > 0 ? (uint64_t)at - 1 : UINT64_MAX, length};
}

void event_error(struct mos_context *ctx, struct flow *flow, const struct segment_error *error, enum event_order order)
{
	set_error(ctx, error->reason, error->at, error->length);
	event_dispatch(ctx, flow, AT_NULL, error->side, EV_BIT(EV_ERROR), order);
	event_dispatch(ctx, flow, AT_RCV, error->side, EV_BIT(EV_ERROR), order);
	ctx->error.reason = MOS_ERR_NONE;
}

void event_error_listening(struct mos_context *ctx, enum mos_error_reason reason)
{
	set_error(ctx, reason, 0, 0);
	for (uint32_t i = 0; i < ctx->sockets; i++)
		if (ctx->socket[i]->type == MOS_SOCK_MONITOR_STREAM)
			event_socket(ctx, ctx->socket[i], (int)MOS_NULL, EV_ERROR);
	ctx->error.reason = MOS_ERR_NONE;
}
