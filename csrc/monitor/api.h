/*
 * api.h - what the calls of the contract share: argument checks with their errno and sentence.
 */
#ifndef MOS_MONITOR_API_H
#define MOS_MONITOR_API_H

#include "context.h"

/* The flow of a socket id; -EBADF, or `listening` for a listening socket. */
int api_find_flow(struct mos_context *ctx, int64_t sock, int listening, struct flow **flow, uint32_t *index);

/* -EINVAL for what is neither MOS_SIDE_CLI nor MOS_SIDE_SVR. */
int api_check_side(struct mos_context *ctx, int side);

#endif
