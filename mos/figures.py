"""What was measured of a flow.  None = not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mos._ffi import ffi, lib, text

_NONE = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class DirectionFigures:
    """Figures of one direction; the sender of the counted segments names it (c2s: the client)."""

    packets: int
    wire_bytes: int
    payload_bytes: int
    stream_bytes: int
    undelivered_bytes: int
    syn: int
    fin: int
    rst: int
    retransmission: int
    fast_retransmission: int
    spurious_retransmission: int
    unseen_retransmission: int
    out_of_order: int
    keep_alive: int
    zero_window_probe: int
    duplicate_ack: int
    zero_window: int
    gaps: int
    gap_bytes: int
    rtt_min_ns: int | None
    rtt_mean_ns: int | None
    rtt_max_ns: int | None
    max_window: int | None
    mss: int | None
    sack_permitted: bool
    timestamps: bool
    window_scale: int | None


@dataclass(frozen=True)
class FlowFigures:
    """Figures of a flow, as they stand now; times in ns since the epoch, states by name."""

    flow_id: int
    community_id: str
    client: str
    client_port: int
    server: str
    server_port: int
    start_ns: int
    end_ns: int
    handshake_rtt_ns: int | None
    client_state: str
    server_state: str
    end_reason: str
    midstream: bool
    c2s: DirectionFigures
    s2c: DirectionFigures


_FIELDS = tuple(name for name, _ in ffi.typeof("struct mos_direction_figures").fields)
_SWITCHES = ("sack_permitted", "timestamps")


def _direction(raw: Any) -> DirectionFigures:
    values: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(raw, name)
        values[name] = bool(value) if name in _SWITCHES else None if value == _NONE else value
    if values["window_scale"] == 255:  # noqa: PLR2004 - the header's "not offered"
        values["window_scale"] = None
    return DirectionFigures(**values)


def from_raw(raw: Any) -> FlowFigures:
    """Turn a `struct mos_flow_figures` into Python values."""
    return FlowFigures(
        flow_id=raw.flow_id,
        community_id=text(raw.community_id),
        client=text(raw.client),
        client_port=raw.client_port,
        server=text(raw.server),
        server_port=raw.server_port,
        start_ns=raw.start_ns,
        end_ns=raw.end_ns,
        handshake_rtt_ns=None if raw.handshake_rtt_ns == _NONE else raw.handshake_rtt_ns,
        client_state=text(lib.mos_tcp_state_name(raw.client_state)),
        server_state=text(lib.mos_tcp_state_name(raw.server_state)),
        end_reason=text(lib.mos_end_reason_name(raw.end_reason)),
        midstream=bool(raw.midstream),
        c2s=_direction(raw.dir[0]),
        s2c=_direction(raw.dir[1]),
    )
