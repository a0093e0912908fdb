/* rows.c - see rows.h. */
#include "rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "figures.h"

enum {
	ROW_MAX = 4096,
	SCHEMA = 1
};

enum field_kind {
	U64,
	U16,
	U8,
	BOOL,
	TEXT,
	STATE,
	END,
	WSCALE
};

struct field {
	const char *label; /* "name": with quotes and colon */
	uint16_t label_len, offset;
	uint8_t kind, row;
};

#define LABEL(name) "\"" #name "\":", sizeof("\"" #name "\":") - 1

static const struct field flow_fields[] = {
#define FLOW_FIELD(name, kind, unit, row, sentence) {LABEL(name), offsetof(struct mos_flow_figures, name), kind, row},
#include "field_list.h"
};

static const struct field direction_fields[] = {
#define DIRECTION_FIELD(name, kind, unit, row, sentence) \
	{LABEL(name), offsetof(struct mos_direction_figures, name), kind, row},
#include "field_list.h"
};

static char *put_text(char *at, const char *text, size_t len)
{
	memcpy(at, text, len);
	return at + len;
}

static char *put_number(char *at, uint64_t value)
{
	char digits[20];
	int count = 0;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	while (count)
		*at++ = digits[--count];
	return at;
}

static char *put_string(char *at, const char *text)
{
	*at++ = '"';
	at = put_text(at, text, strlen(text));
	*at++ = '"';
	return at;
}

static char *put_value(char *at, enum field_kind kind, const void *value)
{
	uint64_t number;

	switch (kind) {
	case U64:
		memcpy(&number, value, sizeof number);
		return number == NOT_MEASURED ? put_text(at, "null", 4) : put_number(at, number);
	case U16:
		return put_number(at, *(const uint16_t *)value);
	case BOOL:
		return *(const uint8_t *)value ? put_text(at, "true", 4) : put_text(at, "false", 5);
	case TEXT:
		return put_string(at, value);
	case STATE:
		return put_string(at, mos_tcp_state_name(*(const uint8_t *)value));
	case END:
		return put_string(at, mos_end_reason_name(*(const uint8_t *)value));
	case WSCALE:
	case U8:
	default:
		return put_number(at, *(const uint8_t *)value);
	}
}

static char *put_fields(char *at, const struct field *field, size_t count, const void *base)
{
	for (size_t i = 0; i < count; i++) {
		if (!field[i].row)
			continue;
		at = put_text(at, field[i].label, field[i].label_len);
		at = put_value(at, (enum field_kind)field[i].kind, (const char *)base + field[i].offset);
		*at++ = ',';
	}
	return at;
}

static char *put_direction(char *at, const struct mos_direction_figures *figures, const struct flow *flow, int side,
                           bool hash)
{
	char sum[DIGEST_TEXT];

	*at++ = '{';
	at = put_fields(at, direction_fields, sizeof direction_fields / sizeof *direction_fields, figures);
	if (hash) {
		digest_text(flow->cold ? flow->cold->half[side].digest : NULL, sum);
		at = put_text(at, "\"sha256\":", 9);
		at = put_string(at, sum);
		*at++ = ',';
	}
	at[-1] = '}';
	return at;
}

static char *put_json(char *at, const struct mos_flow_figures *figures, const struct flow *flow, bool hash)
{
	at += sprintf(at, "{\"schema\":%d,", SCHEMA);
	at = put_fields(at, flow_fields, sizeof flow_fields / sizeof *flow_fields, figures);
	at = put_text(at, "\"c2s\":", 6);
	at = put_direction(at, &figures->dir[0], flow, 0, hash);
	at = put_text(at, ",\"s2c\":", 7);
	at = put_direction(at, &figures->dir[1], flow, 1, hash);
	return put_text(at, "}\n", 2);
}

static void endpoint(char text[80], const char *host, unsigned port)
{
	snprintf(text, 80, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

/* For people: one line, the same width for most flows. */
static char *put_line(char *at, const struct mos_flow_figures *figures)
{
	const struct mos_direction_figures *c2s = &figures->dir[0], *s2c = &figures->dir[1];
	uint64_t again[2] = {0, 0};
	char client[80], server[80], rtt[24] = "-";

	for (int i = 0; i < 2; i++)
		again[i] = figures->dir[i].retransmission + figures->dir[i].fast_retransmission +
		           figures->dir[i].spurious_retransmission;
	endpoint(client, figures->client, figures->client_port);
	endpoint(server, figures->server, figures->server_port);
	if (figures->handshake_rtt_ns != NOT_MEASURED)
		snprintf(rtt, sizeof rtt, "%.3f ms", (double)figures->handshake_rtt_ns / 1e6);
	at += sprintf(at, "%-24s %-24s %9.3f s %12s %8llu %8llu %12llu %12llu %6llu %6llu  %s\n", client, server,
	              (double)(figures->end_ns - figures->start_ns) / 1e9, rtt, (unsigned long long)c2s->packets,
	              (unsigned long long)s2c->packets, (unsigned long long)c2s->stream_bytes,
	              (unsigned long long)s2c->stream_bytes, (unsigned long long)again[0], (unsigned long long)again[1],
	              mos_end_reason_name(figures->end_reason));
	return at;
}

static bool reserve(struct rows *rows)
{
	size_t room = rows->room ? rows->room * 2 : 1 << 16;
	char *text;

	if (rows->room - rows->len >= ROW_MAX)
		return true;
	text = realloc(rows->text, room);
	if (!text)
		return false;
	rows->text = text;
	rows->room = room;
	return true;
}

void rows_add(struct rows *rows, const struct flow *flow)
{
	struct mos_flow_figures figures;
	char *at;

	if (!rows->on)
		return;
	if (!reserve(rows)) {
		rows->lost++;
		return;
	}
	figures_fill(flow, &figures);
	at = rows->text + rows->len;
	at = rows->json ? put_json(at, &figures, flow, rows->hash) : put_line(at, &figures);
	rows->len = (size_t)(at - rows->text);
}

void rows_free(struct rows *rows)
{
	free(rows->text);
	*rows = (struct rows){0};
}
