/* context.c - life of a context and its burst loop. */
#include "context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/clock.h"
#include "../live.h"
#include "bytes.h"
#include "flow_life.h"
#include "pipeline.h"

static _Thread_local char thread_error[ERROR_TEXT];

int context_fail(struct mos_context *ctx, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ctx ? ctx->error_text : thread_error, ERROR_TEXT, format, args);
	va_end(args);
	return rc;
}

const char *mos_error_text(struct mos_context *ctx)
{
	return ctx ? ctx->error_text : thread_error;
}

int context_check(struct mos_context *ctx)
{
	if (!ctx)
		return context_fail(NULL, -EACCES, "there is no context: it was never made, or is destroyed already");
	if (!pthread_equal(ctx->owner, pthread_self()))
		return context_fail(ctx, -EPERM, "this context belongs to the thread that created it");
	return 0;
}

int mos_check(struct mos_context *ctx)
{
	return context_check(ctx);
}

void mos_config_defaults(struct mos_config *config)
{
	*config = (struct mos_config){
		.idle_timeout_ns = 3600ull * 1000000000,
		.handshake_timeout_ns = 130ull * 1000000000,
		.linger_ns = 10ull * 1000000000,
		.max_stream_bytes = 1ull << 30,
		.max_flows = 1u << 22,
		.max_ranges = 1u << 20,
		.rmem_size = 65536,
		.burst = MOS_BURST_MAX,
	};
}

static const char *config_fault(const struct mos_config *config)
{
	if (config->burst < 1 || config->burst > MOS_BURST_MAX)
		return "burst must be 1 to 64";
	if (config->max_flows < 1 || config->max_flows > 1u << 28)
		return "max_flows must be 1 to 268435456";
	if (config->rmem_size < 1 || config->rmem_size > 1u << 30)
		return "rmem_size must be 1 to 1073741824 bytes";
	if (config->max_ranges < 1)
		return "max_ranges must be at least 1";
	return NULL;
}

struct mos_context *context_new(const struct mos_config *config, const struct event_host *host, void *pyctx, void *parked)
{
	struct mos_context *ctx = calloc(1, sizeof *ctx);

	if (!ctx)
		return NULL;
	ctx->config = *config;
	ctx->host = host;
	ctx->pyctx = pyctx;
	ctx->parked = parked;
	ctx->owner = pthread_self();
	if (flow_table_init(&ctx->table, config->max_flows, config->has_hash_seed ? &config->hash_seed : NULL)) {
		free(ctx);
		return NULL;
	}
	wheel_init(&ctx->wheel);
	page_pool_init(&ctx->pool, config->max_stream_bytes);
	ctx->decoder = (struct decoder){&ctx->table.secret, config->verify_checksums};
	live_add(&live_objects.contexts, 1);
	return ctx;
}

struct mos_context *mos_context_create(const struct mos_config *config, void *pyctx, void *parked, char *err, size_t errlen)
{
	struct mos_config defaults;
	struct mos_context *ctx;
	const char *fault;

	mos_config_defaults(&defaults);
	if (!config)
		config = &defaults;
	fault = config_fault(config);
	ctx = fault ? NULL : context_new(config, event_host_python(), pyctx, parked);
	if (!ctx)
		snprintf(err, errlen, "%s", fault ? fault : "no memory for a context");
	return ctx;
}

static void close_source(struct mos_context *ctx)
{
	if (ctx->port) {
		port_release(ctx->port, ctx->burst.pkt, ctx->burst.count);
		context_port_stats(ctx);
		port_close(ctx->port);
		ctx->port = NULL;
	}
	ctx->burst.count = ctx->burst_next = 0;
	capture_close(ctx->capture);
	ctx->capture = NULL;
}

/* Flows left behind (mos_finish() was not called) go without events. */
static void drop_flows(struct mos_context *ctx)
{
	for (uint32_t number = 0; number < ctx->table.numbers; number++) {
		struct flow *flow = flow_at(&ctx->table, number);

		if (!flow->serial)
			continue;
		flow_give_back(ctx, flow);
		flow_remove(ctx, flow);
	}
}

void mos_context_destroy(struct mos_context *ctx)
{
	if (!ctx)
		return;
	close_source(ctx);
	drop_flows(ctx);
	watch_set_unref(ctx, ctx->last_set);
	for (uint32_t i = 0; i < ctx->sockets; i++)
		mon_socket_free(ctx, ctx->socket[i]);
	flow_table_free(&ctx->table);
	page_pool_free(&ctx->pool);
	free(ctx->new_data.due);
	free(ctx->unsettled.due);
	free(ctx->finish);
	ctx->host->leave(ctx);
	free(ctx);
	live_add(&live_objects.contexts, -1);
}

void due_add(struct mos_context *ctx, struct due_list *list, const struct flow *flow, int side)
{
	if (list->count == list->room) {
		uint32_t room = list->room ? list->room * 2 : 2 * MOS_BURST_MAX;
		struct due *due = realloc(list->due, room * sizeof *due);

		if (!due) {
			ctx->counter[MOS_CNT_ERRORS]++;
			return;
		}
		list->due = due;
		list->room = room;
	}
	list->due[list->count++] = (struct due){flow->number, flow->generation, (uint8_t)side};
}

static int open_fails(struct mos_context *ctx)
{
	if (ctx->capture || ctx->port)
		return context_fail(ctx, -EBUSY, "this context has a source already");
	return 0;
}

int mos_source_files(struct mos_context *ctx, const char *const *paths, int count)
{
	int rc = context_check(ctx);

	if (!rc)
		rc = open_fails(ctx);
	if (!rc)
		rc = capture_open(&ctx->capture, paths, count, ctx->error_text, ERROR_TEXT);
	return rc;
}

int mos_source_interface(struct mos_context *ctx, const char *name)
{
	int rc = context_check(ctx);

	if (!rc)
		rc = open_fails(ctx);
	if (!rc)
		rc = port_open(&ctx->port, name, ctx->error_text, ERROR_TEXT);
	return rc;
}

uint64_t mos_source_position(struct mos_context *ctx)
{
	return ctx && ctx->capture ? capture_position(ctx->capture) : 0;
}

uint64_t mos_source_size(struct mos_context *ctx)
{
	return ctx && ctx->capture ? capture_size(ctx->capture) : 0;
}

const char *mos_source_notice(struct mos_context *ctx)
{
	return ctx && ctx->port ? port_error(ctx->port) : "";
}

uint64_t mos_now(struct mos_context *ctx)
{
	return ctx ? ctx->now_ns : 0;
}

void context_port_stats(struct mos_context *ctx)
{
	struct port_stats stats;

	port_stats(ctx->port, &stats);
	ctx->counter[MOS_CNT_PORT_RECEIVED] = stats.received;
	ctx->counter[MOS_CNT_PORT_DROPPED] = stats.dropped;
	ctx->counter[MOS_CNT_PORT_NO_MBUF] = stats.no_mbuf;
}

uint64_t mos_counter(struct mos_context *ctx, int counter)
{
	if (!ctx || counter < 0 || counter >= MOS_CNT_COUNTERS)
		return 0;
	if (ctx->port && counter >= MOS_CNT_PORT_RECEIVED && counter <= MOS_CNT_PORT_NO_MBUF)
		context_port_stats(ctx);
	if (counter == MOS_CNT_STREAM_PAGES)
		return ctx->pool.used;
	return ctx->counter[counter];
}

void mos_stop(struct mos_context *ctx)
{
	if (ctx)
		atomic_store(&ctx->stop_asked, true);
}

/* The next burst: packets, 0 for none now or never (input_ended), -errno. */
static int read_burst(struct mos_context *ctx)
{
	int count;

	if (ctx->capture)
		count = capture_read(ctx->capture, ctx->burst.pkt, ctx->config.burst);
	else
		count = port_read(ctx->port, ctx->burst.pkt, ctx->config.burst);
	ctx->burst_next = 0;
	ctx->burst.count = count > 0 ? (uint32_t)count : 0;
	if (count == -EAGAIN) /* a pipe that is silent for a while */
		return 0;
	if (count < 0) {
		ctx->input_failed = true;
		return context_fail(ctx, count, "%s", ctx->capture ? capture_error(ctx->capture) : port_error(ctx->port));
	}
	if (count == 0 && ctx->capture)
		ctx->input_ended = true;
	return count;
}

/* The rest of the burst at hand; false: a callback stopped the loop, the burst stays. */
static bool run_burst(struct mos_context *ctx)
{
	while (ctx->burst_next < ctx->burst.count) {
		pipeline_packet(ctx, &ctx->burst.pkt[ctx->burst_next++]);
		if (ctx->stopping)
			return false;
	}
	if (!bytes_end_burst(ctx))
		return false;
	if (ctx->port)
		port_release(ctx->port, ctx->burst.pkt, ctx->burst.count);
	ctx->burst.count = ctx->burst_next = 0;
	return true;
}

/* One burst; MOS_RUN_MORE when there may be another. */
static int turn(struct mos_context *ctx)
{
	int count;

	if (ctx->burst_next == ctx->burst.count && !ctx->new_data.count) {
		if (ctx->input_failed)
			return MOS_RUN_ERROR;
		if (ctx->input_ended)
			return MOS_RUN_END;
		count = read_burst(ctx);
		if (count <= 0)
			return count < 0 ? MOS_RUN_ERROR : ctx->input_ended ? MOS_RUN_END : MOS_RUN_IDLE;
		pipeline_prepare(ctx);
	}
	if (!run_burst(ctx))
		return MOS_RUN_STOPPED;
	return atomic_exchange(&ctx->stop_asked, false) ? MOS_RUN_STOPPED : MOS_RUN_MORE;
}

/* Live and nothing there: the wall clock moves the packet clock, so timeouts come in time. */
static void idle(struct mos_context *ctx, uint64_t slice_ns)
{
	uint64_t now = clock_wall_ns();

	if (!ctx->port) /* a silent pipe has waited already, and its packets bring their own time */
		return;
	if (now > ctx->now_ns) {
		ctx->now_ns = now;
		flow_timers(ctx);
	}
	port_wait(ctx->port, slice_ns);
}

int mos_run(struct mos_context *ctx, uint64_t slice_ns)
{
	uint64_t end;
	int rc = context_check(ctx);

	if (rc)
		return MOS_RUN_ERROR;
	if (!ctx->capture && !ctx->port) {
		context_fail(ctx, -ENODEV, "this context has no source: give one to mtcp_init(source=...)");
		return MOS_RUN_ERROR;
	}
	ctx->stopping = false;
	end = clock_monotonic_ns() + slice_ns;
	do {
		rc = turn(ctx);
		if (rc == MOS_RUN_MORE || rc == MOS_RUN_IDLE)
			ctx->host->leave(ctx);
		if (rc == MOS_RUN_IDLE)
			idle(ctx, slice_ns);
	} while (rc == MOS_RUN_MORE && clock_monotonic_ns() < end);
	ctx->host->leave(ctx);
	return rc;
}

static int by_serial(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The numbers of all flows in order of creation. */
static int list_flows(struct mos_context *ctx)
{
	uint64_t *sorted = malloc((ctx->table.count + 1) * 2 * sizeof *sorted);
	uint32_t count = 0;

	ctx->finish = malloc((ctx->table.count + 1) * sizeof *ctx->finish);
	if (!sorted || !ctx->finish) {
		free(sorted);
		return -ENOMEM;
	}
	for (uint32_t number = 0; number < ctx->table.numbers; number++) {
		const struct flow *flow = flow_at(&ctx->table, number);

		if (flow->serial) {
			sorted[2 * count] = flow->serial;
			sorted[2 * count++ + 1] = number;
		}
	}
	qsort(sorted, count, 2 * sizeof *sorted, by_serial);
	for (uint32_t i = 0; i < count; i++)
		ctx->finish[i] = (uint32_t)sorted[2 * i + 1];
	free(sorted);
	ctx->finish_count = count;
	ctx->finish_next = 0;
	return 0;
}

static int finish_flows(struct mos_context *ctx, int reason)
{
	while (ctx->finish_next < ctx->finish_count) {
		struct flow *flow = flow_at(&ctx->table, ctx->finish[ctx->finish_next++]);

		if (!(flow->flags & FLOW_ENDED))
			flow_end(ctx, flow, (enum mos_end_reason)reason);
		flow_remove(ctx, flow);
		if (ctx->stopping)
			return MOS_RUN_STOPPED;
	}
	return MOS_RUN_END;
}

int mos_finish(struct mos_context *ctx, int reason)
{
	int rc = context_check(ctx);

	if (rc)
		return MOS_RUN_ERROR;
	ctx->stopping = false;
	if (!bytes_end_burst(ctx)) {
		ctx->host->leave(ctx);
		return MOS_RUN_STOPPED;
	}
	if (!ctx->finish && list_flows(ctx)) {
		context_fail(ctx, -ENOMEM, "no memory to list the flows that are left");
		return MOS_RUN_ERROR;
	}
	rc = finish_flows(ctx, reason);
	if (rc == MOS_RUN_END) {
		free(ctx->finish);
		ctx->finish = NULL;
		close_source(ctx);
	}
	ctx->host->leave(ctx);
	return rc;
}
