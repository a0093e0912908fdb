/*
 * rows.h - one row per flow, rendered when its record leaves the table.
 *
 * Rows gather in a buffer of the context until mos_rows() takes them.
 * Errors: without memory a row is lost and counted as an error.
 */
#ifndef MOS_MONITOR_ROWS_H
#define MOS_MONITOR_ROWS_H

#include "../flow/flow.h"

struct rows {
	char *text;
	size_t len, room;
	uint64_t lost;
	bool json, hash, on;
};

/* Bytes that may gather before the loop returns to let them be taken. */
enum {
	ROWS_FULL = 1 << 20
};

/* Render the flow, if rows are wanted. */
void rows_add(struct rows *rows, const struct flow *flow);
void rows_free(struct rows *rows);

#endif
