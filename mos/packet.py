"""The packet at hand in a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mos._ffi import ffi, lib, text
from mos.errors import StaleView, check

if TYPE_CHECKING:
    from mos._dispatch import Context

_NONE32 = 0xFFFFFFFF
_NONE64 = 0xFFFFFFFFFFFFFFFF


class LastPacket:
    """What mtcp_getlastpkt() returns: a view of the packet that is being dispatched.

    Numbers may be kept; `frame` and `payload` copy the bytes out of the receive buffer and work
    until the burst of the packet is over, that is while its callback runs (StaleView afterwards).
    `seq` and `ack` are absolute, `window` is the header's unscaled field, `time_ns` counts from
    the epoch, `offset` is the payload's place in the stream (0 = ISN + 1).  Offsets of layers
    count from the frame's first byte; None where there is no such layer.
    """

    __slots__ = ("_context", "_raw")

    def __init__(self, context: Context, sock: int, side: int) -> None:
        """Take the packet at hand of a socket."""
        self._context = context
        self._raw: Any = ffi.new("struct mos_packet *")
        check(lib.mos_getlastpkt(context.pointer, sock, side, self._raw), context.pointer)

    def __getattr__(self, name: str) -> Any:
        """Give a field of struct mos_packet."""
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._raw, name)
        if value == (_NONE64 if name == "offset" else _NONE32) and name.endswith("offset"):
            return None
        return bool(value) if name == "is_rexmit" else value

    def __repr__(self) -> str:
        """Show the packet as one line."""
        raw = self._raw
        return (
            f"<LastPacket number={raw.number} seq={raw.seq} ack={raw.ack} flags={raw.flags:#04x} "
            f"payload={raw.payload_len} wire={raw.wire_len}>"
        )

    def _bytes(self, start: int, length: int) -> bytes:
        if lib.mos_packet_number(self._context.pointer) != self._raw.number:
            msg = f"packet {self._raw.number} was used after its callback returned; copy packet.payload to keep it"
            raise StaleView(msg)
        return bytes(ffi.buffer(self._raw.frame + start, length))

    @property
    def frame(self) -> bytes:
        """The captured bytes of the frame."""
        return self._bytes(0, self._raw.frame_len)

    @property
    def payload(self) -> bytes:
        """The captured bytes of the TCP payload; b"" when there is none."""
        return self._bytes(self._raw.payload_offset if self._raw.payload_captured else 0, self._raw.payload_captured)

    @property
    def kind(self) -> str:
        """The class of the segment in tshark's words: "normal", "retransmission", ..."""
        return text(lib.mos_segment_class_name(self._raw.segment_class))
