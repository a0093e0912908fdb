"""Counts on captures made by other people equal those of tshark.

Every TCP frame is one of three: its flow's PKT_IN fired ("flow"), an ORPHAN callback got it ("orphan"), or neither,
which leaves "late": a segment of a record that lingers after CONN_END.  The three are told apart from callbacks alone,
and the numbers are then compared with the counters, the figures and the oracle.
"""

from __future__ import annotations

import csv
import hashlib
import ipaddress
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import check_counters, corpus, monitor

import mos

LINGER_NS = 10 * 10**9
SYN, ACK = 2, 16
# One segment in 11 fragments: a raw socket sees those as they are.
FRAGMENTED = "pcapplusplus__frag_http_req.pcap"

Endpoint = tuple[str, int]
Direction = tuple[Endpoint, Endpoint]


class Frame(NamedTuple):
    """A TCP segment as a raw socket saw it."""

    number: int
    time_ns: int
    direction: Direction
    flags: int
    payload: int
    wire: int


class Counts(NamedTuple):
    """What is compared, of one direction."""

    packets: int = 0
    payload: int = 0
    syn: int = 0
    fin: int = 0
    rst: int = 0

    def plus(self, other: Counts) -> Counts:
        """Add."""
        return Counts(*(mine + yours for mine, yours in zip(self, other, strict=True)))


class Flow:
    """A flow as callbacks saw it."""

    def __init__(self, client: Endpoint, server: Endpoint) -> None:
        self.directions = ((client, server), (server, client))
        self.frames: list[int] = []
        self.seen = [[0, 0], [0, 0]]
        self.figures: mos.FlowFigures | None = None


class Observer:
    """Runs a capture with a stream socket and raw sockets."""

    def __init__(self, path: Path, **options: object) -> None:
        self.frames: list[Frame] = []
        self.orphans: set[int] = set()
        self.flows: dict[int, Flow] = {}
        with monitor(path, **options) as m:
            stream = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
            raw = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW)
            mos.mtcp_register_callback(m, raw, mos.MOS_ON_PKT_IN, mos.MOS_NULL, self.on_frame)
            mos.mtcp_register_callback(m, raw, mos.MOS_ON_ORPHAN, mos.MOS_NULL, self.on_orphan)
            mos.mtcp_register_callback(m, stream, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, self.on_sent)
            mos.mtcp_register_callback(m, stream, mos.MOS_ON_CONN_END, mos.MOS_HK_SND, self.on_end)
            mos.mtcp_app_join(m)
        self.counters = mos.mtcp_getcounters(m)
        self.in_flow = {number for flow in self.flows.values() for number in flow.frames}

    def on_frame(self, m: mos.Context, sock: int, side: int, _event: int) -> None:
        """Note a TCP frame."""
        packet = mos.mtcp_getlastpkt(m, sock, side)
        if packet.tcp_offset is None:
            return
        frame = packet.frame
        source, target = addresses(frame, packet.ip_offset)
        ports = frame[packet.tcp_offset : packet.tcp_offset + 4]
        direction = ((source, int.from_bytes(ports[:2], "big")), (target, int.from_bytes(ports[2:], "big")))
        self.frames.append(
            Frame(packet.number, packet.time_ns, direction, packet.flags, packet.payload_len, packet.wire_len)
        )

    def on_orphan(self, m: mos.Context, sock: int, side: int, _event: int) -> None:
        """Note a frame of no flow."""
        packet = mos.mtcp_getlastpkt(m, sock, side)
        if packet.tcp_offset is not None:
            self.orphans.add(packet.number)

    def on_sent(self, m: mos.Context, sock: int, side: int, _event: int) -> None:
        """Count a segment of a flow."""
        flow = self.flows.get(sock)
        if flow is None:
            flow = self.flows[sock] = Flow(*mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_BOTH))
        packet = mos.mtcp_getlastpkt(m, sock, side)
        flow.frames.append(packet.number)
        flow.seen[side][0] += 1
        flow.seen[side][1] += packet.payload_len

    def on_end(self, m: mos.Context, sock: int, _side: int, _event: int) -> None:
        """Take the figures at the end."""
        self.flows[sock].figures = mos.mtcp_getfigures(m, sock)

    @property
    def late(self) -> list[Frame]:
        """Frames that neither a flow nor an orphan callback got."""
        return [f for f in self.frames if f.number not in self.in_flow and f.number not in self.orphans]


def addresses(frame: bytes, at: int) -> tuple[str, str]:
    """Source and destination of an IP header."""
    first, size = (at + 12, 4) if frame[at] >> 4 == 4 else (at + 8, 16)
    packed = (frame[first : first + size], frame[first + size : first + 2 * size])
    source, target = (str(ipaddress.ip_address(part)) for part in packed)
    return source, target


def counts_of(frames: list[Frame]) -> dict[Direction, Counts]:
    """Sum frames by direction."""
    sums: dict[Direction, Counts] = defaultdict(Counts)
    for f in frames:
        one = Counts(1, f.payload, f.flags >> 1 & 1, f.flags & 1, f.flags >> 2 & 1)
        sums[f.direction] = sums[f.direction].plus(one)
    return dict(sums)


class Stream(NamedTuple):
    """A stream of the oracle."""

    first_frame: int
    counts: dict[Direction, Counts]


@cache
def manifest() -> dict[str, dict[str, str]]:
    """Rows of MANIFEST.tsv by file name."""
    with corpus("MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        return {Path(row["file"]).name: row for row in csv.DictReader(file, delimiter="\t")}


def files(*tiers: str) -> list[str]:
    """Names of the captures of some tiers."""
    return sorted(name for name, row in manifest().items() if row["tier"] in tiers)


@cache
def oracle(name: str) -> tuple[Stream, ...]:
    """Streams of a capture, as tshark counts them."""
    made = []
    for stream in json.loads(corpus("oracle", name + ".json").read_text(encoding="utf-8"))["stream"]:
        counts = {}
        for side in stream["sides"]:
            direction = ((side["src"], side["sport"]), (side["dst"], side["dport"]))
            counts[direction] = Counts(*(side[key] for key in ("packets", "payload", "syn", "fin", "rst")))
        made.append(Stream(stream["first_frame"], counts))
    return tuple(made)


def oracle_sums(name: str) -> dict[Direction, Counts]:
    """The oracle's counts by direction of the 4-tuple, without those that are empty."""
    sums: dict[Direction, Counts] = defaultdict(Counts)
    for stream in oracle(name):
        for direction, counts in stream.counts.items():
            sums[direction] = sums[direction].plus(counts)
    return {direction: counts for direction, counts in sums.items() if counts.packets}


@cache
def observed(name: str, *, midstream: bool = False) -> Observer:
    """Run a capture once for all tests."""
    return Observer(corpus("open", name), midstream=midstream)


def tuple_of(direction: Direction) -> frozenset[Endpoint]:
    """The 4-tuple of a direction."""
    return frozenset(direction)


every_tcp_file = pytest.mark.parametrize("name", files("A", "B", "C"))
every_file = pytest.mark.parametrize("name", files("A", "B", "C", "D"))


@every_tcp_file
def test_every_tcp_frame_is_seen(name: str) -> None:
    """A raw socket's PKT_IN covers every TCP frame: sums per 4-tuple and direction equal the oracle's."""
    if name == FRAGMENTED:
        assert (observed(name).frames, observed(name).counters["datagrams_reassembled"]) == ([], 1)
        return
    assert counts_of(observed(name).frames) == oracle_sums(name)


@every_tcp_file
def test_callbacks_agree_with_figures(name: str) -> None:
    """What PKT_IN counted of a flow is in its figures at CONN_END."""
    for flow in observed(name).flows.values():
        assert flow.figures is not None
        for side, figures in enumerate((flow.figures.c2s, flow.figures.s2c)):
            assert [figures.packets, figures.payload_bytes] == flow.seen[side]


@every_tcp_file
@pytest.mark.parametrize("midstream", [False, True])
def test_late_frames_are_counted(name: str, *, midstream: bool) -> None:
    """Frames that got no callback are exactly those counted as late, and follow the end of their flow."""
    run = observed(name, midstream=midstream)
    assert len(run.late) == run.counters["delivered_late"]
    assert len(run.in_flow) == run.counters["delivered_flow"]
    assert len(run.orphans) == run.counters["delivered_orphan_tcp"]
    ended = {tuple_of(flow.directions[0]): min(flow.frames) for flow in run.flows.values()}
    assert all(frame.number > ended[tuple_of(frame.direction)] for frame in run.late)


@every_tcp_file
def test_orphans_have_no_flow(name: str) -> None:
    """A TCP orphan comes before any flow of its 4-tuple, or more than the linger time after all of it."""
    run = observed(name)
    flows = {number: flow for flow in run.flows.values() for number in flow.frames}
    last: dict[frozenset[Endpoint], int] = {}
    for frame in run.frames:
        key = tuple_of(frame.direction)
        if frame.number in run.orphans:
            assert key not in last or frame.time_ns - last[key] >= LINGER_NS, f"frame {frame.number}"
        elif frame.number in flows or key in last:
            last[key] = max(frame.time_ns, last.get(key, 0))


def streams_with_syn(name: str) -> Iterator[Stream]:
    """Streams whose first frame is a SYN."""
    first = {frame.number: frame for frame in observed(name).frames}
    for stream in oracle(name):
        frame = first.get(stream.first_frame)
        if frame is not None and frame.flags & (SYN | ACK) == SYN:
            yield stream


def incarnations(name: str) -> dict[int, dict[Direction, Counts]]:
    """Frames from the first of a flow to the first of the next flow of the 4-tuple: its PKT_INs and late segments."""
    run = observed(name)
    first = {flow.frames[0] for flow in run.flows.values()}
    current: dict[frozenset[Endpoint], int] = {}
    parts: dict[int, list[Frame]] = defaultdict(list)
    for frame in run.frames:
        key = tuple_of(frame.direction)
        if frame.number in first:
            current[key] = frame.number
        if key in current:
            parts[current[key]].append(frame)
    return {number: counts_of(frames) for number, frames in parts.items()}


@every_tcp_file
def test_flows_equal_streams(name: str) -> None:
    """Packets and payload of every stream that begins with a SYN, by flow and direction."""
    mine = incarnations(name)
    wanted = {
        stream.first_frame: {direction: counts for direction, counts in stream.counts.items() if counts.packets}
        for stream in streams_with_syn(name)
    }
    assert {number: mine.get(number) for number in wanted} == wanted
    # a flow that is no such stream begins at the SYN of a stream whose first frame was something else
    others = {tuple_of(direction) for s in oracle(name) if s.first_frame not in wanted for direction in s.counts}
    assert all(tuple_of(next(iter(counts))) in others for number, counts in mine.items() if number not in wanted)


@every_tcp_file
def test_midstream_figures(name: str) -> None:
    """With midstream every TCP segment belongs to a flow: figures at CONN_END and late segments equal the oracle."""
    run = observed(name, midstream=True)
    assert not run.orphans
    sums: dict[Direction, Counts] = defaultdict(Counts, counts_of(run.late))
    wire = sum(frame.wire for frame in run.late)
    for flow in run.flows.values():
        assert flow.figures is not None
        for direction, f in zip(flow.directions, (flow.figures.c2s, flow.figures.s2c), strict=True):
            counts = Counts(f.packets, f.payload_bytes, f.syn, f.fin, f.rst)
            sums[direction] = sums[direction].plus(counts)
            wire += f.wire_bytes
    assert {direction: counts for direction, counts in sums.items() if counts.packets} == oracle_sums(name)
    assert wire == (run.counters["received_bytes"] if name == FRAGMENTED else sum(frame.wire for frame in run.frames))


def hashes(name: str) -> Iterator[tuple[int, Direction, str]]:
    """First frame, direction and hash of the streams that several tools agree on."""
    first = {stream.first_frame for stream in streams_with_syn(name)}
    for stream in json.loads(corpus("oracle", name + ".json").read_text(encoding="utf-8"))["stream"]:
        for side in stream["sides"] if stream["first_frame"] in first else ():
            if side["trust"] == "high":
                direction = ((side["src"], side["sport"]), (side["dst"], side["dport"]))
                yield stream["first_frame"], direction, side["map"]["sha_contig"]


@every_tcp_file
@pytest.mark.parametrize("hook", [mos.MOS_HK_RCV, mos.MOS_NULL], ids=["RCV", "NULL"])
def test_streams(name: str, hook: int) -> None:
    """Delivered bytes hash to what the oracle says, where it is sure; peeked packet by packet and burst by burst."""
    starts: dict[int, tuple[int, Direction]] = {}
    found: dict[tuple[int, Direction], Any] = defaultdict(hashlib.sha256)

    def start(m: mos.Context, sock: int, side: int, _event: int) -> None:
        ends = mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_BOTH)
        starts[sock] = (mos.mtcp_getlastpkt(m, sock, side).number, ends)

    def take(m: mos.Context, sock: int, side: int, _event: int) -> None:
        number, (client, server) = starts[sock]
        direction = (server, client) if side == mos.MOS_SIDE_CLI else (client, server)
        found[number, direction].update(mos.mtcp_peek(m, sock, side))

    with monitor(corpus("open", name)) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, start)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_NEW_DATA, hook, take)
        while not m.finished:
            with suppress(mos.StreamGap):
                mos.mtcp_app_join(m)
    for number, direction, wanted in hashes(name):
        assert found[number, direction].hexdigest() == wanted, f"stream of frame {number}, {direction}"


@every_file
@pytest.mark.parametrize("midstream", [False, True])
def test_accounts(name: str, *, midstream: bool) -> None:
    """Every frame and every flow is accounted for, and every frame was read."""
    counters = observed(name, midstream=midstream).counters
    check_counters(counters)
    assert counters["received"] == int(manifest()[name]["packets"])
    assert counters["flows_live"] == 0


@every_tcp_file
@pytest.mark.parametrize("burst", [1, 2, 7])
def test_burst_size_changes_nothing(name: str, burst: int) -> None:
    """The same frames belong to the same flows for any burst size and any hash seed."""
    run, other = observed(name), Observer(corpus("open", name), burst=burst, hash_seed=burst)
    assert [flow.frames for flow in other.flows.values()] == [flow.frames for flow in run.flows.values()]
    assert [flow.figures for flow in other.flows.values()] == [flow.figures for flow in run.flows.values()]
    assert other.orphans == run.orphans
    assert other.counters == run.counters
