/* bytes.c - see bytes.h.  Sides are receiving sides here: data of half !side. */
#include "bytes.h"

#include "../tcp/seq.h"
#include "../tcp/tcp_receiver.h"
#include "consumer.h"
#include "events.h"
#include "flow_life.h"

int64_t bytes_unread_from(const struct flow *flow, int side)
{
	const struct flow_cold *cold = flow->cold;
	int64_t lowest = INT64_MAX;

	for (uint32_t i = 0; i < flow->set->count; i++)
		if (watch_reads(&flow->set->watch[i], side))
			lowest = rel_min(lowest, cold->reader ? cold->reader[i].at[side] : 1);
	return rel_max(lowest, cold->half[!side].stream->start);
}

uint8_t bytes_overlap_policy(const struct flow *flow, int side)
{
	for (uint32_t i = 0; i < flow->set->count; i++)
		if (watch_reads(&flow->set->watch[i], side))
			return flow->set->watch[i].overlap[side];
	return MOS_OVERLAP_POLICY_FIRST;
}

/* Somebody wants the bytes that `side` receives: a socket, or the hash of the rows. */
static bool is_read(const struct mos_context *ctx, const struct flow *flow, int side)
{
	return flow->set->read[side] || ctx->rows.hash;
}

/* The stream of what `side` receives, made if it is read; NULL if not, or without memory. */
static struct stream *stream_of(struct mos_context *ctx, struct segment *segment, int side)
{
	struct flow *flow = segment->flow;
	struct half_cold *cold;

	if (flow->cold && flow->cold->half[!side].stream)
		return flow->cold->half[!side].stream;
	if (!is_read(ctx, flow, side) || !flow_cold(flow))
		return NULL;
	cold = &flow->cold->half[!side];
	/* a side that is switched on late begins where the connection stands */
	cold->stream = stream_new(rel_max(1, segment->edge));
	if (!cold->stream)
		return NULL;
	cold->stream->rmem = watch_set_buffer(ctx, flow->set, side);
	cold->stream->policy = bytes_overlap_policy(flow, side);
	cold->stream->history = ctx->config.history;
	return cold->stream;
}

static void pending(struct mos_context *ctx, struct flow *flow, struct stream *stream, int side)
{
	if (stream->pending || !(flow->set->wanted[side][AT_NULL] & EV_BIT(EV_NEW_DATA)))
		return;
	stream->pending = true;
	due_add(ctx, &ctx->new_data, flow, side);
}

static void mark_dirty(struct mos_context *ctx, struct flow *flow, struct stream *stream, int side)
{
	if (stream->dirty)
		return;
	stream->dirty = true;
	due_add(ctx, &ctx->unsettled, flow, side);
}

static enum event_order order_for(int receiver)
{
	return receiver == MOS_SIDE_SVR ? CLIENT_FIRST : SERVER_FIRST;
}

static void raise_error(struct mos_context *ctx, struct flow *flow, int side, enum mos_error_reason reason, int64_t at,
                        uint64_t length)
{
	struct segment_error error = {(uint8_t)reason, (uint8_t)side, at, length};

	event_error(ctx, flow, &error, order_for(side));
}

static bool is_overrun(const struct flow *flow, const struct stream *stream, int side)
{
	return stream->next - bytes_unread_from(flow, side) > stream->rmem;
}

static void run_new_data(struct mos_context *ctx, struct flow *flow, int side)
{
	flow->cold->half[!side].stream->pending = false;
	event_dispatch(ctx, flow, AT_NULL, side, EV_BIT(EV_NEW_DATA), order_for(side));
}

/*
 * Before more becomes readable: what is unread beyond rmem_size is lost to slow readers.  Readers
 * at MOS_NULL get their turn first, whatever the burst size, and ERROR comes before the loss, so
 * its callback may still peek.  A callback may also switch the stream off: false then.
 */
static bool check_overrun(struct mos_context *ctx, struct flow *flow, struct stream *stream, int side)
{
	struct half_cold *cold = &flow->cold->half[!side];

	if (stream->pending)
		run_new_data(ctx, flow, side);
	if (cold->stream == stream && is_overrun(flow, stream, side))
		raise_error(ctx, flow, side, MOS_ERR_BUFFER_OVERRUN, bytes_unread_from(flow, side),
		            (uint64_t)(stream->next - stream->rmem - bytes_unread_from(flow, side)));
	if (cold->stream != stream)
		return false;
	if (is_overrun(flow, stream, side))
		stream->base = rel_max(stream->base, stream->next - stream->rmem);
	return true;
}

/* Move the readable edge; true when bytes became readable. */
static bool advance(struct mos_context *ctx, struct flow *flow, struct stream *stream, int side)
{
	int64_t edge = tcp_readable_edge(flow, !side), from = stream->next;

	if (edge <= from)
		return false;
	if (flow->set->read[side] && from - stream->base > stream->rmem && is_overrun(flow, stream, side) &&
	    !check_overrun(ctx, flow, stream, side))
		return false;
	if (!stream_advance(stream, edge))
		return false;
	if (ctx->rows.hash)
		consumer_stream(flow, side, stream, from);
	pending(ctx, flow, stream, side);
	return true;
}

/* Refused SYN data is complete again when the stream is contiguous up to its end. */
static void check_refused(struct half_cold *cold)
{
	if (cold->refused_end && cold->stream->top >= cold->refused_end && !cold->stream->holes.count)
		cold->refused_end = 0;
}

static void put(struct mos_context *ctx, struct segment *segment, struct stream *stream, int side)
{
	const struct mos_pkt *pkt = segment->pkt;
	const uint8_t *data = pkt->frame + pkt->payload_off;
	uint64_t lost = stream->lost_bytes;
	struct stream_put met = {0};

	if (segment->data < stream->top) {
		int64_t acked = rel_min(rel_max(segment->flow->half[!side].snd_una - segment->data, 0),
		                        pkt->payload_cap);

		/* acknowledged bytes are settled, whatever comes now; the others were kept (bytes_end_burst) */
		stream_conflict(stream, segment->data + acked, data + acked, pkt->payload_cap - (uint32_t)acked, &met);
		if (met.conflict_bytes && stream->pending)
			run_new_data(ctx, segment->flow,
			             side); /* readers at MOS_NULL have the first copy, in any burst */
		if (met.conflict_bytes)
			raise_error(ctx, segment->flow, side, MOS_ERR_CONFLICTING_OVERLAP, met.conflict_at,
			            met.conflict_bytes);
	}
	met.fin = pkt->flags & TCP_FIN && pkt->payload_cap == pkt->payload_len;
	stream_put(stream, &ctx->pool, segment->data, data, pkt->payload_cap, &met);
	if (stream->lost_bytes != lost)
		raise_error(ctx, segment->flow, side, MOS_ERR_NO_MEMORY, segment->data, stream->lost_bytes - lost);
	mark_dirty(ctx, segment->flow, stream, side);
}

/* A byte sent into a closed window is not taken by its receiver, unless it acknowledges it. */
static bool is_probe(const struct segment *segment)
{
	return segment->seg_class == MOS_SEG_ZERO_WINDOW_PROBE;
}

/*
 * The usual case for a consumer in C: nothing is stored and the segment continues the stream.
 * Its bytes are handed over where they lie.
 */
static bool hand_over(struct mos_context *ctx, struct segment *segment)
{
	const struct mos_pkt *pkt = segment->pkt;
	struct flow *flow = segment->flow;
	const struct stream *stream = flow->cold ? flow->cold->half[segment->side].stream : NULL;
	int64_t skip = segment->edge - segment->data;

	if (!ctx->rows.hash || flow->set->read[!segment->side] || stream || half_has_holes(flow, segment->side))
		return false;
	if (pkt->flags & TCP_SYN || is_probe(segment) || pkt->payload_cap != pkt->payload_len)
		return false;
	if (skip >= 0 && skip < pkt->payload_len)
		consumer_bytes(flow, !segment->side, pkt->frame + pkt->payload_off + skip,
		               pkt->payload_len - (size_t)skip);
	return true;
}

bool bytes_receive(struct mos_context *ctx, struct segment *segment)
{
	int side = !segment->side;
	struct flow *flow = segment->flow;
	struct stream *stream;
	struct half_cold *cold;

	if (!segment->accepted || segment->pkt->flags & TCP_RST || !is_read(ctx, flow, side) || hand_over(ctx, segment))
		return false;
	if (!segment->pkt->payload_len && !(flow->cold && flow->cold->half[segment->side].stream))
		return false;
	stream = stream_of(ctx, segment, side);
	if (!stream)
		return false;
	cold = &flow->cold->half[segment->side];
	if (segment->pkt->flags & TCP_SYN && segment->pkt->payload_len)
		cold->syn_data = true;
	if ((segment->pkt->payload_cap || segment->pkt->flags & TCP_FIN) && !is_probe(segment))
		put(ctx, segment, stream, side);
	check_refused(cold);
	return advance(ctx, flow, stream, side);
}

/* The answer to a SYN with data: what was not acknowledged was not taken. */
static void settle_syn_data(struct mos_context *ctx, struct half_cold *cold, int64_t ack_rel)
{
	cold->syn_data = false;
	if (ack_rel > 1)
		return;
	cold->refused_end = cold->stream->top;
	stream_restart(cold->stream, &ctx->pool, 1);
}

/* The byte of a zero-window probe that was acknowledged: it stands right below snd_max. */
static void take_probe_byte(struct mos_context *ctx, struct flow *flow, struct half_cold *cold, int side)
{
	int64_t at = flow->half[!side].snd_max - 1;
	struct stream_put met = {0};

	cold->probe_taken = false;
	if (!cold->stream) {
		if (ctx->rows.hash)
			consumer_bytes(flow, side, &cold->probe_byte, 1);
		return;
	}
	stream_put(cold->stream, &ctx->pool, at, &cold->probe_byte, 1, &met);
	mark_dirty(ctx, flow, cold->stream, side);
}

void bytes_acked(struct mos_context *ctx, const struct segment *segment)
{
	struct half_cold *cold = &segment->flow->cold->half[!segment->side];
	int side = segment->side; /* who acknowledges has received */

	if (!segment->accepted || !segment->has_ack || !(cold->syn_data || cold->probe_taken))
		return;
	if (cold->probe_taken)
		take_probe_byte(ctx, segment->flow, cold, side);
	if (cold->syn_data)
		settle_syn_data(ctx, cold, segment->ack_rel);
	if (cold->stream && advance(ctx, segment->flow, cold->stream, side))
		event_dispatch(ctx, segment->flow, AT_RCV, side, EV_BIT(EV_NEW_DATA), order_for(side));
}

void bytes_skip_gaps(struct mos_context *ctx, struct flow *flow, uint64_t now_ns, bool at_once)
{
	for (int side = 0; flow->cold && side < 2; side++) {
		if (!flow->cold->half[!side].holes.count) {
			flow->cold->half[!side].hold_ns = 0; /* filled while it was waited for */
			continue;
		}
		bool held = flow->cold->half[!side].hold_ns;
		uint64_t missing;
		int64_t at;

		while (tcp_skip_gap(flow, !side, now_ns, at_once, &at, &missing)) {
			struct stream *stream = flow->cold->half[!side].stream;

			raise_error(ctx, flow, side, MOS_ERR_HOLE_SKIPPED, at, missing);
			stream = flow->cold->half[!side].stream;
			if (stream && advance(ctx, flow, stream, side))
				event_dispatch(ctx, flow, AT_RCV, side, EV_BIT(EV_NEW_DATA), order_for(side));
		}
		if (!held && flow->cold->half[!side].hold_ns && !(flow->flags & FLOW_ENDING))
			flow_refile(ctx, flow);
	}
}

static bool is_pending(const struct flow *flow, int side)
{
	return flow->cold && flow->cold->half[!side].stream && flow->cold->half[!side].stream->pending;
}

void bytes_flush(struct mos_context *ctx, struct flow *flow)
{
	for (int side = 0; flow->cold && side < 2; side++) {
		struct stream *stream = flow->cold->half[!side].stream;

		if (stream && advance(ctx, flow, stream, side))
			event_dispatch(ctx, flow, AT_RCV, side, EV_BIT(EV_NEW_DATA), order_for(side));
	}
	for (int side = 0; side < 2; side++)
		if (is_pending(flow, side))
			run_new_data(ctx, flow, side);
}

/* The flow a due was noted for, or NULL if it ended meanwhile. */
static struct flow *due_flow(struct mos_context *ctx, const struct due *due)
{
	struct flow *flow = flow_at(&ctx->table, due->number);

	return flow->serial && flow->generation == due->generation && !(flow->flags & FLOW_ENDED) ? flow : NULL;
}

static bool run_due_data(struct mos_context *ctx)
{
	struct due_list *list = &ctx->new_data;

	while (list->next < list->count) {
		const struct due due = list->due[list->next++];
		struct flow *flow = due_flow(ctx, &due);

		if (flow && is_pending(flow, due.side))
			run_new_data(ctx, flow, due.side);
		if (ctx->stopping)
			return false;
	}
	list->count = list->next = 0;
	return true;
}

void bytes_switch_off(struct mos_context *ctx, struct flow *flow, int side)
{
	struct stream *stream = flow->cold->half[!side].stream;

	flow->cold->half[!side].stream = NULL;
	stream->retired = ctx->retired;
	ctx->retired = stream;
}

void bytes_free_retired(struct mos_context *ctx)
{
	while (ctx->retired) {
		struct stream *stream = ctx->retired;

		ctx->retired = stream->retired;
		stream_free(stream, &ctx->pool);
	}
}

/*
 * What must outlive the burst: unread bytes, and those the receiver has not acknowledged, so that
 * other bytes sent in their place are noticed whatever the burst size (rmem_size of them at most).
 */
static int64_t keep_from(const struct flow *flow, const struct stream *stream, int side)
{
	int64_t acked = rel_max(flow->half[!side].snd_una, stream->next - stream->rmem);

	if (!flow->set->read[side])
		return INT64_MAX;
	return rel_min(bytes_unread_from(flow, side), acked);
}

static void settle(struct mos_context *ctx, struct flow *flow, struct stream *stream, int side)
{
	uint64_t lost = stream->lost_bytes;

	stream_settle(stream, &ctx->pool, keep_from(flow, stream, side));
	stream->dirty = false;
	if (stream->lost_bytes != lost)
		raise_error(ctx, flow, side, MOS_ERR_NO_MEMORY, stream->next, stream->lost_bytes - lost);
}

bool bytes_end_burst(struct mos_context *ctx)
{
	if (!run_due_data(ctx))
		return false;
	bytes_free_retired(ctx);
	for (uint32_t i = 0; i < ctx->unsettled.count; i++) {
		const struct due *due = &ctx->unsettled.due[i];
		struct flow *flow = due_flow(ctx, due);
		struct stream *stream = flow && flow->cold ? flow->cold->half[!due->side].stream : NULL;

		if (stream)
			settle(ctx, flow, stream, due->side);
	}
	ctx->unsettled.count = 0;
	return true;
}
