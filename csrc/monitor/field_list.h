/*
 * field_list.h - every figure of a flow, one line each: rows, documents and names in Python are
 * made from it.
 *
 * FLOW_FIELD(name, kind, unit, row, sentence)      members of struct mos_flow_figures
 * DIRECTION_FIELD(name, kind, unit, row, sentence) members of struct mos_direction_figures
 *
 * kind: U64 (UINT64_MAX = not measured), U16, U8, BOOL, TEXT, STATE, END, WSCALE.
 * row: 1 = part of the rows of `mos flows`.  The order here is the order there.
 */
/* clang-format off */
#ifndef FLOW_FIELD
#define FLOW_FIELD(name, kind, unit, row, sentence)
#endif
#ifndef DIRECTION_FIELD
#define DIRECTION_FIELD(name, kind, unit, row, sentence)
#endif

FLOW_FIELD(flow_id, U64, "", 1, "number of the flow in this run, from 1, in order of creation")
FLOW_FIELD(community_id, TEXT, "", 1, "Community ID 1.0 of the addresses and ports, seed 0")
FLOW_FIELD(client, TEXT, "", 1, "address of the host that sent the first SYN")
FLOW_FIELD(client_port, U16, "", 1, "its port")
FLOW_FIELD(server, TEXT, "", 1, "address of the other host")
FLOW_FIELD(server_port, U16, "", 1, "its port")
FLOW_FIELD(midstream, BOOL, "", 1, "the flow was picked up without its SYN")
FLOW_FIELD(start_ns, U64, "ns", 1, "time of the first segment, since the epoch")
FLOW_FIELD(end_ns, U64, "ns", 1, "time of the last segment, late ones included")
FLOW_FIELD(client_state, STATE, "", 1, "TCP state of the client, the last one before the end")
FLOW_FIELD(server_state, STATE, "", 1, "TCP state of the server, the last one before the end")
FLOW_FIELD(end_reason, END, "", 1, "why the flow ended")
FLOW_FIELD(handshake_rtt_ns, U64, "ns", 1, "from the last SYN to the client's ACK of the SYN/ACK")

DIRECTION_FIELD(packets, U64, "segments", 1, "TCP segments; one that came in IP fragments counts once")
DIRECTION_FIELD(wire_bytes, U64, "bytes", 1, "lengths of their frames on the wire, link header and all fragments included")
DIRECTION_FIELD(payload_bytes, U64, "bytes", 1, "TCP payload by the IP length, retransmitted and cut bytes included")
DIRECTION_FIELD(stream_bytes, U64, "bytes", 1, "distinct stream bytes captured, delivered or not")
DIRECTION_FIELD(undelivered_bytes, U64, "bytes", 1, "captured bytes behind a hole that was never closed")
DIRECTION_FIELD(syn, U64, "segments", 1, "segments with SYN")
DIRECTION_FIELD(fin, U64, "segments", 1, "segments with FIN")
DIRECTION_FIELD(rst, U64, "segments", 1, "segments with RST")
DIRECTION_FIELD(retransmission, U64, "segments", 1, "carry numbers seen before, and are none of the kinds below")
DIRECTION_FIELD(fast_retransmission, U64, "segments", 1, "sent again after two repeated acknowledgements for exactly this place")
DIRECTION_FIELD(spurious_retransmission, U64, "segments", 1, "sent again although acknowledged already")
DIRECTION_FIELD(unseen_retransmission, U64, "segments", 1, "fill a hole later than a round trip: sent again, the first copy was not captured")
DIRECTION_FIELD(out_of_order, U64, "segments", 1, "fill a hole within a round trip: overtaken on the way")
DIRECTION_FIELD(keep_alive, U64, "segments", 1, "no or one byte at the number below the next one")
DIRECTION_FIELD(zero_window_probe, U64, "segments", 1, "one byte sent into a closed window")
DIRECTION_FIELD(duplicate_ack, U64, "segments", 1, "pure acknowledgements that repeat the one before")
DIRECTION_FIELD(zero_window, U64, "segments", 1, "offer a window of zero (SYN, FIN and RST do not count)")
DIRECTION_FIELD(gaps, U64, "", 1, "places of the stream that were given up")
DIRECTION_FIELD(gap_bytes, U64, "bytes", 1, "bytes missing there")
DIRECTION_FIELD(rtt_min_ns, U64, "ns", 1, "shortest time from a segment to its acknowledgement, as seen here")
DIRECTION_FIELD(rtt_mean_ns, U64, "ns", 1, "mean of those times")
DIRECTION_FIELD(rtt_max_ns, U64, "ns", 1, "longest of those times")
DIRECTION_FIELD(max_window, U64, "bytes", 0, "largest window the sender of this direction offered")
DIRECTION_FIELD(mss, U64, "bytes", 0, "maximum segment size it offered")
DIRECTION_FIELD(sack_permitted, BOOL, "", 0, "it offered selective acknowledgements")
DIRECTION_FIELD(timestamps, BOOL, "", 0, "it offered timestamps")
DIRECTION_FIELD(window_scale, WSCALE, "", 0, "window shift it offered")

#undef FLOW_FIELD
#undef DIRECTION_FIELD
