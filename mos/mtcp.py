"""The mOS programming interface: mtcp_* with the names, arguments and meaning of the C manual.

Python spelling: a call that fails raises OSError with the errno of the manual page instead of
returning -1, and returns what it has to say instead of filling a pointer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mos import config as _config
from mos import figures as _figures
from mos._dispatch import Context
from mos._ffi import ffi, lib, text
from mos.errors import FilterError, StreamGap, check
from mos.packet import LastPacket

Callback = Callable[[Context, int, int, int], object]
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class MonitorFilter:
    """Which packets a socket watches, in pcap-filter(7) syntax; None = all.

    stream_syn_filter     STREAM sockets: evaluated once, on the first SYN of a connection
    stream_orphan_filter  STREAM sockets: which packets of no flow raise MOS_ON_ORPHAN
    raw_pkt_filter        RAW sockets: evaluated on every frame
    """

    stream_syn_filter: str | None = None
    stream_orphan_filter: str | None = None
    raw_pkt_filter: str | None = None


@dataclass(frozen=True)
class MonitorError:
    """What MOS_ON_ERROR is about: reason (MOS_ERR_*), its name and sentence, stream offset and length."""

    reason: int
    name: str
    sentence: str
    offset: int | None
    length: int


class _Process:
    """What mtcp_init() set, for the contexts made later."""

    options: dict[str, Any] | None = None
    source: Source | None = None
    contexts: ClassVar[list[Context]] = []


def mtcp_init(config: str | os.PathLike[str] | None = None, *, source: Source | None = None, **options: Any) -> int:
    """Set the options and the input of the contexts made afterwards.

    `config` is a TOML file with the same names as the keyword options (docs/options.md lists
    them).  `source` is a capture file ("-" = standard input), several of them, or the name of a
    network interface.  Raises ConfigError (a ValueError) or OSError.
    """
    found = _config.read(config) if config is not None else {}
    named = found.pop("source", None)
    source = named if source is None else source
    if source is not None and not isinstance(source, (str, os.PathLike, list, tuple)):
        msg = f"source={source!r}: give a path, a list of paths, or the name of an interface"
        raise TypeError(msg)
    found.update(options)
    _config.make(found)
    _Process.options, _Process.source = found, source
    return 0


def mtcp_destroy() -> int:
    """Destroy the contexts that are left and forget what mtcp_init() set."""
    while _Process.contexts:
        mtcp_destroy_context(_Process.contexts[-1])
    _Process.options = _Process.source = None
    return 0


def mtcp_create_context(core: int = 0) -> Context:
    """Make the context of one core and open its input.

    Everything about it - sockets, filters, callbacks - is set up before mtcp_app_join() runs it.
    The calling thread is not pinned.  Raises OSError (EINVAL: no such core; EACCES: mtcp_init()
    was not called; what opening the source gave).
    """
    if not isinstance(core, int) or not 0 <= core < (os.cpu_count() or 1):
        raise OSError(errno.EINVAL, f"core {core!r}: this machine has cores 0 to {(os.cpu_count() or 1) - 1}")
    if _Process.options is None:
        raise OSError(errno.EACCES, "call mtcp_init() before mtcp_create_context()")
    context = Context(_config.make(_Process.options), core)
    context.log_only = _Process.options.get("on_error") == "log"
    if _Process.source is not None:
        context.open_source(_Process.source)
    _Process.contexts.append(context)
    return context


def _pointer(mctx: Context) -> Any:
    if not isinstance(mctx, Context):
        raise OSError(errno.EACCES, f"{mctx!r} is not a context; mtcp_create_context() makes one")
    if not mctx.pointer:
        raise OSError(errno.EACCES, "this context was destroyed")
    return mctx.pointer


def _whole(name: str, value: Any, bits: int = 63, error: int = errno.EINVAL) -> int:
    """Check an integer argument before cffi sees it."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be an int, not {type(value).__name__}"
        raise TypeError(msg)
    if not -(2**bits) <= value < 2**bits:
        raise OSError(error, f"{name}={value} is out of range")
    return value


def _sock(value: Any) -> int:
    return _whole("sock", value, error=errno.EBADF)


def mtcp_destroy_context(mctx: Context) -> int:
    """End the flows that are left (CONN_END, reason "shutdown") and free the context."""
    check(lib.mos_check(_pointer(mctx), 1), mctx.pointer)
    if mctx in _Process.contexts:
        _Process.contexts.remove(mctx)
    mctx.destroy()
    return 0


def mtcp_app_join(mctx: Context) -> int:
    """Run the context's loop until the input ends; raises what a callback raised.

    After an exception the loop can be joined again: it goes on with the next packet.
    """
    _pointer(mctx)
    mctx.run()
    return 0


def mtcp_stop(mctx: Context) -> int:
    """Ask the loop to end at the next burst: mtcp_app_join() returns.  Allowed in callbacks."""
    lib.mos_stop(_pointer(mctx))
    return 0


def mtcp_socket(mctx: Context, domain: int, type: int, protocol: int = 0) -> int:  # noqa: A002 - the manual's name
    """Make a listening monitor socket.

    domain: AF_INET, AF_INET6 or AF_UNSPEC (both); type: MOS_SOCK_MONITOR_STREAM or
    MOS_SOCK_MONITOR_RAW; protocol is not used.  EAFNOSUPPORT, EINVAL, ENFILE.
    """
    pointer = _pointer(mctx)
    _whole("protocol", protocol)
    rc = lib.mos_socket(pointer, _whole("domain", domain, 31), _whole("type", type, 31))
    return check(rc, pointer)


def mtcp_close(mctx: Context, sock: int) -> int:
    """Close a socket.  A listening one gets no new flows, its flows go on; a flow's gets no more events."""
    pointer = _pointer(mctx)
    return check(lib.mos_close(pointer, _sock(sock)), pointer)


def _expression(expression: str | None) -> Any:
    """Turn a filter text into a C string."""
    if expression is None:
        return ffi.NULL
    if not isinstance(expression, str):
        msg = f"a filter is a str or None, not {type(expression).__name__}"
        raise TypeError(msg)
    if "\0" in expression:
        raise FilterError(errno.EINVAL, f"bad filter {expression!r}: it holds a NUL character")
    return ffi.new("char[]", expression.encode("utf-8", "surrogateescape"))


def mtcp_bind_monitor_filter(mctx: Context, sock: int, ft: MonitorFilter | None) -> int:
    """Say which packets a listening socket watches; flows that exist keep what they have.

    A text that is None removes that filter; ft None changes nothing.  When it fails nothing changes.
    EBADF, ENOPROTOOPT (a filter of the other socket type), FilterError (EINVAL, and a ValueError).
    """
    pointer = _pointer(mctx)
    check(lib.mos_socktype(pointer, _sock(sock)), pointer)
    if ft is None:
        return 0
    if not isinstance(ft, MonitorFilter):
        msg = f"give a MonitorFilter, not {type(ft).__name__}"
        raise TypeError(msg)
    syn, orphan, raw = map(_expression, (ft.stream_syn_filter, ft.stream_orphan_filter, ft.raw_pkt_filter))
    rc = lib.mos_bind_filters(pointer, sock, syn, orphan, raw)
    if rc == -errno.EINVAL:
        raise FilterError(errno.EINVAL, text(lib.mos_error_text(pointer)))
    return check(rc, pointer)


def mtcp_register_callback(mctx: Context, sock: int, event: int, hook: int, cb: Callback | None) -> int:
    """Call cb(mctx, sock, side, event) when the event happens at the hook; None de-registers.

    On a listening socket: for flows opened later.  On a flow's socket: for that flow, from the
    next dispatch.  A second callback replaces the first.  EBADF, EINVAL.
    """
    pointer = _pointer(mctx)
    if cb is not None and not callable(cb):
        msg = f"the callback must be callable or None, not {type(cb).__name__}"
        raise TypeError(msg)
    _whole("event", event)
    if _whole("hook", hook, 32) < 0:
        raise OSError(errno.EINVAL, f"{hook} is not a hook: give MOS_HK_SND, MOS_HK_RCV or MOS_NULL")
    if event < 0:
        raise OSError(errno.EINVAL, f"{event} is not an event (MOS_ON_...)")
    handle = ffi.NULL if cb is None else ffi.cast("void *", id(cb))
    return check(lib.mos_register(pointer, _sock(sock), event, hook, handle), pointer)


def mtcp_getpeername(mctx: Context, sock: int, side: int) -> Any:
    """Give (host, port) of a side; for MOS_SIDE_BOTH ((client), (server)).  EBADF, ENOTCONN, EINVAL."""
    pointer = _pointer(mctx)
    if side == lib.MOS_SIDE_BOTH:
        return mtcp_getpeername(mctx, sock, lib.MOS_SIDE_CLI), mtcp_getpeername(mctx, sock, lib.MOS_SIDE_SVR)
    host, port = ffi.new("char[64]"), ffi.new("uint16_t *")
    check(lib.mos_getpeername(pointer, _sock(sock), _whole("side", side, 31), host, port), pointer)
    return text(host), port[0]


@dataclass(frozen=True)
class BufferInfo:
    """Where a receive buffer stands: stream offsets, 0 = ISN + 1 = sequence number `init_seq`.

    next_byte_expected: readable up to here; last_byte_received: one past the highest stored byte.
    """

    init_seq: int
    last_byte_read: int
    next_byte_expected: int
    last_byte_received: int


def _fragments(side: int) -> Callable[[Any, int], list[tuple[int, int]]]:
    def read(pointer: Any, sock: int) -> list[tuple[int, int]]:
        count = check(lib.mos_getfragments(pointer, sock, side, ffi.NULL, 0), pointer)
        runs = ffi.new("struct mos_fragment[]", max(count, 1))
        check(lib.mos_getfragments(pointer, sock, side, runs, count), pointer)
        return [(run.offset, run.len) for run in runs[0:count]]

    return read


def _buffer_info(side: int) -> Callable[[Any, int], BufferInfo]:
    def read(pointer: Any, sock: int) -> BufferInfo:
        raw = ffi.new("struct mos_buffer_info *")
        check(lib.mos_getbufferinfo(pointer, sock, side, raw), pointer)
        return BufferInfo(raw.init_seq, raw.last_byte_read, raw.next_byte_expected, raw.last_byte_received)

    return read


_BUFFER_OPTIONS: dict[int, Callable[[Any, int], Any]] = {
    lib.MOS_FRAGINFO_CLIBUF: _fragments(lib.MOS_SIDE_CLI),
    lib.MOS_FRAGINFO_SVRBUF: _fragments(lib.MOS_SIDE_SVR),
    lib.MOS_INFO_CLIBUF: _buffer_info(lib.MOS_SIDE_CLI),
    lib.MOS_INFO_SVRBUF: _buffer_info(lib.MOS_SIDE_SVR),
}


def mtcp_getsockopt(mctx: Context, sock: int, level: int, opt: int) -> Any:
    """Read an option of a flow's socket.

    MOS_TCP_STATE_CLI / _SVR: TCP_* (a server stack not seen yet is TCP_LISTEN); MOS_CLIBUF /
    _SVRBUF: bytes; MOS_CLIOVERLAP / _SVROVERLAP: the policy; MOS_TIMESTAMP: time of the last packet
    in ns.  MOS_FRAGINFO_CLIBUF / _SVRBUF: list of (offset, length) of the stored runs of bytes;
    MOS_INFO_CLIBUF / _SVRBUF: a BufferInfo.
    EBADF, ENOTSOCK (a listening socket), ENOSYS, EACCES (this socket does not read that side).
    """
    pointer = _pointer(mctx)
    if level == lib.SOL_MONSOCKET and opt in _BUFFER_OPTIONS:
        return _BUFFER_OPTIONS[opt](pointer, _sock(sock))
    return check(lib.mos_getsockopt(pointer, _sock(sock), _whole("level", level, 31), _whole("opt", opt, 31)), pointer)


def mtcp_setsockopt(mctx: Context, sock: int, level: int, opt: int, value: int) -> int:
    """Set an option of a listening socket (for later flows) or of one flow.

    MOS_CLIBUF / MOS_SVRBUF: bytes kept of what the side receives, 0 = off; MOS_CLIOVERLAP /
    MOS_SVROVERLAP: which copy of a byte is kept; MOS_STOP_MON: a side that is no longer watched.
    """
    pointer = _pointer(mctx)
    rc = lib.mos_setsockopt(
        pointer, _sock(sock), _whole("level", level, 31), _whole("opt", opt, 31), _whole("value", value)
    )
    return check(rc, pointer)


def mtcp_peek(mctx: Context, sock: int, side: int, n: int = -1) -> bytes:
    """Read up to n unread bytes that `side` received (all with n < 0), and move on behind them.

    b"" when nothing is new.  StreamGap (ENODATA, `.missed`) once where bytes were lost; the next
    call goes on behind them.  EACCES when this socket does not read that side.
    """
    pointer = _pointer(mctx)
    missed = ffi.new("uint64_t *")
    there = lib.mos_readable(pointer, _sock(sock), _whole("side", side, 31), missed)
    if there == -errno.ENODATA:
        raise StreamGap(missed[0])
    size = check(there, pointer)
    if n >= 0:
        size = min(size, n)
    if not size:
        return b""
    buf = ffi.new("uint8_t[]", size)
    done = check(lib.mos_peek(pointer, sock, side, buf, size, missed), pointer)
    return bytes(ffi.buffer(buf, done))


def mtcp_ppeek(mctx: Context, sock: int, side: int, n: int, offset: int) -> bytes:
    """Read up to n stored bytes at a stream offset (0 = ISN + 1), also beyond a hole; nothing moves.

    ENODATA when no byte is stored there; EACCES when this socket does not read that side.
    """
    pointer = _pointer(mctx)
    if _whole("offset", offset) < 0 or _whole("n", n) < 0:
        raise OSError(errno.EINVAL, f"n={n}, offset={offset}: give 0 or more")
    buf = ffi.new("uint8_t[]", max(min(n, 1 << 30), 1))
    rc = lib.mos_ppeek(pointer, _sock(sock), _whole("side", side, 31), buf, min(n, 1 << 30), offset)
    return bytes(ffi.buffer(buf, check(rc, pointer)))


def mtcp_getlastpkt(mctx: Context, sock: int, side: int = 0) -> LastPacket:
    """Give the packet at hand.  EACCES where there is none: CONN_END, NEW_DATA at MOS_NULL, timers."""
    _pointer(mctx)
    return LastPacket(mctx, _sock(sock), _whole("side", side, 31))


def mtcp_getlasterror(mctx: Context) -> MonitorError:
    """Give what the MOS_ON_ERROR callback that runs is about; EACCES elsewhere."""
    pointer = _pointer(mctx)
    raw = ffi.new("struct mos_error *")
    check(lib.mos_getlasterror(pointer, raw), pointer)
    return MonitorError(
        reason=raw.reason,
        name=text(lib.mos_error_name(raw.reason)),
        sentence=text(lib.mos_error_sentence(raw.reason)),
        offset=None if raw.offset == 2**64 - 1 else raw.offset,
        length=raw.length,
    )


def mtcp_getfigures(mctx: Context, sock: int) -> _figures.FlowFigures:
    """Give what was measured of a flow so far; works through its CONN_END.  EBADF, ENOTCONN."""
    pointer = _pointer(mctx)
    raw = ffi.new("struct mos_flow_figures *")
    check(lib.mos_getfigures(pointer, _sock(sock), raw), pointer)
    return _figures.from_raw(raw)


def mtcp_getcounters(mctx: Context) -> dict[str, int]:
    """Give what became of every frame, and of every flow, by name; also after mtcp_destroy_context().

    received = delivered + all ignored_* + all dropped_*.
    """
    if not isinstance(mctx, Context):
        raise OSError(errno.EACCES, f"{mctx!r} is not a context; mtcp_create_context() makes one")
    return mctx.counters()


__all__ = [name for name in dir() if name.startswith("mtcp_")] + ["BufferInfo", "MonitorError", "MonitorFilter"]
