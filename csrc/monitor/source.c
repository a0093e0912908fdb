/* source.c - see source.h; and the calls of the contract about sources and counters. */
#include "source.h"

#include "../io/clock.h"
#include "flow_life.h"

/* Bring the port's own counters into the context's. */
static void take_port_stats(struct mos_context *ctx)
{
	struct port_stats stats;

	port_stats(ctx->port, &stats);
	ctx->counter[MOS_CNT_PORT_RECEIVED] = stats.received;
	ctx->counter[MOS_CNT_PORT_DROPPED] = stats.dropped;
	ctx->counter[MOS_CNT_PORT_NO_MBUF] = stats.no_mbuf;
}

void source_close(struct mos_context *ctx)
{
	if (ctx->port) {
		port_release(ctx->port, ctx->burst.pkt, ctx->burst.count);
		take_port_stats(ctx);
		port_close(ctx->port);
		ctx->port = NULL;
	}
	ctx->burst.count = ctx->burst_next = 0;
	capture_close(ctx->capture);
	ctx->capture = NULL;
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

uint64_t mos_counter(struct mos_context *ctx, int counter)
{
	if (!ctx || counter < 0 || counter >= MOS_CNT_COUNTERS)
		return 0;
	if (ctx->port && counter >= MOS_CNT_PORT_RECEIVED && counter <= MOS_CNT_PORT_NO_MBUF)
		take_port_stats(ctx);
	if (counter == MOS_CNT_STREAM_PAGES)
		return ctx->pool.used;
	if (counter == MOS_CNT_RANGES)
		return ctx->holes.holes;
	return ctx->counter[counter];
}

int source_read(struct mos_context *ctx)
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
		return context_fail(ctx, count, "%s",
		                    ctx->capture ? capture_error(ctx->capture) : port_error(ctx->port));
	}
	if (count == 0 && ctx->capture)
		ctx->input_ended = true;
	return count;
}

void source_idle(struct mos_context *ctx, uint64_t slice_ns)
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
