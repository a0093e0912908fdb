/* api_socket.c - the calls on listening sockets: make, close, bind a filter, register. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../tcp/tcp_state.h"
#include "bytes.h"
#include "context.h"
#include "flow_life.h"

static int bad_socket(struct mos_context *ctx, int64_t sock)
{
	return context_fail(ctx, -EBADF,
	                    "%" PRId64 " is not a socket of this context, or was closed, or its flow has ended", sock);
}

/* Something about listening sockets changed: later flows get a new watch set. */
static void sockets_changed(struct mos_context *ctx)
{
	watch_set_unref(ctx, ctx->last_set);
	ctx->last_set = NULL;
	ctx->has_raw = ctx->has_orphan = false;
	for (uint32_t i = 0; i < ctx->sockets; i++) {
		const struct mon_socket *socket = ctx->socket[i];
		uint32_t wanted = socket->closed ? 0 : socket->table->wanted[AT_NULL];

		ctx->has_raw |= socket->type == MOS_SOCK_MONITOR_RAW && wanted & EV_BIT(EV_PKT_IN);
		ctx->has_orphan |= (wanted & EV_BIT(EV_ORPHAN)) != 0;
	}
}

/* Take closed sockets out; flows keep the tables they inherited. */
static void sockets_purge(struct mos_context *ctx)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < ctx->sockets; i++) {
		if (ctx->socket[i]->closed)
			mon_socket_free(ctx, ctx->socket[i]);
		else
			ctx->socket[kept++] = ctx->socket[i];
	}
	if (kept == ctx->sockets)
		return;
	ctx->sockets = kept;
	sockets_changed(ctx);
}

int64_t mos_socket(struct mos_context *ctx, int domain, int type)
{
	struct mon_socket *socket;
	int rc = context_check(ctx);

	if (rc)
		return rc;
	if (domain != DOMAIN_ANY && domain != DOMAIN_IPV4 && domain != DOMAIN_IPV6)
		return context_fail(ctx, -EAFNOSUPPORT, "domain %d: give AF_INET, AF_INET6 or AF_UNSPEC", domain);
	if (type != MOS_SOCK_MONITOR_STREAM && type != MOS_SOCK_MONITOR_RAW)
		return context_fail(ctx, -EINVAL, "type %d: give MOS_SOCK_MONITOR_STREAM or MOS_SOCK_MONITOR_RAW",
		                    type);
	if (!ctx->running)
		sockets_purge(ctx);
	if (ctx->sockets == MAX_SOCKETS)
		return context_fail(ctx, -ENFILE, "a context has at most %d sockets", MAX_SOCKETS);
	socket = calloc(1, sizeof *socket);
	if (!socket || !(socket->table = event_table_new())) {
		free(socket);
		return context_fail(ctx, -ENOMEM, "no memory for a socket");
	}
	socket->domain = domain;
	socket->type = type;
	socket->buffer[0] = socket->buffer[1] = BUFFER_UNSET;
	socket->id = ++ctx->last_socket_id;
	ctx->socket[ctx->sockets++] = socket;
	sockets_changed(ctx);
	return socket->id;
}

static int close_flow_socket(struct mos_context *ctx, struct flow *flow, uint32_t index)
{
	struct watch_set *set = watch_set_own(ctx, flow);

	if (!set)
		return context_fail(ctx, -ENOMEM, "no memory to close the socket");
	set->watch[index].closed = true;
	watch_set_refresh(set);
	return 0;
}

int mos_close(struct mos_context *ctx, int64_t sock)
{
	struct mon_socket *socket;
	struct flow *flow;
	uint32_t index;
	int rc = context_check(ctx);

	if (rc)
		return rc;
	socket = mon_socket_find(ctx, sock);
	if (socket) {
		socket->closed = true; /* freed when no loop over the sockets can be under way */
		sockets_changed(ctx);
		return 0;
	}
	if (!flow_sock_find(ctx, sock, &flow, &index))
		return bad_socket(ctx, sock);
	return close_flow_socket(ctx, flow, index);
}

int mos_socktype(struct mos_context *ctx, int64_t sock)
{
	struct mon_socket *socket;
	struct flow *flow;
	uint32_t index;
	int rc = context_check(ctx);

	if (rc)
		return rc;
	socket = mon_socket_find(ctx, sock);
	if (socket)
		return socket->type;
	return flow_sock_find(ctx, sock, &flow, &index) ? MOS_SOCK_MONITOR_STREAM_ACTIVE : bad_socket(ctx, sock);
}

static int compile(struct mos_context *ctx, struct filter **filter, const char *text, int linktype)
{
	*filter = NULL;
	return text ? filter_compile(filter, text, linktype, ctx->error_text, ERROR_TEXT) : 0;
}

static void replace(struct filter **slot, struct filter *filter)
{
	filter_free(*slot);
	*slot = filter;
}

static int bind_stream(struct mos_context *ctx, struct mon_socket *socket, const char *syn, const char *orphan)
{
	struct filter *syn_filter, *orphan_filter;
	int rc = compile(ctx, &syn_filter, syn, LINKTYPE_RAW_IP);

	if (rc)
		return rc;
	rc = compile(ctx, &orphan_filter, orphan, LINKTYPE_RAW_IP);
	if (rc) {
		filter_free(syn_filter);
		return rc;
	}
	replace(&socket->syn, syn_filter);
	replace(&socket->orphan, orphan_filter);
	return 0;
}

int mos_bind_filters(struct mos_context *ctx, int64_t sock, const char *syn, const char *orphan, const char *raw)
{
	struct filter *raw_filter;
	struct mon_socket *socket;
	int rc = context_check(ctx);

	if (rc)
		return rc;
	socket = mon_socket_find(ctx, sock);
	if (!socket)
		return bad_socket(ctx, sock);
	if (socket->type == MOS_SOCK_MONITOR_STREAM) {
		if (raw)
			return context_fail(ctx, -ENOPROTOOPT,
			                    "raw_pkt_filter belongs to a MOS_SOCK_MONITOR_RAW socket");
		return bind_stream(ctx, socket, syn, orphan);
	}
	if (syn || orphan)
		return context_fail(ctx, -ENOPROTOOPT, "stream filters belong to a MOS_SOCK_MONITOR_STREAM socket");
	rc = compile(ctx, &raw_filter, raw, LINKTYPE_ETHERNET);
	if (!rc)
		replace(&socket->raw, raw_filter);
	return rc;
}

/* Spec section 2, the table of events and hooks; bits by hook. */
static const uint32_t stream_events[HOOKS] = {
	[AT_SND] = EV_BIT(EV_PKT_IN) | EV_BIT(EV_CONN_START) | EV_BIT(EV_STATE_CHANGE) | EV_BIT(EV_REXMIT) |
                   EV_BIT(EV_CONN_END),
	[AT_RCV] = EV_BIT(EV_PKT_IN) | EV_BIT(EV_CONN_START) | EV_BIT(EV_STATE_CHANGE) | EV_BIT(EV_REXMIT) |
                   EV_BIT(EV_NEW_DATA) | EV_BIT(EV_ERROR) | EV_BIT(EV_CONN_END),
	[AT_NULL] = EV_BIT(EV_NEW_DATA) | EV_BIT(EV_ERROR),
};
static const uint32_t raw_events[HOOKS] = {[AT_NULL] = EV_BIT(EV_PKT_IN) | EV_BIT(EV_ORPHAN)};

static int check_event(struct mos_context *ctx, const struct mon_socket *socket, uint64_t event, uint32_t hook)
{
	int ev = event_index(event), at = hook_index(hook);
	uint32_t allowed;

	if (ev < 0)
		return context_fail(ctx, -EINVAL, "%#" PRIx64 " is not one event (MOS_ON_...)", event);
	if (at < 0)
		return context_fail(ctx, -EINVAL, "%#x is not a hook: give MOS_HK_SND, MOS_HK_RCV or MOS_NULL", hook);
	allowed = socket && socket->type == MOS_SOCK_MONITOR_RAW ? raw_events[at] : stream_events[at];
	if (socket && socket->orphan && at == AT_NULL)
		allowed |= EV_BIT(EV_ORPHAN);
	if (allowed & EV_BIT(ev))
		return 0;
	if (ev == EV_ORPHAN && at == AT_NULL && socket)
		return context_fail(ctx, -EINVAL,
		                    "a stream socket gets MOS_ON_ORPHAN only when it has a stream_orphan_filter");
	return context_fail(ctx, -EINVAL,
	                    "this event does not happen at this hook of this kind of socket; see docs/events.md");
}

/* A callback of one flow: the flow gets its own watch set. */
static int register_flow(struct mos_context *ctx, struct flow *flow, uint32_t index, enum hook_index hook, enum ev ev,
                         void *callable)
{
	struct watch_set *set = watch_set_own(ctx, flow);
	int rc = set ? event_table_set(&set->watch[index].table, ctx->host, hook, ev, callable) : -ENOMEM;

	if (rc)
		return context_fail(ctx, rc, "no memory to register the callback");
	watch_set_refresh(set);
	return 0;
}

int mos_register(struct mos_context *ctx, int64_t sock, uint64_t event, uint32_t hook, void *callable)
{
	struct mon_socket *socket;
	struct flow *flow = NULL;
	uint32_t index = 0;
	int rc = context_check(ctx);

	if (rc)
		return rc;
	socket = mon_socket_find(ctx, sock);
	if (!socket && !flow_sock_find(ctx, sock, &flow, &index))
		return bad_socket(ctx, sock);
	rc = check_event(ctx, socket, event, hook);
	if (rc)
		return rc;
	if (flow)
		return register_flow(ctx, flow, index, (enum hook_index)hook_index(hook), (enum ev)event_index(event),
		                     callable);
	rc = event_table_set(&socket->table, ctx->host, (enum hook_index)hook_index(hook), (enum ev)event_index(event),
	                     callable);
	if (rc)
		return context_fail(ctx, rc, "no memory to register the callback");
	sockets_changed(ctx);
	return 0;
}
