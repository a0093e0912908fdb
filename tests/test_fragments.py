"""IP fragments: flows, streams and orphans are those of the whole datagrams, counted at the last fragment."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import packets as p
import pytest
from support import Log, check_counters, corpus, merged, monitor, write

import mos
from mos.errors import ConfigError

ETHERNET = 14
CLIENT6, SERVER6 = ("2001:db8::1", 40000), ("2001:db8::2", 80)
UNDECIDED = 0x3FFF  # "more fragments" and the offset

Frames = list[tuple[int, bytes]]
Order = Callable[[list[bytes]], list[bytes]]


def shuffled(pieces: list[bytes]) -> list[bytes]:
    """Give a repeatable disorder."""
    return random.Random(len(pieces)).sample(pieces, len(pieces))


ORDERS: dict[str, Order] = {"in_order": list, "backwards": lambda pieces: pieces[::-1], "shuffled": shuffled}
every_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
every_version = pytest.mark.parametrize("version", [4, 6])


def cut(packet: bytes, size: int, ident: int) -> list[bytes]:
    """Cut an IP packet into fragments; what fits stays as it is."""
    if packet[0] >> 4 == 6:
        return p.fragments_ipv6(packet, size, ident) if len(packet) - 40 > size else [packet]
    return p.fragments_ipv4(packet, size) if len(packet) - 20 > size else [packet]


def fragmented(frames: Frames, size: int, order: Order = list) -> Frames:
    """Cut every frame; the last piece that comes has the time of the whole, the others come just before."""
    made = []
    for ident, (time_ns, frame) in enumerate(frames):
        pieces = order(cut(frame[ETHERNET:], size, ident))
        first = time_ns - len(pieces) + 1
        made += [(first + i, frame[:ETHERNET] + piece) for i, piece in enumerate(pieces)]
    return made


def conversation(version: int = 4, *, payload: int = 3000) -> p.Conversation:
    """Make a connection with data both ways, a retransmission and a segment out of order."""
    ends = (CLIENT6, SERVER6) if version == 6 else ()
    talk = p.Conversation(*ends)
    talk.handshake(options=p.mss(1460))
    sent = talk.data("client", bytes(i % 251 for i in range(payload)))
    talk.ack("server")
    talk.data("server", b"answer" * 100)
    talk.data("server", b"and more of it" * 20)
    talk.swap_last()
    talk.retransmit(sent)
    talk.ack("client")
    talk.close()
    return talk


class Result(NamedTuple):
    """What a run gave; events without their packet numbers."""

    events: list[str]
    numbers: list[int]
    figures: list[mos.FlowFigures]
    streams: dict[tuple[int, int], bytes]
    counters: dict[str, int]

    @property
    def plain(self) -> list[mos.FlowFigures]:
        """Figures without the one that fragments change."""
        return [
            dataclasses.replace(
                f, c2s=dataclasses.replace(f.c2s, wire_bytes=0), s2c=dataclasses.replace(f.s2c, wire_bytes=0)
            )
            for f in self.figures
        ]

    @property
    def wire(self) -> int:
        """Bytes on the wire of all flows."""
        return sum(f.c2s.wire_bytes + f.s2c.wire_bytes for f in self.figures)


def run(source: Path, **options: object) -> Result:
    """Run a capture with a stream socket that reads everything."""
    figures: dict[int, mos.FlowFigures] = {}
    streams: dict[tuple[int, int], bytes] = {}
    with monitor(source, **options) as m:

        def react(event: object, sock: int) -> None:
            name, side, hook = event.name, event.side, event.hook  # type: ignore[attr-defined]
            if name == "NEW_DATA" and hook == "NULL":
                number = mos.MOS_SIDE_CLI if side == "CLI" else mos.MOS_SIDE_SVR
                key = (event.flow, number)  # type: ignore[attr-defined]
                streams[key] = streams.get(key, b"") + mos.mtcp_peek(m, sock, number, 1 << 20)
            elif name == "CONN_END":
                figures[event.flow] = mos.mtcp_getfigures(m, sock)  # type: ignore[attr-defined]

        log = Log(m, react)
        log.listen()
        mos.mtcp_app_join(m)
    counters = mos.mtcp_getcounters(m)
    check_counters(counters)
    numbers = [event.packet for event in log.events if event.name == "PKT_IN" and event.hook == "SND"]
    lines = [f"{event.flow} {event.text}" for event in log.events]
    return Result(lines, numbers, [figures[flow] for flow in sorted(figures)], streams, counters)


# ---- flows -----------------------------------------------------------------------------------


@every_version
@every_order
@pytest.mark.parametrize("size", [8, 16, 64, 512, 1480])
def test_flow_equals_that_of_whole_segments(tmp_path: Path, version: int, order: Order, size: int) -> None:
    """Events, figures and bytes are the same; only the bytes on the wire are more."""
    talk = list(conversation(version))
    frames = fragmented(talk, size, order)
    whole = run(write(tmp_path / "whole.pcap", talk), verify_checksums=True, burst=1)
    parts = run(write(tmp_path / "parts.pcap", frames), verify_checksums=True, burst=1)
    assert parts.events == whole.events
    assert parts.plain == whole.plain
    assert parts.streams == whole.streams
    assert parts.wire == sum(len(frame) for _, frame in frames)
    assert parts.counters["ignored_fragment"] == len(frames) - len(talk)
    assert parts.counters["delivered_flow"] == len(talk)


def test_segment_counts_at_its_last_fragment(tmp_path: Path) -> None:
    """One PKT_IN per datagram, with the number and the time of the frame that completes it."""
    talk = list(conversation())
    frames = fragmented(talk, 256, shuffled)
    ends = {time_ns for time_ns, _ in talk}
    wanted = [number for number, (time_ns, _) in enumerate(frames, 1) if time_ns in ends]
    assert run(write(tmp_path / "a.pcap", frames)).numbers == wanted


@every_version
def test_burst_size_changes_nothing(tmp_path: Path, version: int) -> None:
    """Rebuilt segments live as long as the burst that reads them, and caps do not depend on it."""
    talks = [conversation(version), p.Conversation(("192.0.2.7", 1), start_ns=p.EPOCH_NS + 100)]
    talks[1].handshake()
    for i in range(50):
        talks[1].data("client", bytes([i]) * 700)
    path = write(tmp_path / "a.pcap", merged(*(fragmented(list(talk), 104, shuffled) for talk in talks)))
    results = [run(path, burst=burst, max_fragment_bytes=5000) for burst in (1, 2, 7, 64)]
    for other in results[1:]:
        assert other.figures == results[0].figures
        assert other.streams == results[0].streams
        assert other.counters | {"callbacks": 0} == results[0].counters | {"callbacks": 0}


@every_version
def test_duplicates_and_overlaps(tmp_path: Path, version: int) -> None:
    """Duplicates change only the wire bytes; of a conflict IPv4 keeps the first bytes, IPv6 nothing."""
    talk = conversation(version)
    whole = list(talk)
    frames = fragmented(whole, 512)
    doubled = [frame for frame in frames for _ in range(2 if len(frame[1]) > 500 else 1)]
    result = run(write(tmp_path / "doubled.pcap", doubled))
    assert result.plain == run(write(tmp_path / "whole.pcap", whole)).plain
    assert result.counters["fragments_overlapped"] > 3

    time_ns, big = whole[3]
    pieces = cut(big[ETHERNET:], 512, 9)
    longer = cut(big[ETHERNET:-512] + b"\xff" * 512, 1024, 9)
    order = [pieces[0], longer[0], *longer[1:], *pieces[1:]]
    frames = [*whole[:3], *((time_ns + i, big[:ETHERNET] + piece) for i, piece in enumerate(order))]
    result = run(write(tmp_path / "conflict.pcap", frames))
    if version == 6:
        assert not result.streams
        assert result.counters["ignored_bad_fragment"] == len(order) - 1
    else:
        assert result.streams[1, mos.MOS_SIDE_SVR] == talk.segments[3].payload[:-512] + b"\xff" * 512


def test_headers_in_front_of_and_behind_the_fragment_header(tmp_path: Path) -> None:
    """IPv6 extension headers stay, on both sides of the fragment header; so do IPv4 options."""
    segment = p.tcp(b"x" * 400, CLIENT6, SERVER6, seq=1, flags=p.SYN)
    inner = p.extension_options(60, b"\x1e\x02ab")
    packet = p.ipv6(segment, CLIENT6[0], SERVER6[0], extensions=[inner])
    front = [p.extension_options(0), p.extension_routing()]
    frames = []
    for at in range(40, len(packet), 80):
        header = p.extension_fragment(at - 40, 7, more=at + 80 < len(packet))
        body = packet[at : at + 80]
        addresses = (CLIENT6[0], SERVER6[0])
        frames.append(p.ethernet(p.ipv6(body, *addresses, next_header=60, extensions=[*front, header]), vlans=[5, 6]))
    v4 = ("192.0.2.1", 5), ("192.0.2.2", 6)
    packet = p.ipv4(p.tcp(b"y" * 300, *v4, seq=1, flags=p.SYN), v4[0][0], v4[1][0], options=b"\x07\x07\x04" + bytes(4))
    frames += [p.ethernet(piece) for piece in p.fragments_ipv4(packet, 64)]
    result = run(write(tmp_path / "a.pcap", list(enumerate(frames, p.EPOCH_NS))), verify_checksums=True)
    assert [f.c2s.payload_bytes for f in result.figures] == [400, 300]


def test_cut_fragments_are_counted_whole(tmp_path: Path) -> None:
    """With a snap length the payload counts by the IP length; the bytes go as far as they are captured."""
    talk = list(conversation())
    (tmp_path / "a.pcap").write_bytes(p.pcap(fragmented(talk, 512), nanoseconds=True, snaplen=100))
    cut_off, whole = run(tmp_path / "a.pcap"), run(write(tmp_path / "b.pcap", talk))
    assert cut_off.figures[0].c2s.payload_bytes == whole.figures[0].c2s.payload_bytes
    assert cut_off.figures[0].c2s.stream_bytes == 100 - ETHERNET - 20 - 20
    assert whole.figures[0].c2s.stream_bytes == 3000
    assert cut_off.streams[1, mos.MOS_SIDE_SVR] == whole.streams[1, mos.MOS_SIDE_SVR][:46]


def test_bad_checksum_is_found_after_reassembly(tmp_path: Path) -> None:
    """verify_checksums covers rebuilt segments."""
    talk = list(conversation())
    frames = fragmented(talk, 1024)
    at = next(i for i, (_, frame) in enumerate(frames) if len(frame) > 1000)
    frames[at] = (frames[at][0], frames[at][1][:-1] + b"\xff")
    path = write(tmp_path / "a.pcap", frames)
    assert run(path, verify_checksums=True).counters["ignored_bad_checksum"] == 1
    assert run(path).counters["ignored_bad_checksum"] == 0


# ---- raw sockets and orphans -----------------------------------------------------------------


class Seen(NamedTuple):
    """A packet as a callback saw it."""

    number: int
    frame: bytes
    eth_offset: int | None
    wire_len: int


def raw(source: Path, event: int, text: str | None = None, **options: object) -> list[Seen]:
    """What one raw socket gets."""
    seen = []
    with monitor(source, **options) as m:
        sock = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW, 0)
        if text:
            mos.mtcp_bind_monitor_filter(m, sock, mos.MonitorFilter(raw_pkt_filter=text))

        def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
            packet = mos.mtcp_getlastpkt(m, sock, side)
            seen.append(Seen(packet.number, bytes(packet.frame), packet.eth_offset, packet.wire_len))

        mos.mtcp_register_callback(m, sock, event, mos.MOS_NULL, note)
        mos.mtcp_app_join(m)
    check_counters(mos.mtcp_getcounters(m))
    return seen


@every_version
def test_raw_sockets_see_the_frames_as_they_came(tmp_path: Path, version: int) -> None:
    """PKT_IN of a raw socket is the original fragment, the completing one too."""
    frames = fragmented(list(conversation(version)), 256)
    seen = raw(write(tmp_path / "a.pcap", frames), mos.MOS_ON_PKT_IN)
    assert [(one.number, one.frame) for one in seen] == [(i, frame) for i, (_, frame) in enumerate(frames, 1)]
    assert all(one.eth_offset == 0 for one in seen)


def test_raw_filter_finds_fragments(tmp_path: Path) -> None:
    """A filter on the fragment field matches what tcpdump's would."""
    frames = fragmented(list(conversation()), 256)
    wanted = [frame for _, frame in frames if int.from_bytes(frame[20:22], "big") & UNDECIDED]
    path = write(tmp_path / "a.pcap", frames)
    assert [one.frame for one in raw(path, mos.MOS_ON_PKT_IN, "ip[6:2] & 0x3fff != 0")] == wanted


@every_version
@every_order
def test_datagram_that_is_not_tcp_is_one_orphan(tmp_path: Path, version: int, order: Order) -> None:
    """A UDP datagram becomes an orphan once, whole."""
    ends = (CLIENT6, SERVER6) if version == 6 else (("192.0.2.1", 53), ("192.0.2.2", 53))
    packet = p.ip(p.udp(b"z" * 2000, *ends), ends[0][0], ends[1][0], protocol=p.UDP, ident=7)
    frames = fragmented([(p.EPOCH_NS, p.ethernet(packet))], 512, order)
    path = write(tmp_path / "a.pcap", frames)
    (seen,) = raw(path, mos.MOS_ON_ORPHAN, "udp")
    expected = bytearray(packet)
    if version == 4:
        expected[6:8] = bytes(2)
        expected[10:12] = bytes(2)
        expected[10:12] = p.checksum(bytes(expected[:20])).to_bytes(2, "big")
    assert seen.frame == bytes(expected)
    assert seen.number == len(frames)
    assert seen.eth_offset is None
    assert not raw(path, mos.MOS_ON_ORPHAN, "tcp")


# ---- limits ----------------------------------------------------------------------------------


def halves(count: int, *, gap_ns: int = 0) -> Frames:
    """Make first halves of SYNs, then, `gap_ns` later, their second halves."""
    first, second = [], []
    for i in range(count):
        ends = (f"192.0.2.{i % 250}", 1000 + i), ("198.51.100.1", 80)
        segment = p.tcp(b"", *ends, seq=i, flags=p.SYN, options=p.mss(1000))
        one, two = p.fragments_ipv4(p.ipv4(segment, ends[0][0], ends[1][0], ident=i), 16)
        first.append((p.EPOCH_NS + i, p.ethernet(one)))
        second.append((p.EPOCH_NS + count + gap_ns + i, p.ethernet(two)))
    return first + second


def test_timeout(tmp_path: Path) -> None:
    """After fragment_timeout of packet time the parts do not meet any more."""
    path = write(tmp_path / "a.pcap", halves(3, gap_ns=20 * p.SECOND_NS))
    assert run(path).counters["flows_created"] == 3
    counters = run(path, fragment_timeout=20).counters
    assert counters["flows_created"] == 0
    assert counters["datagrams_timed_out"] == 3
    assert counters["ignored_fragment"] == 6
    assert run(path, fragment_timeout=0).counters["flows_created"] == 3


def test_memory_cap(tmp_path: Path) -> None:
    """At max_fragment_bytes the oldest datagrams go; without any memory every fragment is dropped, and counted."""
    path = write(tmp_path / "a.pcap", halves(200))
    assert run(path).counters["datagrams_reassembled"] == 200
    counters = run(path, max_fragment_bytes=100_000).counters
    assert counters["datagrams_evicted"] >= 100
    assert counters["ignored_fragment"] + counters["delivered_flow"] == 400
    counters = run(path, max_fragment_bytes=0).counters
    assert counters["dropped_fragment_memory"] == 400
    with pytest.raises(ConfigError, match="max_fragment_bytes"):
        mos.mtcp_init(source=path, max_fragment_bytes=-1)


# ---- other tools' answers --------------------------------------------------------------------


def figures_by_direction(result: Result) -> dict[tuple[str, int], list[int]]:
    """Packets and payload bytes by sender."""
    made = {}
    for f in result.figures:
        for end, d in (((f.client, f.client_port), f.c2s), ((f.server, f.server_port), f.s2c)):
            made[end] = [d.packets, d.payload_bytes, d.syn, d.fin, d.rst]
    return {end: values for end, values in made.items() if values[0]}


@pytest.mark.parametrize("name", ["pcapplusplus__frag_http_req.pcap", "zeek__ipv6-http-atomic-frag.pcap"])
def test_captures_of_others(name: str) -> None:
    """Counts equal the oracle's; atomic fragments are whole."""
    oracle = json.loads(corpus("oracle", name + ".json").read_text(encoding="utf-8"))
    sides = [side for stream in oracle["stream"] for side in stream["sides"] if side["packets"]]
    keys = ("packets", "payload", "syn", "fin", "rst")
    wanted = {(side["src"], side["sport"]): [side[key] for key in keys] for side in sides}
    result = run(corpus("open", name), midstream=True)
    mine: dict[tuple[str, int], list[int]] = figures_by_direction(result)
    assert {end: mine.get(end) for end in wanted} == wanted


def tshark(path: Path, *fields: str, switches: Sequence[str] = ()) -> list[list[str]]:
    """Fields of the TCP segments that tshark finds."""
    chosen = itertools.chain.from_iterable(("-e", field) for field in fields)
    command = ["tshark", "-r", str(path), *switches, "-Y", "tcp", "-T", "fields", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@every_order
@pytest.mark.parametrize("size", [24, 200, 1000])
def test_tshark_finds_the_same_segments(tmp_path: Path, order: Order, size: int) -> None:
    """Frame numbers, sequence numbers and payloads, of interleaved IPv4 and IPv6 connections."""
    talks = [conversation(4), conversation(6), p.Conversation(("192.0.2.9", 9))]
    talks[2].handshake()
    talks[2].data("client", b"tail" * 300)
    path = write(tmp_path / "a.pcap", merged(*(fragmented(list(talk), size, order) for talk in talks)))
    mine: list[list[str]] = []
    with monitor(path) as m:
        sock = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM, 0)

        def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
            packet = mos.mtcp_getlastpkt(m, sock, side)
            mine.append([str(packet.number), str(packet.seq), str(packet.ack), bytes(packet.payload).hex()])

        mos.mtcp_register_callback(m, sock, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, note)
        mos.mtcp_app_join(m)
    assert mine == tshark(path, "frame.number", "tcp.seq_raw", "tcp.ack_raw", "tcp.payload")
