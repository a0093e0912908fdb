/*
 * figures.h - what was measured of a flow (spec section 3), gathered from its record.
 */
#ifndef MOS_MONITOR_FIGURES_H
#define MOS_MONITOR_FIGURES_H

#include "../flow/flow.h"

/* Address as text (inet_ntop(3)) and port of a side. */
void figures_address(const struct flow *flow, int side, char host[64], uint16_t *port);

void figures_fill(const struct flow *flow, struct mos_flow_figures *figures);

#endif
