/* holes.c - see holes.h. */
#include "holes.h"

#include <stdlib.h>
#include <string.h>

#include "../tcp/seq.h"
#include "../tcp/tcp_sender.h"
#include "bytes.h"
#include "events.h"

enum {
	FEW_NOTES = 1024
};

/* The hole a note is about, if it is still open. */
static const struct hole *noted_hole(struct mos_context *ctx, const struct hole_note *note)
{
	struct flow *flow = flow_at(&ctx->table, note->number);
	const struct hole *hole;

	if (!flow->serial || flow->generation != note->generation || !holes_of(flow, note->side))
		return NULL;
	hole = ranges_next(&flow->cold->half[note->side].holes, note->at);
	return hole && hole->since_ns == note->since_ns ? hole : NULL;
}

/* Keep only the notes of open holes. */
static void sweep(struct mos_context *ctx)
{
	struct hole_queue *queue = &ctx->holes;
	uint32_t kept = 0;

	for (uint32_t i = queue->next; i < queue->count; i++)
		if (noted_hole(ctx, &queue->note[i]))
			queue->note[kept++] = queue->note[i];
	queue->count = kept;
	queue->next = 0;
}

static void note_hole(struct mos_context *ctx, const struct segment *segment)
{
	struct hole_queue *queue = &ctx->holes;
	const struct flow *flow = segment->flow;

	if (queue->count - queue->next > 2 * queue->holes + FEW_NOTES)
		sweep(ctx);
	if (queue->count == queue->room) {
		uint32_t room = queue->room ? queue->room * 2 : 64;
		struct hole_note *note = realloc(queue->note, room * sizeof *note);

		if (!note)
			return;
		queue->note = note;
		queue->room = room;
	}
	queue->note[queue->count++] = (struct hole_note){
		.at = segment->hole_at,
		.since_ns = segment->now_ns,
		.number = flow->number,
		.generation = flow->generation,
		.side = (uint8_t)segment->side,
	};
}

static void give_up(struct mos_context *ctx, const struct hole_note *note, struct hole hole)
{
	struct flow *flow = flow_at(&ctx->table, note->number);
	struct half_cold *cold = &flow->cold->half[note->side];
	struct segment_error error = {MOS_ERR_RANGES_FULL, (uint8_t)!note->side, hole.start,
	                              (uint64_t)(hole.end - hole.start)};
	uint64_t before = cold->holes.count;
	struct ranges_fill fill;

	if (ranges_fill(&cold->holes, hole.start, hole.end, &fill))
		return;
	ctx->holes.holes -= before - cold->holes.count;
	cold->forgot_start = cold->forgot_end ? rel_min(cold->forgot_start, hole.start) : hole.start;
	cold->forgot_end = rel_max(cold->forgot_end, hole.end);
	if (hole.start >= cold->rcv_nxt) { /* not skipped before */
		cold->gaps++;
		cold->gap_bytes += error.length;
	}
	cold->cut_bytes += error.length; /* never captured, though no hole any more */
	tcp_refresh_edge(flow, note->side);
	event_error(ctx, flow, &error, note->side == MOS_SIDE_CLI ? CLIENT_FIRST : SERVER_FIRST);
}

/* Give up the oldest holes above the cap. */
static void make_room(struct mos_context *ctx)
{
	struct hole_queue *queue = &ctx->holes;

	while (queue->holes > ctx->config.max_ranges && queue->next < queue->count) {
		const struct hole_note note = queue->note[queue->next++];
		const struct hole *hole = noted_hole(ctx, &note);

		if (hole)
			give_up(ctx, &note, *hole);
	}
	if (queue->next == queue->count)
		queue->next = queue->count = 0;
}

void holes_changed(struct mos_context *ctx, const struct segment *segment, uint64_t before)
{
	ctx->holes.holes += holes_of(segment->flow, segment->side) - before;
	if (!segment->hole_opened)
		return;
	note_hole(ctx, segment);
	if (ctx->holes.holes > ctx->config.max_ranges)
		make_room(ctx);
}

void holes_forget(struct mos_context *ctx, const struct flow *flow)
{
	ctx->holes.holes -= holes_of(flow, 0) + holes_of(flow, 1);
}

void holes_free(struct mos_context *ctx)
{
	free(ctx->holes.note);
	memset(&ctx->holes, 0, sizeof ctx->holes);
}
