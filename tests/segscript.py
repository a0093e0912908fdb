"""Conversation scripts: packetdrill's idea for an observer who sits between two hosts.

A `.seg` file says which segments pass the monitor, when, and which callbacks each of them causes.
This module reads the file (`parse`), makes a capture of it (`write_capture`), runs mos on the capture through
its public interface (`run`) and compares what fired with what the file expects (`check`).
The language is described in docs/testing.md.
"""

from __future__ import annotations

import ast
import difflib
import ipaddress
import re
import socket
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

EPOCH_NS = 1_700_000_000 * 10**9  # capture time of second 0 of every script
SEQ_MODULUS = 1 << 32
STATES = (
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
)
CLASSES = (
    "normal",
    "zero_window_probe",
    "keep_alive",
    "spurious_retransmission",
    "fast_retransmission",
    "retransmission",
    "out_of_order",
    "unseen_retransmission",
)
# Event name in scripts -> (name in the API, how many details an expectation must give).
EVENTS = {
    "PKT_IN": ("MOS_ON_PKT_IN", 0),
    "CONN_START": ("MOS_ON_CONN_START", 0),
    "STATE_CHANGE": ("MOS_ON_TCP_STATE_CHANGE", 1),
    "REXMIT": ("MOS_ON_REXMIT", 1),
    "NEW_DATA": ("MOS_ON_CONN_NEW_DATA", 0),
    "ERROR": ("MOS_ON_ERROR", 1),
    "CONN_END": ("MOS_ON_CONN_END", 1),
}
# Where spec section 2 allows which event.
HOOKS = {
    "SND": ("PKT_IN", "CONN_START", "STATE_CHANGE", "REXMIT", "CONN_END"),
    "RCV": ("PKT_IN", "CONN_START", "STATE_CHANGE", "REXMIT", "NEW_DATA", "ERROR", "CONN_END"),
    "NULL": ("NEW_DATA", "ERROR"),
}
HOOK_NAMES = {"SND": "MOS_HK_SND", "RCV": "MOS_HK_RCV", "NULL": "MOS_NULL"}
FLAG_BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "W": 128}
END_REASONS = ("fin", "rst", "timeout", "port_reuse", "evicted", "eof", "shutdown")
CONN_END_ORDER = ("RCV CLI", "SND CLI", "RCV SVR", "SND SVR")
PEER = {"C": "S", "S": "C"}
CLIENT_SENT = (("SND", "CLI"), ("RCV", "SVR"))
TIME_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


class ScriptError(ValueError):
    """A script that cannot be understood; the text starts with file:line."""


# ---- what a script is made of ---------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One callback, expected or seen.  In an expectation "*" matches anything."""

    socket: str  # number of the listening socket
    flow: str  # number of the flow as that socket sees them; "-": the listening socket itself
    hook: str
    side: str
    name: str
    details: tuple[str, ...] = ()
    line: int = 0  # expected: where in the script
    step: int = 0  # the step it belongs to; len(steps) for "expect end"
    exact: bool = True  # seen: there was a packet at hand, so `step` is certain; else the step seen last
    states: tuple[str, str] | None = None

    def text(self) -> str:
        """The event as a script would write it."""
        labels = [f"s{self.socket}"] * (self.socket != "1") + [f"#{self.flow}"] * (self.flow not in ("1", "-"))
        return " ".join((*labels, self.hook, self.side, self.name, *self.details))

    def matches(self, seen: Event) -> bool:
        """Whether `seen` satisfies this expectation; details not given are not compared."""
        mine = (self.socket, self.flow, self.hook, self.side, self.name, *self.details)
        other = (seen.socket, seen.flow, seen.hook, seen.side, seen.name, *seen.details)
        return len(other) >= len(mine) and all(a in ("*", b) for a, b in zip(mine, other, strict=False))


@dataclass
class Step:
    """One frame of the capture and what it must cause.  `host` is "C", "S", or "" for a tick (a UDP frame)."""

    line: int
    text: str
    time_ns: int
    conn: int
    host: str = ""
    flags: str = ""
    seq: int = 0
    ack: int = 0
    isn: tuple[int, int] = (0, 0)  # of the sender, of its peer
    window: int = 65535
    options: bytes = b""
    sack: tuple[tuple[int, int], ...] = ()
    payload: bytes = b""
    expected: list[Event] = field(default_factory=list)
    states: str = ""
    segment_class: str = ""


@dataclass
class Script:
    """A parsed file."""

    path: Path
    claim: str
    options: dict[str, Any] = field(default_factory=dict)
    sockets: list[tuple[str, str | None]] = field(default_factory=list)  # (domain, SYN filter)
    ipv6: bool = False
    reader: str = "RCV"
    shown: set[str] = field(default_factory=lambda: set(EVENTS) - {"PKT_IN"})
    steps: list[Step] = field(default_factory=list)
    at_end: list[Event] = field(default_factory=list)
    figures: list[tuple[int, str, str, dict[str, str]]] = field(default_factory=list)  # line, flow, scope, values
    streams: list[tuple[int, str, str, list[str]]] = field(default_factory=list)  # line, flow, direction, items
    counts: list[tuple[Event, int]] = field(default_factory=list)
    counters: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # line, values


@dataclass
class Result:
    """What a run gave."""

    events: list[Event] = field(default_factory=list)
    classes: dict[int, str] = field(default_factory=dict)  # step -> segment class
    states: dict[int, str] = field(default_factory=dict)  # step -> states after it
    figures: dict[str, Any] = field(default_factory=dict)  # flow -> figures at CONN_END
    streams: dict[tuple[str, str], list[bytes | int]] = field(default_factory=dict)  # bytes, or the length of a gap
    counters: dict[str, int] = field(default_factory=dict)  # of the context, after the run


def pattern(direction: str, start: int, end: int) -> bytes:
    """Payload for sequence numbers start..end-1 after the ISN: printable, different for the two directions."""
    salt = 0 if direction == "c2s" else 41
    return bytes(33 + (i * 7 + (i >> 6) * 5 + salt) % 94 for i in range(start, end))


# ---- parser ---------------------------------------------------------------------------------

PACKET = re.compile(r"(\+?)(\d+(?:\.\d+)?) +([CS]) > ([FSRPAUEW]+) +(\d+):(\d+)\((\d+)\)(.*)")
EXTRA = re.compile(r'\s*(?:ack (?P<ack>\d+)|win (?P<win>\d+)|<(?P<options>[^>]*)>|data "(?P<data>[^"]*)")')
OPTIONS: dict[str, Callable[[list[str]], bytes]] = {
    "mss": lambda values: struct.pack("!BBH", 2, 4, int(values[0])),
    "wscale": lambda values: struct.pack("!BBB", 3, 3, int(values[0])),
    "sackOK": lambda _values: b"\x04\x02",
    "nop": lambda _values: b"\x01",
    "TS": lambda values: struct.pack("!BBII", 8, 10, int(values[0]), int(values[1])),
    "hex": lambda values: bytes.fromhex(values[0]),
}
LABELS = re.compile(r"(?:s(\d+|\*) +)?(?:#(\d+|\*) +)?(.*)")
COMMENT = re.compile(r"\s*#(?!\d)|\s*$")


class Parser:
    """Line by line; `self.line` is where we are, for error texts."""

    def __init__(self, path: Path, text: str) -> None:
        self.line = 1
        lines = text.splitlines()
        if not lines or not lines[0].startswith("# "):
            self.script = Script(path, "")
            self.fail("the first line must be the claim: '# <one sentence>'")
        self.script = Script(path, lines[0][2:].strip())
        self.lines = lines
        self.isn = {"C": 1_000_000, "S": 5_000_000}
        self.conn = self.flow = 1
        self.target: list[Event] | None = None  # where indented lines go

    def fail(self, why: str) -> NoReturn:
        """Stop with file:line."""
        raise ScriptError(f"{self.script.path}:{self.line}: {why}")

    def parse(self) -> Script:
        """The whole file."""
        for number, raw in enumerate(self.lines[1:], start=2):
            self.line = number
            if COMMENT.match(raw):
                continue
            text = raw.split(" # ")[0].rstrip()
            if text[0].isspace():
                self.expectation(text.strip())
            elif text[0].isdigit() or text[0] == "+":
                self.timed(text)
            else:
                self.directive(text)
        self.script.sockets = self.script.sockets or [("inet6" if self.script.ipv6 else "inet", None)]
        return self.script

    def directive(self, text: str) -> None:
        """A line that starts with a word."""
        word, _, rest = text.partition(" ")
        method = getattr(self, "do_" + word, None)
        if method is None:
            known = ", ".join(sorted(name[3:] for name in dir(self) if name.startswith("do_")))
            self.fail(f"unknown directive '{word}'; known: {known}")
        self.target = None
        method(rest.strip())

    def do_option(self, rest: str) -> None:
        """option name=value ..."""
        for item in rest.split():
            name, equals, value = item.partition("=")
            if not equals:
                self.fail(f"'{item}' is not name=value")
            self.script.options[name] = ast.literal_eval(value)

    def do_socket(self, rest: str) -> None:
        """socket [inet|inet6|unspec] ["SYN filter"]."""
        match = re.fullmatch(r'(inet6?|unspec)?\s*(?:"([^"]*)")?', rest)
        if match is None:
            self.fail(f"cannot read socket '{rest}'")
        self.script.sockets.append((match[1] or ("inet6" if self.script.ipv6 else "inet"), match[2]))

    def do_ipv6(self, _rest: str) -> None:
        """ipv6."""
        self.script.ipv6 = True

    def do_reader(self, rest: str) -> None:
        """reader RCV|NULL: the hook that peeks."""
        self.script.reader = rest

    def do_show(self, rest: str) -> None:
        """show EVENT ..."""
        self.script.shown |= set(self.event_names(rest))

    def do_hide(self, rest: str) -> None:
        """hide EVENT ..."""
        self.script.shown -= set(self.event_names(rest))

    def event_names(self, rest: str) -> list[str]:
        """Event names of a list."""
        for name in rest.split():
            if name not in EVENTS:
                self.fail(f"unknown event '{name}'; known: {', '.join(EVENTS)}")
        return rest.split()

    def do_isn(self, rest: str) -> None:
        """isn cli|svr N, from here on."""
        match = re.fullmatch(r"(cli|svr) (\d+)", rest)
        if match is None:
            self.fail("expected 'isn cli N' or 'isn svr N'")
        self.isn["C" if match[1] == "cli" else "S"] = int(match[2])

    def do_conn(self, rest: str) -> None:
        """conn N: another client port; flow N is the default label."""
        self.conn = self.flow = int(rest)

    def do_flow(self, rest: str) -> None:
        """flow N: default label of the expectations from here on."""
        self.flow = int(rest)

    def do_expect(self, rest: str) -> None:
        """expect (after a packet) or expect end."""
        if rest == "end":
            self.target = self.script.at_end
        elif rest or not self.script.steps:
            self.fail("'expect' stands alone after a packet; the only other form is 'expect end'")
        else:
            self.target = self.script.steps[-1].expected

    def do_states(self, rest: str) -> None:
        """states CLI/SVR after the last packet."""
        self.check_states(rest)
        self.last_packet().states = rest

    def do_class(self, rest: str) -> None:
        """class NAME of the last packet."""
        if rest not in CLASSES:
            self.fail(f"unknown segment class '{rest}'; known: {', '.join(CLASSES)}")
        self.last_packet().segment_class = rest

    def last_packet(self) -> Step:
        """The step a check is about."""
        if not self.script.steps or not self.script.steps[-1].host:
            self.fail("there is no packet before this line")
        return self.script.steps[-1]

    def do_figures(self, rest: str) -> None:
        """figures [#N] c2s|s2c|flow name=value ..."""
        flow, items = self.labelled(rest)
        if len(items) < 2 or items[0] not in ("c2s", "s2c", "flow") or not all("=" in item for item in items[1:]):
            self.fail("expected 'figures c2s|s2c|flow name=value ...'")
        self.script.figures.append((self.line, flow, items[0], dict(item.split("=", 1) for item in items[1:])))

    def do_stream(self, rest: str) -> None:
        """stream [#N] c2s|s2c [A:B | gap(N) | "text"] ..."""
        flow, _ = self.labelled(rest)
        items = re.findall(r'"[^"]*"|[^\s"]+', LABELS.match(rest)[3])  # type: ignore[index]
        if not items or items[0] not in ("c2s", "s2c"):
            self.fail("expected 'stream c2s|s2c items'")
        for item in items[1:]:
            if not re.fullmatch(r'\d+:\d+|gap\(\d+\)|"[^"]*"', item):
                self.fail(f"cannot read stream item '{item}'")
        self.script.streams.append((self.line, flow, items[0], items[1:]))

    def do_count(self, rest: str) -> None:
        """count HOOK SIDE EVENT [details] = N."""
        text, equals, number = rest.rpartition(" = ")
        if not equals or not number.isdigit():
            self.fail("expected 'count HOOK SIDE EVENT [details] = N'")
        self.script.counts.append((self.event(text, lenient=True), int(number)))

    def do_counters(self, rest: str) -> None:
        """Counters name=value ... of the context after the run."""
        if not rest or not all(re.fullmatch(r"\w+=\d+", item) for item in rest.split()):
            self.fail("expected 'counters name=value ...'")
        values = dict(item.split("=") for item in rest.split())
        self.script.counters.append((self.line, values))

    def labelled(self, rest: str) -> tuple[str, list[str]]:
        """Flow number and words of a line that may start with #N."""
        match = LABELS.match(rest)
        assert match is not None
        return match[2] or str(self.flow), match[3].split()

    # -- expectations

    def expectation(self, text: str) -> None:
        """An indented line."""
        if self.target is None:
            self.fail("an indented line must follow 'expect'")
        match = re.fullmatch(r"((?:s\d+ +)?(?:#\d+ +)?)ALL (CONN_END .*)", text)
        if match:
            self.target.extend(self.event(f"{match[1]}{where} {match[2]}") for where in CONN_END_ORDER)
        else:
            self.target.append(self.event(text))

    def event(self, text: str, *, lenient: bool = False) -> Event:
        """One `[sN] [#N] HOOK SIDE EVENT details`."""
        match = LABELS.match(text)
        assert match is not None
        words = match[3].split()
        if len(words) < 3:
            self.fail(f"expected 'HOOK SIDE EVENT [details]', got '{text}'")
        hook, side, name, *details = words
        if name not in EVENTS:
            self.fail(f"unknown event '{name}'; known: {', '.join(EVENTS)}")
        if hook != "*" and name not in HOOKS.get(hook, ()):
            self.fail(f"{name} never fires at hook '{hook}'")
        if side not in ("CLI", "SVR", "-", "*"):
            self.fail(f"unknown side '{side}'; known: CLI, SVR, - (none)")
        if not lenient:
            self.check_details(hook, name, details)
        flow = "-" if side == "-" else match[2] or str(self.flow)
        step = len(self.script.steps) - (self.target is not self.script.at_end)
        return Event(match[1] or "1", flow, hook, side, name, tuple(details), self.line, step)

    def check_details(self, hook: str, name: str, details: list[str]) -> None:
        """The details without which an expectation would say too little, and their spelling."""
        need = 1 if (hook, name) == (self.script.reader, "NEW_DATA") else EVENTS[name][1]
        if len(details) < need:
            self.fail(f"{name} at {hook} needs {need} detail(s), e.g. the states, class, length or reason")
        for detail in details:
            if "/" in detail:
                self.check_states(detail)
        if name == "REXMIT" and details[0] not in CLASSES:
            self.fail(f"unknown segment class '{details[0]}'; known: {', '.join(CLASSES)}")

    def check_states(self, text: str) -> None:
        """CLI/SVR, both known."""
        names = text.split("/")
        if len(names) != 2 or any(name not in STATES for name in names):
            self.fail(f"'{text}' is not CLIENT/SERVER with states of RFC 9293")

    # -- packets

    def timed(self, text: str) -> None:
        """A line that starts with a time."""
        self.target = None
        match = re.fullmatch(r"(\+?)(\d+(?:\.\d+)?) +(tick|handshake)", text)
        if match and match[3] == "tick":
            self.script.steps.append(Step(self.line, text, self.time(match[1], match[2]), self.conn))
        elif match:
            self.handshake(self.time(match[1], match[2]))
        else:
            self.packet(text)

    def time(self, plus: str, number: str) -> int:
        """Nanoseconds; must grow from line to line."""
        steps = self.script.steps
        time_ns = round(float(number) * 10**9) + (steps[-1].time_ns if plus and steps else 0)
        if steps and time_ns <= steps[-1].time_ns:
            self.fail(f"time {number} is not after the line before")
        return time_ns

    def handshake(self, time_ns: int) -> None:
        """The three packets of a handshake, 10 ms apart, with the callbacks of the reference trace."""
        at = [f"{(time_ns + i * 10**7) / 10**9:.6f}" for i in range(3)]
        events = (
            (
                "SND CLI CONN_START",
                "SND CLI STATE_CHANGE SYN_SENT/LISTEN",
                "RCV SVR CONN_START",
                "RCV SVR STATE_CHANGE SYN_SENT/SYN_RCVD",
            ),
            ("RCV CLI STATE_CHANGE ESTABLISHED/SYN_RCVD",),
            ("RCV SVR STATE_CHANGE ESTABLISHED/ESTABLISHED",),
        )
        packets = ("C > S 0:0(0)", "S > SA 0:0(0) ack 1", "C > A 1:1(0) ack 1")
        for when, packet, expected in zip(at, packets, events, strict=True):
            self.packet(f"{when} {packet}")
            self.target = self.script.steps[-1].expected
            self.target.extend(self.event(text) for text in expected)
        self.target = None

    def packet(self, text: str) -> None:
        """TIME HOST > FLAGS SEQ:END(LEN) [ack N] [win N] [<options>] [data "text"]."""
        match = PACKET.fullmatch(text)
        if match is None:
            self.fail("cannot read this as 'TIME C|S > FLAGS SEQ:END(LEN) [ack N] [win N] [<options>] [data \"text\"]'")
        plus, number, host, flags, first, end, length, rest = match.groups()
        if int(end) - int(first) != int(length):
            self.fail(f"{first}:{end} is not {length} bytes")
        extras = self.extras(rest)
        if ("A" in flags) != ("ack" in extras):
            self.fail("flag A needs 'ack N', and 'ack N' needs flag A")
        peer = PEER[host]
        step = Step(
            self.line,
            text,
            self.time(plus, number),
            self.conn,
            host,
            flags,
            int(first),
            int(extras.get("ack", 0)),
            (self.isn[host], self.isn[peer]),
            int(extras.get("win", 65535)),
        )
        offset = int(first) + ("S" in flags)  # the first byte follows the SYN
        step.payload = pattern("c2s" if host == "C" else "s2c", offset, offset + int(length))
        if "data" in extras:
            step.payload = extras["data"].encode()
            if len(step.payload) != int(length):
                self.fail(f"data has {len(step.payload)} bytes, {first}:{end} has {length}")
        for item in filter(None, (part.strip() for part in extras.get("options", "").split(","))):
            self.option(step, item)
        self.script.steps.append(step)

    def extras(self, rest: str) -> dict[str, str]:
        """What follows the sequence numbers."""
        found: dict[str, str] = {}
        position = 0
        while rest[position:].strip():
            match = EXTRA.match(rest, position)
            if match is None:
                self.fail(f"cannot read '{rest[position:].strip()}'; known: ack N, win N, <options>, data \"text\"")
            found.update({name: value for name, value in match.groupdict().items() if value is not None})
            position = match.end()
        return found

    def option(self, step: Step, item: str) -> None:
        """One TCP option."""
        name, *values = item.split()
        try:
            if name == "sack":
                pairs = [pair.split(":") for pair in values]
                step.sack = tuple((int(a), int(b)) for a, b in pairs)
                return
            step.options += OPTIONS[name](values)
        except (KeyError, IndexError, ValueError, struct.error):
            known = "mss N, wscale N, sackOK, TS VAL ECR, sack A:B ..., nop, hex XX"
            self.fail(f"cannot read option '{item}'; known: {known}")


def parse(path: Path) -> Script:
    """Read a script; ScriptError says file:line."""
    return Parser(path, path.read_text(encoding="utf-8")).parse()


# ---- capture --------------------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """Internet checksum, RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_frame(protocol: int, body: bytes, checksum_at: int, *, from_client: bool, ipv6: bool) -> bytes:
    """Ethernet + IP around a TCP segment or UDP datagram, whose checksum is put at `checksum_at`."""
    names = ("2001:db8::1", "2001:db8::2") if ipv6 else ("192.0.2.1", "198.51.100.2")
    hosts = [ipaddress.ip_address(name).packed for name in names]
    source, target = hosts if from_client else hosts[::-1]
    pseudo = (
        source
        + target
        + (struct.pack("!IHBB", len(body), 0, 0, protocol) if ipv6 else struct.pack("!BBH", 0, protocol, len(body)))
    )
    value = checksum(pseudo + body) or (0xFFFF if protocol == socket.IPPROTO_UDP else 0)
    body = body[:checksum_at] + struct.pack("!H", value) + body[checksum_at + 2 :]
    macs = [b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"]
    if ipv6:
        header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + target
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0) + source + target
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    link = (macs[1] + macs[0] if from_client else macs[0] + macs[1]) + (b"\x86\xdd" if ipv6 else b"\x08\0")
    return link + header + body


def frame(step: Step, *, ipv6: bool, isn_shift: int) -> bytes:
    """The bytes of one step."""
    if not step.host:
        return ip_frame(17, struct.pack("!HHHH", 9, 9, 12, 0) + b"tick", 6, from_client=True, ipv6=ipv6)
    ports = (40000 + step.conn, 80) if step.host == "C" else (80, 40000 + step.conn)
    mine, peer = (isn + isn_shift for isn in step.isn)
    options = step.options
    if step.sack:
        edges = [(edge + peer) % SEQ_MODULUS for pair in step.sack for edge in pair]
        options += struct.pack(f"!BB{len(edges)}I", 5, 2 + 4 * len(edges), *edges)
    options += b"\x01" * (-len(options) % 4)
    ack = (step.ack + peer) % SEQ_MODULUS if "A" in step.flags else 0
    header = struct.pack(
        "!HHIIBBHHH",
        *ports,
        (step.seq + mine) % SEQ_MODULUS,
        ack,
        (20 + len(options)) << 2,
        sum(FLAG_BITS[flag] for flag in step.flags),
        step.window,
        0,
        0,
    )
    return ip_frame(6, header + options + step.payload, 16, from_client=step.host == "C", ipv6=ipv6)


def write_capture(script: Script, path: Path, *, ipv6: bool = False, isn_shift: int = 0) -> None:
    """A pcap file, nanosecond variant, Ethernet."""
    chunks = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    for step in script.steps:
        data = frame(step, ipv6=ipv6 or script.ipv6, isn_shift=isn_shift)
        seconds, rest = divmod(EPOCH_NS + step.time_ns, 10**9)
        chunks += [struct.pack("<IIII", seconds, rest, len(data), len(data)), data]
    path.write_bytes(b"".join(chunks))


# ---- runner ---------------------------------------------------------------------------------


class Recorder:
    """Registers a callback for every event at every hook that allows it and writes down what fires."""

    def __init__(self, mos: ModuleType, context: object, script: Script) -> None:
        self.mos, self.context, self.script = mos, context, script
        self.result = Result()
        self.by_time = {EPOCH_NS + step.time_ns: index for index, step in enumerate(script.steps)}
        self.ticks = [index for index, step in enumerate(script.steps) if not step.host]
        self.current = -1  # the step last seen
        self.flows: list[dict[int, str]] = [{} for _ in script.sockets]
        self.state_names = {int(getattr(mos, "TCP_" + name)): name for name in STATES}
        self.class_names = {int(getattr(mos, "MOS_SEG_" + name.upper())): name for name in CLASSES}
        self.sides = {int(mos.MOS_SIDE_CLI): "CLI", int(mos.MOS_SIDE_SVR): "SVR", int(mos.MOS_NULL): "-"}

    def listen(self, *, ipv6: bool) -> None:
        """One stream socket per `socket` line, and a raw one that sees the ticks."""
        mos = self.mos
        domains = {"inet": socket.AF_INET, "inet6": socket.AF_INET6, "unspec": socket.AF_UNSPEC}
        for number, (domain, text) in enumerate(self.script.sockets):
            family = socket.AF_INET6 if ipv6 and domain == "inet" else domains[domain]
            sock = mos.mtcp_socket(self.context, family, mos.MOS_SOCK_MONITOR_STREAM, 0)
            if text is not None:
                mos.mtcp_bind_monitor_filter(self.context, sock, mos.MonitorFilter(stream_syn_filter=text))
            for hook, names in HOOKS.items():
                for name in names:
                    mos.mtcp_register_callback(
                        self.context,
                        sock,
                        getattr(mos, EVENTS[name][0]),
                        getattr(mos, HOOK_NAMES[hook]),
                        self.callback(number, hook, name),
                    )
        if self.ticks:
            raw = mos.mtcp_socket(self.context, socket.AF_UNSPEC, mos.MOS_SOCK_MONITOR_RAW, 0)
            mos.mtcp_bind_monitor_filter(self.context, raw, mos.MonitorFilter(raw_pkt_filter="udp"))
            mos.mtcp_register_callback(self.context, raw, mos.MOS_ON_PKT_IN, mos.MOS_NULL, self.on_tick)

    def on_tick(self, *_args: object) -> None:
        """A UDP frame passed."""
        self.current = self.ticks.pop(0)

    def callback(self, number: int, hook: str, name: str) -> Callable[[object, int, int, int], None]:
        """A callback that knows where it was registered."""

        def record(_context: object, sock: int, side: int, _event: int) -> None:
            self.record(number, hook, name, sock, side)

        return record

    def record(self, number: int, hook: str, name: str, sock: int, side: int) -> None:
        """One callback -> one Event."""
        where = self.sides[int(side)]
        flow, states = "-", None
        exact = where != "-" and hook != "NULL" and name != "CONN_END"
        if where != "-":
            flow = self.flows[number].setdefault(sock, str(len(self.flows[number]) + 1))
            states = (self.state(sock, "CLI"), self.state(sock, "SVR"))
        if exact:
            try:
                self.current = self.by_time[self.mos.mtcp_getlastpkt(self.context, sock, side).time_ns]
            except PermissionError:  # EACCES: a timer; a hole that is given up may deliver and change states
                exact = False
        details = self.details(hook, name, sock, side, flow)
        if states and name in ("CONN_START", "STATE_CHANGE", "CONN_END"):
            details += ("/".join(states),)
        if states and exact:
            self.result.states[self.current] = "/".join(states)
        event = Event(str(number + 1), flow, hook, where, name, details, 0, self.current, exact, states)
        self.result.events.append(event)

    def state(self, sock: int, side: str) -> str:
        """Name of a side's state."""
        option = getattr(self.mos, "MOS_TCP_STATE_" + side)
        return self.state_names[int(self.mos.mtcp_getsockopt(self.context, sock, self.mos.SOL_MONSOCKET, option))]

    def details(self, hook: str, name: str, sock: int, side: int, flow: str) -> tuple[str, ...]:
        """What a callback can read about its event."""
        if name == "ERROR":
            error = self.mos.mtcp_getlasterror(self.context)
            return (error.name, str(error.offset), str(error.length))
        if name in ("PKT_IN", "REXMIT"):
            packet = self.mos.mtcp_getlastpkt(self.context, sock, side)
            self.result.classes[self.by_time[packet.time_ns]] = self.class_names[int(packet.segment_class)]
            return (self.class_names[int(packet.segment_class)],)
        if name == "NEW_DATA":
            length = self.read(sock, side, flow) if hook in (self.script.reader, "NULL") else 0
            return (str(length),) if hook == self.script.reader else ()
        if name == "CONN_END":
            self.result.figures[flow] = figures = self.mos.mtcp_getfigures(self.context, sock)
            return (figures.end_reason,)
        return ()

    def read(self, sock: int, side: int, flow: str) -> int:
        """Everything that is new for this side; gaps are noted in the stream."""
        stream = self.result.streams.setdefault((flow, "s2c" if self.sides[int(side)] == "CLI" else "c2s"), [])
        total = 0
        while True:
            try:
                data = self.mos.mtcp_peek(self.context, sock, side, 65536)
            except self.mos.StreamGap as gap:
                stream.append(gap.missed)
                continue
            if not data:
                return total
            total += len(data)
            stream.append(bytes(data))


def run(script: Script, *, burst: int = 1, ipv6: bool = False, isn_shift: int = 0) -> Result:
    """Run mos on the script's capture, in this process."""
    import mos

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.pcap"
        write_capture(script, path, ipv6=ipv6, isn_shift=isn_shift)
        mos.mtcp_init(None, source=str(path), burst=burst, **script.options)
        try:
            context = mos.mtcp_create_context(0)
            recorder = Recorder(mos, context, script)
            recorder.listen(ipv6=ipv6 or script.ipv6)
            mos.mtcp_app_join(context)
            mos.mtcp_destroy_context(context)
            recorder.result.counters = mos.mtcp_getcounters(context)
        finally:
            mos.mtcp_destroy()
    return recorder.result


# ---- comparison -----------------------------------------------------------------------------


def check(script: Script, result: Result, *, burst: int = 1) -> list[str]:
    """What is wrong, as readable paragraphs; empty when everything is as the script says."""
    skip = {("NULL", "NEW_DATA")} if burst > 1 else set()  # grouped by burst: only burst=1 puts it after its packet
    expected = [event for step in script.steps for event in step.expected] + script.at_end
    expected = [event for event in expected if (event.hook, event.name) not in skip]
    seen = [event for event in result.events if event.name in script.shown and (event.hook, event.name) not in skip]
    problems = []
    if len(expected) != len(seen) or not all(fits(script, *pair) for pair in zip(expected, seen, strict=True)):
        problems.append(difference(script, expected, seen))
    for step, found in enumerate(script.steps):
        for what, want, have in (
            ("class", found.segment_class, result.classes.get(step)),
            ("states", found.states, result.states.get(step)),
        ):
            if want and want != have:
                problems.append(f"{script.path}:{found.line}: {what}: expected {want}, got {have}\n    {found.text}")
    for event, number in script.counts:
        times = sum(event.matches(other) for other in result.events)
        if times != number:
            problems.append(f"{script.path}:{event.line}: expected {number} x '{event.text()}', got {times}")
    return problems + check_streams(script, result) + check_figures(script, result) + check_counters(script, result)


def fits(script: Script, want: Event, seen: Event) -> bool:
    """Whether an expectation and a callback are the same, and came with the same packet.

    Without a packet at hand the step is the one seen last: never a later one, and not one before an earlier tick.
    Timers that are due fire before the packet that moves the clock, so what is expected at a tick comes before it.
    """
    if not want.matches(seen) or seen.exact:
        return want.matches(seen) and seen.step == want.step
    between = script.steps[max(seen.step + 1, 0) : want.step]
    due = want.step < len(script.steps) and not script.steps[want.step].host
    return seen.step <= want.step - due and all(step.host for step in between)


def difference(script: Script, expected: list[Event], seen: list[Event]) -> str:
    """A diff of the two lists, packets as headings; details the script leaves open are taken from what fired."""

    def lines(pairs: list[tuple[Event, int]]) -> list[str]:
        return [f"{event.text()}    <- {step_text(script, step)}" for event, step in pairs]

    right, rest = [], list(expected)
    for event in seen:
        same = next((want for want in rest if fits(script, want, event)), None)
        if same is not None:
            rest.remove(same)
        right.append((same, same.step) if same else (event, event.step))
    left = lines([(event, event.step) for event in expected])
    diff = list(difflib.unified_diff(left, lines(right), "expected", "got", lineterm="", n=3))[2:]
    return f"{script.path}: {script.claim}\n    (- expected, + got)\n" + "\n".join("    " + line for line in diff)


def step_text(script: Script, step: int) -> str:
    """A step for people."""
    if not 0 <= step < len(script.steps):
        return "end of input" if step > 0 else "before the first packet"
    return f"line {script.steps[step].line}: {script.steps[step].text}"


def check_streams(script: Script, result: Result) -> list[str]:
    """The delivered bytes."""
    problems = []
    for line, flow, direction, items in script.streams:
        want = b"".join(item_bytes(direction, item) for item in items)
        have = b"".join(
            b"<gap %d>" % part if isinstance(part, int) else part for part in result.streams.get((flow, direction), [])
        )
        if want != have:
            same = (i for i, (a, b) in enumerate(zip(want, have, strict=False)) if a != b)
            at = next(same, min(len(want), len(have)))
            problems.append(
                f"{script.path}:{line}: stream {direction} of flow {flow}: "
                f"expected {len(want)} bytes, got {len(have)}; "
                f"first difference at {at}: expected {want[at : at + 16]!r}, got {have[at : at + 16]!r}"
            )
    return problems


def item_bytes(direction: str, item: str) -> bytes:
    """One item of a `stream` line."""
    if item.startswith('"'):
        return item[1:-1].encode()
    if item.startswith("gap"):
        return b"<gap %d>" % int(item[4:-1])
    first, end = map(int, item.split(":"))
    return pattern(direction, first, end)


def check_figures(script: Script, result: Result) -> list[str]:
    """The figures read in the last CONN_END."""
    problems = []
    for line, flow, scope, values in script.figures:
        figures = result.figures.get(flow)
        if figures is None:
            problems.append(f"{script.path}:{line}: flow {flow} had no CONN_END, so there are no figures")
            continue
        holder = figures if scope == "flow" else getattr(figures, scope)
        for name, text in values.items():
            have = getattr(holder, name)
            if figure_value(text) != have:
                what = f"figure {scope} {name} of flow {flow}"
                problems.append(f"{script.path}:{line}: {what}: expected {text}, got {have}")
    return problems


def check_counters(script: Script, result: Result) -> list[str]:
    """The counters that the script names, and what holds for every run (spec sections 2 and 7)."""
    have = result.counters
    problems = [
        f"{script.path}:{line}: counter {name}: expected {value}, got {have.get(name)}"
        for line, values in script.counters
        for name, value in values.items()
        if have.get(name) != int(value)
    ]
    sums = {
        "received": [name for name in have if name.startswith(("ignored_", "dropped_"))] + ["delivered"],
        "delivered": [name for name in have if name.startswith("delivered_")],
        "flows_created": ["flows_live", *("flows_" + reason for reason in END_REASONS)],
    }
    for name, parts in sums.items():
        if have and have[name] != sum(have[part] for part in parts):
            problems.append(f"{script.path}: counter {name} is {have[name]}, but {' + '.join(parts)} is not: {have}")
    if have and have["received"] != len(script.steps):
        problems.append(f"{script.path}: counter received is {have['received']} after {len(script.steps)} frames")
    ends = Counter((e.socket, e.flow, e.hook, e.side) for e in result.events if e.name == "CONN_END")
    for flow in {(event.socket, event.flow) for event in result.events if event.flow != "-"}:
        times = [ends[(*flow, *where.split())] for where in CONN_END_ORDER]
        if times != [1, 1, 1, 1]:
            problems.append(f"{script.path}: socket and flow {flow}: CONN_END at {CONN_END_ORDER} fired {times} times")
    return problems


def figure_value(text: str) -> int | str | None:
    """null, a number, a time with a unit, or a word."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s)", text)
    if match:
        return round(float(match[1]) * TIME_UNITS[match[2]])
    return None if text == "null" else int(text) if text.isdigit() else text


# ---- which cells of the state table were visited -----------------------------------------------


def segment_class(step: Step) -> str:
    """The column of the state table."""
    if "R" in step.flags:
        return "RST"
    if "S" in step.flags:
        return "SYN/ACK" if "A" in step.flags else "SYN"
    return "FIN" if "F" in step.flags else "data" if step.payload else "ACK"


def cells(script: Script, events: list[Event]) -> set[tuple[str, str, str]]:
    """(role, state before the packet, column) of every packet that met a flow or opened one.

    `events` are those of a run, or the expectations: both carry the states.  The receiver's state is the one read
    before its own update; the sender's the one left by the packet before.
    """
    visited: set[tuple[str, str, str]] = set()
    pairs: dict[int, tuple[str, str] | None] = {}  # conn -> states of its living flow
    client: dict[int, str] = {}  # conn -> which host is the client
    conns: dict[str, int] = {}  # flow -> conn
    for index, step in enumerate(script.steps):
        here = [event for event in events if event.step == index and event.socket == "1" and event.flow != "-"]
        opened = any(event.name == "CONN_START" for event in here)
        before = pairs.get(step.conn) or (("LISTEN", "LISTEN") if opened and segment_class(step) == "SYN" else None)
        if step.host and before:
            role = 0 if client.get(step.conn, step.host) == step.host else 1
            visited.add(("sender", before[role], segment_class(step)))
            visited.add(("receiver", before[1 - role], segment_class(step)))
        for event in here:
            conns.setdefault(event.flow, step.conn)
            if event.name == "CONN_START":
                client[step.conn] = step.host if (event.hook, event.side) in CLIENT_SENT else PEER[step.host]
            states = event.states or next((tuple(d.split("/")) for d in event.details if "/" in d), None)
            if event.name == "CONN_END" and event.details[0] != "port_reuse":
                pairs[conns[event.flow]] = None
            elif states and event.name != "CONN_END":
                pairs[conns[event.flow]] = (states[0], states[1])
    return visited
