"""Run captures through mos and write down what fired."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import packets as p
import pytest

import mos

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
EVENT_NAMES = {
    mos.MOS_ON_PKT_IN: "PKT_IN",
    mos.MOS_ON_CONN_START: "CONN_START",
    mos.MOS_ON_TCP_STATE_CHANGE: "STATE_CHANGE",
    mos.MOS_ON_REXMIT: "REXMIT",
    mos.MOS_ON_CONN_NEW_DATA: "NEW_DATA",
    mos.MOS_ON_ERROR: "ERROR",
    mos.MOS_ON_CONN_END: "CONN_END",
    mos.MOS_ON_ORPHAN: "ORPHAN",
}
HOOK_NAMES = {mos.MOS_HK_SND: "SND", mos.MOS_HK_RCV: "RCV", mos.MOS_NULL: "NULL"}
SIDE_NAMES = {mos.MOS_SIDE_CLI: "CLI", mos.MOS_SIDE_SVR: "SVR", mos.MOS_NULL: "-"}
# Where the specification (section 2) lets a stream socket register what.
STREAM_EVENTS = {
    mos.MOS_HK_SND: ("PKT_IN", "CONN_START", "STATE_CHANGE", "REXMIT", "CONN_END"),
    mos.MOS_HK_RCV: ("PKT_IN", "CONN_START", "STATE_CHANGE", "REXMIT", "NEW_DATA", "ERROR", "CONN_END"),
    mos.MOS_NULL: ("NEW_DATA", "ERROR"),
}
RAW_EVENTS = {mos.MOS_NULL: ("PKT_IN", "ORPHAN")}
EVENT_NUMBERS = {name: number for number, name in EVENT_NAMES.items()}
CONN_END_ORDER = ("RCV CLI CONN_END", "SND CLI CONN_END", "RCV SVR CONN_END", "SND SVR CONN_END")

Packets = Iterable[tuple[int, bytes]]
Reaction = Callable[["Event", int], object]


class Event(NamedTuple):
    """One callback: the packet's number (0: none at hand), the listening socket, the flow (0: none), and where."""

    packet: int
    socket: int
    flow: int
    hook: str
    side: str
    name: str

    @property
    def text(self) -> str:
        """Hook, side and event as one line."""
        return f"{self.hook} {self.side} {self.name}"


def corpus(*parts: str) -> Path:
    """Give a path in the shared captures (MOS_CORPUS, or ../shared/corpus); skips the test when they are absent."""
    folder = Path(os.environ.get("MOS_CORPUS") or ROOT.parent / "shared" / "corpus")
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip(f"no shared captures in {folder} (set MOS_CORPUS)", allow_module_level=True)
    return folder.joinpath(*parts)


def write(path: Path, frames: Packets, **options: int) -> Path:
    """Write a capture, nanosecond variant."""
    path.write_bytes(p.pcap(frames, nanoseconds=True, **options))
    return path


def merged(*talks: Packets) -> list[tuple[int, bytes]]:
    """Put several conversations in one capture, by time."""
    return sorted((frame for talk in talks for frame in talk), key=lambda frame: frame[0])


@contextmanager
def monitor(source: Path | str | list[Path], **options: object) -> Iterator[mos.Context]:
    """Give a context on captures; everything is destroyed at the end."""
    mos.mtcp_init(source=source, **options)
    try:
        yield mos.mtcp_create_context(0)
    finally:
        mos.mtcp_destroy()


def packet_number(m: mos.Context, sock: int, side: int = 0) -> int:
    """Number of the packet at hand, 0 when there is none."""
    try:
        return int(mos.mtcp_getlastpkt(m, sock, side).number)
    except PermissionError:
        return 0


class Log:
    """Writes down every callback of the sockets it opened; `reaction` is called with each event."""

    def __init__(self, m: mos.Context, reaction: Reaction | None = None) -> None:
        self.m, self.reaction = m, reaction
        self.events: list[Event] = []

    def listen(
        self,
        syn: str | None = None,
        *,
        domain: int = socket.AF_UNSPEC,
        wanted: Mapping[int, Iterable[str]] = STREAM_EVENTS,
    ) -> int:
        """Open a stream socket that logs the wanted events of each hook."""
        sock = mos.mtcp_socket(self.m, domain, mos.MOS_SOCK_MONITOR_STREAM, 0)
        mos.mtcp_bind_monitor_filter(self.m, sock, mos.MonitorFilter(stream_syn_filter=syn))
        return self.register(sock, wanted)

    def listen_raw(
        self, text: str | None = None, *, domain: int = socket.AF_UNSPEC, wanted: Iterable[str] = ("PKT_IN", "ORPHAN")
    ) -> int:
        """Open a raw socket that logs."""
        sock = mos.mtcp_socket(self.m, domain, mos.MOS_SOCK_MONITOR_RAW, 0)
        if text is not None:
            mos.mtcp_bind_monitor_filter(self.m, sock, mos.MonitorFilter(raw_pkt_filter=text))
        return self.register(sock, {mos.MOS_NULL: wanted})

    def register(self, sock: int, wanted: Mapping[int, Iterable[str]], label: int = 0) -> int:
        """Log events of a socket; `label` names it in the events (default: its own number)."""
        for hook, names in wanted.items():
            for name in names:
                callback = self.callback(hook, label or sock)
                mos.mtcp_register_callback(self.m, sock, EVENT_NUMBERS[name], hook, callback)
        return sock

    def callback(self, hook: int, listening: int) -> Callable[[mos.Context, int, int, int], None]:
        """Make a callback that knows where it was registered."""

        def record(m: mos.Context, sock: int, side: int, number: int) -> None:
            flow = 0 if side == mos.MOS_NULL else mos.mtcp_getfigures(m, sock).flow_id
            at = packet_number(m, sock)
            event = Event(at, listening, flow, HOOK_NAMES[hook], SIDE_NAMES[side], EVENT_NAMES[number])
            self.events.append(event)
            if self.reaction:
                self.reaction(event, sock)

        return record

    def texts(self, **where: object) -> list[str]:
        """Events that fit, as lines: texts(packet=3, socket=1)."""
        return [e.text for e in self.events if all(getattr(e, name) == value for name, value in where.items())]


class Run(NamedTuple):
    """What a whole run gave."""

    events: list[Event]
    counters: dict[str, int]

    def texts(self, **where: object) -> list[str]:
        """Events that fit, as lines."""
        return [e.text for e in self.events if all(getattr(e, name) == value for name, value in where.items())]


def run(source: Path | str, setup: Callable[[Log], object] = Log.listen, **options: object) -> Run:
    """Run a capture to its end with the sockets that `setup` opens; checks what must hold for every run."""
    with monitor(source, **options) as m:
        log = Log(m)
        setup(log)
        mos.mtcp_app_join(m)
    counters = mos.mtcp_getcounters(m)
    check_counters(counters)
    return Run(log.events, counters)


END_REASONS = ("fin", "rst", "timeout", "port_reuse", "evicted", "eof", "shutdown")


def check_counters(counters: dict[str, int]) -> None:
    """The two identities of the specification (section 7)."""
    gone = sum(value for name, value in counters.items() if name.startswith(("ignored_", "dropped_")))
    assert counters["received"] == counters["delivered"] + gone
    kinds = ("flow", "late", "orphan_tcp", "orphan_other")
    assert counters["delivered"] == sum(counters[f"delivered_{kind}"] for kind in kinds)
    ended = sum(counters[f"flows_{reason}"] for reason in END_REASONS)
    assert counters["flows_created"] == counters["flows_live"] + ended


def objects_alive() -> dict[str, int]:
    """What the core still holds, by kind; all 0 when every context was destroyed."""
    from mos._ffi import ffi, lib

    live = ffi.new("struct mos_live_objects *")
    lib.mos_live(live)
    return {name: int(getattr(live, name)) for name, _ in ffi.typeof(live[0]).fields}
