"""Whatever order, cut, repetition and overlap: what a host received is delivered, and events keep the rules.

Hypothesis makes two byte streams and a way they cross the wire; a naive model says what must come out.  The examples
are the same every time; MOS_EXAMPLES=5000 looks at that many new ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import packets as p
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import CONN_END_ORDER, Event, Log, check_counters, monitor, write

import mos

EXAMPLES = int(os.environ.get("MOS_EXAMPLES", "0"))
often = settings(
    max_examples=EXAMPLES or 250,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
SIDES: tuple[p.Side, p.Side] = ("client", "server")
# Order of the events of one packet at one hook (specification, section 1).
ORDER = ("PKT_IN", "CONN_START", "STATE_CHANGE", "REXMIT", "NEW_DATA")
POLICIES = {"first": mos.MOS_OVERLAP_POLICY_FIRST, "last": mos.MOS_OVERLAP_POLICY_LAST}
STATES = (mos.MOS_TCP_STATE_CLI, mos.MOS_TCP_STATE_SVR)


@dataclass(frozen=True)
class Piece:
    """A segment: bytes at an offset of the sender's stream, and what it acknowledges of the other stream."""

    sender: int
    offset: int
    payload: bytes
    ack: int
    fin: bool = False


@dataclass
class Wire:
    """Two streams and how they are sent."""

    streams: tuple[bytes, bytes]
    isns: tuple[int, int]
    pieces: list[Piece]
    end: str
    conflicts: bool
    talk: p.Conversation = field(init=False)

    def __post_init__(self) -> None:
        """Make the segments."""
        self.talk = talk = p.Conversation(client_isn=self.isns[0], server_isn=self.isns[1], step_ns=1000)
        talk.handshake()
        for piece in self.pieces:
            sender, receiver = SIDES[piece.sender], SIDES[1 - piece.sender]
            flags = p.ACK | (p.FIN if piece.fin else 0)
            seq, ack = talk.seq_of(sender, piece.offset), talk.seq_of(receiver, piece.ack)
            talk.send(sender, flags, piece.payload, seq=seq, ack=ack)
        if self.end == "rst":
            talk.rst("server")
        elif self.end == "fin":
            for side, sent in zip(
                SIDES, (any(f.fin for f in self.pieces if f.sender == i) for i in (0, 1)), strict=True
            ):
                if not sent:
                    talk.fin(side)
            talk.ack("client")
            talk.ack("server")

    def model(self, sender: int, policy: str = "first") -> bytes:
        """What the receiver of a stream reads: a byte that was read stays, others by policy."""
        stored: dict[int, int] = {}
        got = bytearray()
        for piece in self.pieces:
            if piece.sender != sender:
                continue
            for at, byte in enumerate(piece.payload, piece.offset):
                if at >= len(got) and (policy == "last" or at not in stored):
                    stored[at] = byte
            while len(got) in stored:
                got.append(stored.pop(len(got)))
        return bytes(got)


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[tuple[int, bytes]]:
    """Cut a stream in pieces that cover it."""
    marks = draw(st.lists(st.integers(0, len(stream)), max_size=10))
    edges = sorted({0, len(stream), *marks})
    return [(low, stream[low:high]) for low, high in pairwise(edges)]


@st.composite
def repeats(draw: st.DrawFn, stream: bytes, *, conflicts: bool) -> list[tuple[int, bytes]]:
    """Send parts again, perhaps with other bytes."""
    found = []
    for _ in range(draw(st.integers(0, 6 if stream else 0))):
        low = draw(st.integers(0, len(stream) - 1))
        part = stream[low : draw(st.integers(low + 1, len(stream)))]
        if conflicts:
            part = draw(st.binary(min_size=len(part), max_size=len(part)))
        found.append((low, part))
    return found


@st.composite
def wires(draw: st.DrawFn, *, may_conflict: bool = False) -> Wire:
    """Make two streams and a way they are sent."""
    isn = st.one_of(st.integers(2**32 - 300, 2**32 - 1), st.integers(2**31 - 300, 2**31), st.integers(0, 2**32 - 1))
    streams = draw(st.tuples(st.binary(max_size=200), st.binary(max_size=200)))
    end = draw(st.sampled_from(["none", "fin", "rst"]))
    conflicts = may_conflict and draw(st.booleans())
    pieces = []
    for sender, stream in enumerate(streams):
        acks = st.integers(0, len(streams[1 - sender]))
        first = draw(cuts(stream))
        early_fin = end == "fin" and first and draw(st.booleans())
        parts = [(*part, bool(early_fin) and part is first[-1]) for part in first]
        parts += [(*part, False) for part in draw(repeats(stream, conflicts=conflicts))]
        parts += [(0, b"", False)] * draw(st.integers(0, 3))
        pieces += [Piece(sender, offset, data, draw(acks), fin) for offset, data, fin in parts]
    order = draw(st.permutations(pieces)) if draw(st.booleans()) else pieces
    return Wire(streams, draw(st.tuples(isn, isn)), list(order), end, conflicts)


class Reader:
    """Reads what each side receives at one hook, and checks every event as it comes."""

    def __init__(self, m: mos.Context, hook: int, policy: str) -> None:
        """Open a socket that logs all events and reads at `hook`."""
        self.m, self.hook = m, "RCV" if hook == mos.MOS_HK_RCV else "NULL"
        self.log = Log(m, self.react)
        self.read = [bytearray(), bytearray()]
        self.states = [mos.TCP_CLOSED, mos.TCP_LISTEN]
        self.figures: mos.FlowFigures | None = None
        sock = self.log.listen()
        for option in (mos.MOS_CLIOVERLAP, mos.MOS_SVROVERLAP):
            mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, option, POLICIES[policy])

    def react(self, event: Event, sock: int) -> None:
        """Look at one event."""
        side = ("CLI", "SVR").index(event.side)
        if event.name == "NEW_DATA" and event.hook == self.hook:
            data = mos.mtcp_peek(self.m, sock, side)
            assert data, "NEW_DATA without bytes"
            assert mos.mtcp_peek(self.m, sock, side) == b""
            self.read[1 - side] += data
        state = mos.mtcp_getsockopt(self.m, sock, mos.SOL_MONSOCKET, STATES[side])
        if event.name == "STATE_CHANGE":
            assert state != self.states[side], "STATE_CHANGE without a change"
            self.states[side] = state
        elif event.name in ("REXMIT", "NEW_DATA", "CONN_END"):  # they come after STATE_CHANGE
            assert state == self.states[side], "a change without STATE_CHANGE"
        if event.name == "CONN_END":
            self.figures = mos.mtcp_getfigures(self.m, sock)


def check_rules(events: list[Event]) -> None:
    """CONN_START first and once a hook, CONN_END last and in its order, the order inside a packet."""
    texts = [event.text for event in events]
    assert texts[:2] == ["SND CLI PKT_IN", "SND CLI CONN_START"]
    assert [t for t in texts if t.endswith("CONN_START")] == ["SND CLI CONN_START", "RCV SVR CONN_START"]
    assert tuple(texts[-4:]) == CONN_END_ORDER
    assert not any(t.endswith("CONN_END") for t in texts[:-4])
    for before, after in pairwise(events):
        if (before.packet, before.hook) == (after.packet, after.hook) and after.packet and after.name in ORDER:
            assert before.name not in ORDER or ORDER.index(before.name) < ORDER.index(after.name)
    assert [e.packet for e in events if e.packet] == sorted(e.packet for e in events if e.packet)


def check_figures(wire: Wire, figures: mos.FlowFigures) -> None:
    """Counts of the flow against the segments sent; late ones are missing at CONN_END."""
    late = figures.end_reason in ("fin", "rst")
    for sender, ours in enumerate((figures.c2s, figures.s2c)):
        sent = [s for s in wire.talk.segments if s.sender == SIDES[sender]]
        counts = (len(sent), sum(len(s.payload) for s in sent))
        found = (ours.packets, ours.payload_bytes)
        assert found <= counts if late else found == counts
        assert ours.stream_bytes == len(wire.streams[sender])
        assert (ours.gaps, ours.gap_bytes, ours.undelivered_bytes) == (0, 0, 0)
    assert figures.end_reason == {"none": "eof"}.get(wire.end, wire.end)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for the capture at hand."""
    return tmp_path_factory.mktemp("wire") / "wire.pcap"


def watch(path: Path, wire: Wire, policy: str, **options: int) -> tuple[Reader, Reader]:
    """Run a wire with a reader at MOS_HK_RCV and one at MOS_NULL."""
    write(path, wire.talk)
    with monitor(path, **options) as m:
        at_rcv, at_null = Reader(m, mos.MOS_HK_RCV, policy), Reader(m, mos.MOS_NULL, policy)
        mos.mtcp_app_join(m)
    counters = mos.mtcp_getcounters(m)
    check_counters(counters)
    assert counters["flows_created"] == 1
    assert counters["delivered_flow"] + counters["delivered_late"] == len(wire.talk.segments)
    return at_rcv, at_null


@often
@given(wire=wires(), burst=st.sampled_from([1, 2, 64]))
def test_delivered_is_what_was_sent(path: Path, wire: Wire, burst: int) -> None:
    """Both readers get both streams; the events keep their rules; the figures add up."""
    for reader in watch(path, wire, "first", burst=burst):
        assert [bytes(data) for data in reader.read] == list(wire.streams)
        assert reader.figures is not None
        check_figures(wire, reader.figures)
        check_rules(reader.log.events)
        assert "ERROR" not in Counter(event.name for event in reader.log.events)


@often
@given(wire=wires(may_conflict=True), policy=st.sampled_from(sorted(POLICIES)))
def test_conflicts_go_by_policy(path: Path, wire: Wire, policy: str) -> None:
    """Bytes sent twice with other values: what was read stays, of the others the policy's copy is delivered."""
    for reader in watch(path, wire, policy, burst=1):
        assert [bytes(data) for data in reader.read] == [wire.model(sender, policy) for sender in (0, 1)]
        check_rules(reader.log.events)


@often
@given(wire=wires(may_conflict=True), burst=st.sampled_from([1, 64]))
def test_hash_of_the_rows(path: Path, wire: Wire, burst: int) -> None:
    """The hashes are those of the streams, the first copy of each byte."""
    write(path, wire.talk)
    with monitor(path, burst=burst) as m:
        mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        m.rows_on(as_json=True, hashes=True)
        mos.mtcp_app_join(m)
        lines = m.rows().splitlines()
    (row,) = map(json.loads, lines)
    for sender, name in enumerate(("c2s", "s2c")):
        sent = [s for s in wire.talk.segments if s.sender == SIDES[sender]]
        assert row[name]["sha256"] == hashlib.sha256(wire.model(sender)).hexdigest()
        assert (row[name]["packets"], row[name]["payload_bytes"]) == (len(sent), sum(len(s.payload) for s in sent))
        assert row[name]["stream_bytes"] == len(wire.streams[sender])


@often
@given(wire=wires(may_conflict=True))
def test_rexmit_is_a_number_seen_before(path: Path, wire: Wire) -> None:
    """REXMIT fires for exactly the segments with a number that came before, with any buffers and without."""
    write(path, wire.talk)
    with monitor(path) as m:
        log = Log(m)
        log.listen(wanted={mos.MOS_HK_SND: ("REXMIT", "PKT_IN")})
        mos.mtcp_app_join(m)
    seen: tuple[set[int], set[int]] = (set(), set())
    wanted = []
    for number, segment in enumerate(wire.talk.segments, 1):
        numbers = seen[SIDES.index(segment.sender)]
        length = len(segment.payload) + bool(segment.flags & p.SYN) + bool(segment.flags & p.FIN)
        own = {(segment.seq + i) % 2**32 for i in range(length)} if not segment.flags & p.RST else set()
        if numbers & own:
            wanted.append(number)
        numbers |= own
    alive = {event.packet for event in log.events}
    assert [e.packet for e in log.events if e.name == "REXMIT"] == [number for number in wanted if number in alive]
