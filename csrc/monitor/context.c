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
#include "holes.h"
#include "pipeline.h"
#include "source.h"

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

int mos_check(struct mos_context *ctx, int idle)
{
	int rc = context_check(ctx);

	if (!rc && idle && ctx->running)
		rc = context_fail(ctx, -EBUSY,
		                  "the loop of this context is running; this cannot be done inside a callback");
	return rc;
}

void mos_config_defaults(struct mos_config *config)
{
	*config = (struct mos_config){
		.idle_timeout_ns = 3600ull * 1000000000,
		.handshake_timeout_ns = 130ull * 1000000000,
		.linger_ns = 10ull * 1000000000,
		.max_stream_bytes = 1ull << 30,
		.max_fragment_bytes = 4ull << 20,
		.fragment_timeout_ns = 30ull * 1000000000,
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

static uint64_t shortest_timeout(const struct mos_config *config)
{
	const uint64_t timeout[] = {config->idle_timeout_ns, config->handshake_timeout_ns, config->time_wait_ns,
	                            config->linger_ns};
	uint64_t shortest = UINT64_MAX;

	for (size_t i = 0; i < sizeof timeout / sizeof *timeout; i++)
		if (timeout[i] && timeout[i] < shortest)
			shortest = timeout[i];
	return config->linger_ns ? shortest : 0;
}

struct mos_context *context_new(const struct mos_config *config, const struct event_host *host, void *pyctx,
                                void *parked)
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
	ctx->shortest_ns = shortest_timeout(config);
	wheel_init(&ctx->wheel);
	page_pool_init(&ctx->pool, config->max_stream_bytes);
	ctx->decoder = (struct decoder){&ctx->table.secret, config->verify_checksums};
	frag_init(&ctx->fragments, &ctx->decoder, ctx->counter, config->max_fragment_bytes,
	          config->fragment_timeout_ns);
	live_add(&live_objects.contexts, 1);
	return ctx;
}

struct mos_context *mos_context_create(const struct mos_config *config, void *pyctx, void *parked, char *err,
                                       size_t errlen)
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
	source_close(ctx);
	drop_flows(ctx);
	bytes_free_retired(ctx);
	holes_free(ctx);
	watch_set_unref(ctx, ctx->last_set);
	for (uint32_t i = 0; i < ctx->sockets; i++)
		mon_socket_free(ctx, ctx->socket[i]);
	frag_free(&ctx->fragments);
	flow_table_free(&ctx->table);
	page_pool_free(&ctx->pool);
	free(ctx->new_data.due);
	free(ctx->unsettled.due);
	free(ctx->finish);
	rows_free(&ctx->rows);
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

void mos_stop(struct mos_context *ctx)
{
	if (ctx)
		atomic_store(&ctx->stop_asked, true);
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
	frag_end_burst(&ctx->fragments);
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
		count = source_read(ctx);
		if (count <= 0)
			return count < 0 ? MOS_RUN_ERROR : ctx->input_ended ? MOS_RUN_END : MOS_RUN_IDLE;
		pipeline_prepare(ctx);
	}
	if (!run_burst(ctx))
		return MOS_RUN_STOPPED;
	return atomic_exchange(&ctx->stop_asked, false) ? MOS_RUN_STOPPED : MOS_RUN_MORE;
}

int mos_run(struct mos_context *ctx, uint64_t slice_ns)
{
	uint64_t end;
	int rc = mos_check(ctx, true);

	if (rc)
		return MOS_RUN_ERROR;
	if (!ctx->capture && !ctx->port) {
		context_fail(ctx, -ENODEV, "this context has no source: give one to mtcp_init(source=...)");
		return MOS_RUN_ERROR;
	}
	ctx->stopping = false;
	ctx->running = true;
	end = clock_monotonic_ns() + slice_ns;
	do {
		rc = turn(ctx);
		if (rc == MOS_RUN_MORE || rc == MOS_RUN_IDLE)
			ctx->host->leave(ctx);
		if (rc == MOS_RUN_IDLE)
			source_idle(ctx, slice_ns);
	} while (rc == MOS_RUN_MORE && ctx->rows.len < ROWS_FULL && clock_monotonic_ns() < end);
	ctx->host->leave(ctx);
	ctx->running = false;
	return rc;
}

int mos_rows_enable(struct mos_context *ctx, int json, int hash)
{
	int rc = context_check(ctx);

	if (!rc)
		ctx->rows = (struct rows){.on = true, .json = json != 0, .hash = hash != 0};
	return rc;
}

const char *mos_rows(struct mos_context *ctx, size_t *len)
{
	*len = ctx ? ctx->rows.len : 0;
	if (ctx)
		ctx->rows.len = 0;
	return *len ? ctx->rows.text : "";
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
		if (ctx->stopping && ctx->finish_next < ctx->finish_count)
			return MOS_RUN_STOPPED;
		if (ctx->rows.len >= ROWS_FULL)
			return MOS_RUN_MORE;
	}
	return MOS_RUN_END;
}

static int finish(struct mos_context *ctx, int reason)
{
	int rc;

	ctx->stopping = false;
	if (!bytes_end_burst(ctx))
		return MOS_RUN_STOPPED;
	if (!ctx->finish && list_flows(ctx)) {
		context_fail(ctx, -ENOMEM, "no memory to list the flows that are left");
		return MOS_RUN_ERROR;
	}
	rc = finish_flows(ctx, reason);
	if (rc == MOS_RUN_END) {
		free(ctx->finish);
		ctx->finish = NULL;
		source_close(ctx);
	}
	return rc;
}

int mos_finish(struct mos_context *ctx, int reason)
{
	int rc;

	if (mos_check(ctx, true))
		return MOS_RUN_ERROR;
	ctx->running = true;
	rc = finish(ctx, reason);
	ctx->host->leave(ctx);
	ctx->running = false;
	return rc;
}
