"""mos flows: the fields of a row and their order, their values, and what the command does when something is wrong."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import ipaddress
import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import packets as p
import pytest
from support import DATA, ROOT, merged, monitor, write

import mos

CAPTURES = sorted(path.stem for path in DATA.glob("*.pcap"))
every_capture = pytest.mark.parametrize("name", CAPTURES)
COMMAND = [sys.executable, "-m", "mos", "flows"]
ROW = [
    "schema",
    "flow_id",
    "community_id",
    "client",
    "client_port",
    "server",
    "server_port",
    "midstream",
    "start_ns",
    "end_ns",
    "client_state",
    "server_state",
    "end_reason",
    "handshake_rtt_ns",
    "c2s",
    "s2c",
]
DIRECTION = [
    "packets",
    "wire_bytes",
    "payload_bytes",
    "stream_bytes",
    "undelivered_bytes",
    "syn",
    "fin",
    "rst",
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "unseen_retransmission",
    "out_of_order",
    "keep_alive",
    "zero_window_probe",
    "duplicate_ack",
    "zero_window",
    "gaps",
    "gap_bytes",
    "rtt_min_ns",
    "rtt_mean_ns",
    "rtt_max_ns",
]
STATES = {
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
}
END_REASONS = {"fin", "rst", "timeout", "port_reuse", "evicted", "eof", "shutdown"}
TEXTS = {"community_id", "client", "server", "client_state", "server_state", "end_reason"}
MAY_BE_NULL = {"handshake_rtt_ns", "rtt_min_ns", "rtt_mean_ns", "rtt_max_ns"}

Row = dict[str, Any]


def flows(*args: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command."""
    return subprocess.run([*COMMAND, *map(str, args)], input=stdin, capture_output=True, timeout=60, check=False)


def rows(*args: object, stdin: bytes | None = None) -> list[Row]:
    """Give the rows; the command must succeed without a word."""
    done = flows("--json", *args, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


def by_id(found: list[Row]) -> list[Row]:
    """Rows in order of creation; the numbers are those from 1 on, once each."""
    found = sorted(found, key=lambda row: row["flow_id"])
    assert [row["flow_id"] for row in found] == list(range(1, len(found) + 1))
    return found


def ends(row: Row) -> tuple[object, ...]:
    """The 4-tuple."""
    return row["client"], row["client_port"], row["server"], row["server_port"]


# ---- fields ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hashes", [False, True])
@every_capture
def test_fields(name: str, *, hashes: bool) -> None:
    """Exactly the agreed fields, in order, with the agreed types."""
    for row in rows(DATA / f"{name}.pcap", *(["--hash"] if hashes else [])):
        assert list(row) == ROW
        assert row["schema"] == 1
        assert type(row["midstream"]) is bool
        for side in ("c2s", "s2c"):
            assert list(row[side]) == DIRECTION + (["sha256"] if hashes else [])
            assert not hashes or re.fullmatch(r"[0-9a-f]{64}", row[side]["sha256"])
        values = [*row.items(), *row["c2s"].items(), *row["s2c"].items()]
        for key, value in values:
            if key in TEXTS:
                assert type(value) is str, key
            elif key not in ("c2s", "s2c", "midstream", "sha256"):
                assert (value is None and key in MAY_BE_NULL) or (type(value) is int and value >= 0), key
        assert {row["client_state"], row["server_state"]} <= STATES
        assert row["end_reason"] in END_REASONS


@every_capture
def test_one_line_per_row(name: str) -> None:
    """JSON without spaces, one row a line, the same bytes as Python's own writer makes."""
    done = flows("--json", DATA / f"{name}.pcap")
    for line in done.stdout.decode("ascii").splitlines():
        assert line == json.dumps(json.loads(line), separators=(",", ":"))


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    """A SYN without answer has no round trip of any kind; counts are 0."""
    talk = p.Conversation()
    talk.syn()
    (row,) = rows(write(tmp_path / "syn.pcap", talk))
    assert row["handshake_rtt_ns"] is None
    for side in ("c2s", "s2c"):
        assert [row[side][key] for key in sorted(MAY_BE_NULL - {"handshake_rtt_ns"})] == [None] * 3
    assert (row["c2s"]["packets"], row["s2c"]["packets"], row["end_reason"]) == (1, 0, "eof")


# ---- Community ID ----------------------------------------------------------------------------

# baseline.pcap and the notes of github.com/corelight/community-id-spec, seed 0.
PUBLISHED = {
    (("128.232.110.120", 34855), ("66.35.250.204", 80)): "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
    (("10.0.0.1", 10), ("10.0.0.1", 20)): None,
}


def community_id(client: tuple[str, int], server: tuple[str, int]) -> str:
    """Compute it as the specification says: seed, lower end, higher end, protocol, padding, ports."""
    low, high = sorted((ipaddress.ip_address(host).packed, port) for host, port in (client, server))
    data = struct.pack("!H", 0) + low[0] + high[0] + struct.pack("!BxHH", 6, low[1], high[1])
    return "1:" + base64.b64encode(hashlib.sha1(data).digest()).decode()  # noqa: S324 - the specification's choice


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("one", "other"), PUBLISHED)
def test_community_id_published(tmp_path: Path, one: tuple[str, int], other: tuple[str, int], *, turned: bool) -> None:
    """The published value, whoever is the client."""
    talk = p.Conversation(other, one) if turned else p.Conversation(one, other)
    talk.handshake()
    (row,) = rows(write(tmp_path / "one.pcap", talk))
    assert row["community_id"] == (PUBLISHED[one, other] or community_id(one, other))


@every_capture
def test_community_id(name: str) -> None:
    """The value computed here, IPv4 and IPv6."""
    for row in rows(DATA / f"{name}.pcap"):
        client, server = (row["client"], row["client_port"]), (row["server"], row["server_port"])
        assert row["community_id"] == community_id(client, server)


# ---- order, filter, sources ------------------------------------------------------------------


@every_capture
def test_rows_of_a_tuple_in_start_order(name: str) -> None:
    """A port used again: the rows of one 4-tuple come in the order in which the connections began."""
    last: dict[tuple[object, ...], int] = {}
    for row in rows(DATA / f"{name}.pcap"):
        assert row["start_ns"] >= last.get(ends(row), 0)
        assert row["end_ns"] >= row["start_ns"]
        last[ends(row)] = row["start_ns"]


def test_port_used_ten_times(tmp_path: Path) -> None:
    """Ten connections of one 4-tuple, some closed and some cut off by the next: ten rows, in order."""
    talks = []
    for i in range(10):
        talk = p.Conversation(client_isn=1000 + 100_000 * i, start_ns=p.EPOCH_NS + i * p.SECOND_NS)
        talk.handshake()
        talk.data("client", bytes(i + 1))
        if i % 2:
            talk.close()
        else:
            talk.rst("client")
        talks.append(talk)
    found = rows(write(tmp_path / "ten.pcap", merged(*talks)))
    assert [row["c2s"]["payload_bytes"] for row in found] == list(range(1, 11))
    assert [row["end_reason"] for row in found] == ["rst", "fin"] * 5


@pytest.mark.parametrize("option", ["-f", "--filter"])
def test_filter(option: str) -> None:
    """The filter is looked at on the first SYN; the rows it leaves are the rows without it."""
    path = DATA / "demo.pcap"
    wanted = [row for row in rows(path) if ":" in row["client"]]
    found = rows(path, option, "ip6 and dst port 80")
    assert len(found) == len(wanted) > 0
    assert [{**row, "flow_id": 0} for row in found] == [{**row, "flow_id": 0} for row in wanted]
    assert rows(path, option, "src port 80") == []


def test_several_files(tmp_path: Path) -> None:
    """Files are merged by time: a connection may begin in one and end in the other."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"hello")
    talk.close()
    frames = list(talk)
    one, two = write(tmp_path / "one.pcap", frames[::2]), write(tmp_path / "two.pcap", frames[1::2])
    whole = rows("--hash", write(tmp_path / "whole.pcap", frames))
    assert rows("--hash", one, two) == rows("--hash", two, one) == whole
    both = rows(DATA / "rst.pcap", DATA / "wrap.pcap")
    assert len(both) == len(rows(DATA / "rst.pcap")) + len(rows(DATA / "wrap.pcap"))


@every_capture
def test_stdin_and_gz(name: str, tmp_path: Path) -> None:
    """The same bytes from a file, a pipe, and packed."""
    path = DATA / f"{name}.pcap"
    packed = tmp_path / "packed.pcap.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    wanted = flows("--json", "--hash", path).stdout
    assert flows("--json", "--hash", "-", stdin=path.read_bytes()).stdout == wanted
    assert flows("--json", "--hash", "-", stdin=packed.read_bytes()).stdout == wanted
    assert flows("--json", "--hash", packed).stdout == wanted


# ---- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["no-such-file.pcap"], "no-such-file.pcap"),
        ([str(ROOT / "README.md")], "README.md"),
        ([str(DATA / "demo.pcap"), "-f", "tcp port ="], "tcp port ="),
        ([], "FILE"),
        (["--no-such-option", str(DATA / "demo.pcap")], "--no-such-option"),
        ([str(DATA)], "data"),
    ],
)
def test_wrong_use(args: list[str], said: str) -> None:
    """Exit 2, nothing on stdout, and a sentence on stderr that names what is wrong; no traceback."""
    done = flows("--json", *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_empty_input() -> None:
    """An empty pipe is no capture; a capture without packets has no rows."""
    assert flows("--json", "-", stdin=b"").returncode == 2
    assert rows("-", stdin=p.pcap([])) == []


@pytest.mark.parametrize("cut", [1, 20, 5000])
def test_input_broke_off(cut: int) -> None:
    """A truncated capture: the rows so far, one sentence, exit 1."""
    whole = (DATA / "demo.pcap").read_bytes()
    done = flows("--json", "-", stdin=whole[:-cut])
    assert done.returncode == 1
    assert re.fullmatch(r"mos flows: [^\n]+\n", done.stderr.decode())
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(rows(DATA / "demo.pcap"))
    assert all(list(row) == ROW for row in found)


def many(count: int) -> bytes:
    """A capture of many short connections."""
    frames = []
    for i in range(count):
        talk = p.Conversation(("192.0.2.1", 1024 + i), start_ns=p.EPOCH_NS + i * p.SECOND_NS // 10, step_ns=1000)
        talk.handshake()
        talk.close()
        frames += list(talk)
    return p.pcap(frames)


@pytest.mark.parametrize("options", [["--json"], []])
def test_broken_pipe(options: list[str], tmp_path: Path) -> None:
    """The reader of our output leaves: exit 0 without a word, as `head` users expect."""
    path = tmp_path / "many.pcap"
    path.write_bytes(many(3000))
    with subprocess.Popen([*COMMAND, *options, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C while the input is silent: the rows so far, flows that are open end with `shutdown`, exit 130."""
    open_end = p.Conversation(("192.0.2.9", 9), start_ns=p.EPOCH_NS + 1000 * p.SECOND_NS)
    open_end.handshake()
    capture = many(20) + p.pcap(open_end)[24:]
    output = tmp_path / "rows"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "--json", "-"], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
        )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(capture)
    process.stdin.flush()
    for _ in range(200):
        if output.stat().st_size:
            break
        signal.sigtimedwait([], 0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert process.stderr.read() == b""
    process.stdin.close()
    process.stderr.close()
    found = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert [row["end_reason"] for row in found] == ["fin"] * 20 + ["shutdown"]


# ---- text ------------------------------------------------------------------------------------


def shown(host: str, port: int) -> str:
    """An address and port for people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@every_capture
def test_text(name: str) -> None:
    """A headline and one line per flow, with the figures of the JSON rows."""
    done = flows(DATA / f"{name}.pcap")
    assert (done.returncode, done.stderr) == (0, b"")
    head, *lines = done.stdout.decode("ascii").splitlines()
    assert head.split()[:4] == ["client", "server", "duration", "handshake"]
    found = rows(DATA / f"{name}.pcap")
    assert len(lines) == len(found)
    for line, row in zip(lines, found, strict=True):
        client, server, seconds, unit, *rest = line.split()
        assert [client, server] == [shown(row[side], row[f"{side}_port"]) for side in ("client", "server")]
        assert (float(seconds), unit) == (round((row["end_ns"] - row["start_ns"]) / 1e9, 3), "s")
        rtt = row["handshake_rtt_ns"]
        assert rest.pop(0) == ("-" if rtt is None else f"{rtt / 1e6:.3f}")
        assert rtt is None or rest.pop(0) == "ms"
        sums = [sum(row[d][k + "retransmission"] for k in ("", "fast_", "spurious_")) for d in ("c2s", "s2c")]
        counts = [row[d][k] for k in ("packets", "stream_bytes") for d in ("c2s", "s2c")]
        assert rest == [*map(str, counts + sums), row["end_reason"]]


# ---- values against an independent count -----------------------------------------------------


class Seg(NamedTuple):
    """A TCP segment, taken out of the file here."""

    time_ns: int
    wire: int
    source: tuple[str, int]
    target: tuple[str, int]
    seq: int
    ack: int
    flags: int
    length: int


def segments(path: Path) -> Iterator[Seg]:
    """Read a capture of Ethernet, 802.1Q, IPv4 and IPv6 without extension headers."""
    data = path.read_bytes()
    unit = 1 if data[:4] == b"\x4d\x3c\xb2\xa1" else 1000
    at = 24
    while at < len(data):
        seconds, part, kept, wire = struct.unpack_from("<IIII", data, at)
        frame = data[at + 16 : at + 16 + kept]
        at += 16 + kept
        ether, ip = struct.unpack_from("!H", frame, 12)[0], 14
        if ether == p.ETHERTYPE_VLAN:
            ether, ip = struct.unpack_from("!H", frame, 16)[0], 18
        if ether == p.ETHERTYPE_IPV4 and frame[ip + 9] == p.TCP:
            tcp, end = ip + 4 * (frame[ip] & 15), ip + struct.unpack_from("!H", frame, ip + 2)[0]
            hosts = [str(ipaddress.ip_address(frame[ip + o : ip + o + 4])) for o in (12, 16)]
        elif ether == p.ETHERTYPE_IPV6 and frame[ip + 6] == p.TCP:
            tcp, end = ip + 40, ip + 40 + struct.unpack_from("!H", frame, ip + 4)[0]
            hosts = [str(ipaddress.ip_address(frame[ip + o : ip + o + 16])) for o in (8, 24)]
        else:
            continue
        sport, dport, seq, ack, offset, flags = struct.unpack_from("!HHIIBB", frame, tcp)
        time = seconds * 10**9 + part * unit
        yield Seg(time, wire, (hosts[0], sport), (hosts[1], dport), seq, ack, flags, end - tcp - 4 * (offset >> 4))


class Sender:
    """One direction: every number it sent, and one running round-trip sample (Karn's rule)."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.counts = [0, 0, 0]
        self.seen: set[int] = set()
        self.top: int | None = None
        self.sample: tuple[int, int] | None = None
        self.rtts: list[int] = []
        self.refused = False  # the sample was ended by a RST

    def send(self, seg: Seg) -> None:
        """Count a segment; start a sample on new numbers, give it up when old ones come again."""
        for i, value in enumerate((1, seg.wire, seg.length)):
            self.counts[i] += value
        length = seg.length + bool(seg.flags & p.SYN) + bool(seg.flags & p.FIN)
        if not length or seg.flags & p.RST:
            return
        numbers = {(seg.seq + i) % 2**32 for i in range(length)}
        end = (seg.seq + length) % 2**32
        if numbers & self.seen and self.sample and (seg.seq - self.sample[1]) % 2**32 >= 2**31:
            self.sample = None
        if self.top is None or (seg.seq - self.top) % 2**32 < 2**31:
            self.sample = self.sample or (seg.time_ns, end)
        if self.top is None or (end - self.top) % 2**32 < 2**31:
            self.top = end
        self.seen |= numbers

    def acked(self, seg: Seg) -> None:
        """Take the other side's acknowledgement."""
        self.refused |= bool(self.sample and seg.flags & p.RST)
        if self.sample and seg.flags & p.ACK and (seg.ack - self.sample[1]) % 2**32 < 2**31:
            self.rtts.append(seg.time_ns - self.sample[0])
            self.sample = None


class Connection:
    """A connection of the naive count."""

    def __init__(self, first: Seg) -> None:
        """Begin with a SYN."""
        self.client, self.isn = first.source, first.seq
        self.senders = (Sender(), Sender())
        self.syn_ns, self.synack, self.handshake = first.time_ns, False, None

    def take(self, seg: Seg) -> None:
        """Count a segment."""
        side = seg.source != self.client
        self.senders[1 - side].acked(seg)
        self.senders[side].send(seg)
        if seg.flags & p.SYN:
            self.synack |= side
            self.syn_ns = self.syn_ns if side else seg.time_ns
        elif not side and self.synack and self.handshake is None:
            self.handshake: int | None = seg.time_ns - self.syn_ns


def naive(path: Path) -> list[Connection]:
    """Count a capture: a SYN without ACK and with another ISN begins a new connection."""
    current: dict[frozenset[object], Connection] = {}
    found = []
    for seg in segments(path):
        key = frozenset((seg.source, seg.target))
        old = current.get(key)
        if seg.flags & (p.SYN | p.ACK) == p.SYN and (old is None or (seg.source == old.client and seg.seq != old.isn)):
            current[key] = Connection(seg)
            found.append(current[key])
        if key in current:
            current[key].take(seg)
    return found


@every_capture
def test_figures_against_a_naive_count(name: str) -> None:
    """Packets, bytes, round trips and the handshake's, counted here segment by segment."""
    connections, found = naive(DATA / f"{name}.pcap"), by_id(rows(DATA / f"{name}.pcap"))
    assert len(found) == len(connections)
    for connection, row in zip(connections, found, strict=True):
        assert (row["client"], row["client_port"]) == connection.client
        if name != "simultaneous":  # two SYNs cross: there is no SYN/ACK of the server to wait for
            assert row["handshake_rtt_ns"] == connection.handshake
        for sender, direction in zip(connection.senders, (row["c2s"], row["s2c"]), strict=True):
            assert sender.counts == [direction[k] for k in ("packets", "wire_bytes", "payload_bytes")]
            if sender.refused:
                continue  # test_round_trip_of_a_refusal
            rtts = sender.rtts
            wanted = [min(rtts), sum(rtts) // len(rtts), max(rtts)] if rtts else [None] * 3
            assert wanted == [direction[k] for k in ("rtt_min_ns", "rtt_mean_ns", "rtt_max_ns")], (name, ends(row))


def test_round_trip_of_a_refusal() -> None:
    """The RST that refuses a connection acknowledges the SYN; Wireshark measures the round trip too."""
    (row,) = [row for row in rows(DATA / "demo.pcap") if row["client_port"] == 49214]
    assert row["c2s"]["rtt_min_ns"] == 10_474_000


# The server goes on sending after the client's RST: late segments.  They are not delivered.
LATE_DATA = {("demo", 49215)}


def test_late_data_is_in_the_figures() -> None:
    """Late segments count in the figures of the flow, their bytes too (specification, section 3)."""
    (row,) = [row for row in rows(DATA / "demo.pcap") if row["client_port"] == 49215]
    (flow,) = [f for f in json.loads((DATA / "demo.json").read_text())["flows"] if f["client"][1] == 49215]
    assert row["s2c"]["stream_bytes"] == flow["server_to_client"]["stream_bytes"]


@every_capture
def test_figures_against_the_truth(name: str) -> None:
    """What count_truth.py wrote beside the captures."""
    truth = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    found = by_id(rows("--hash", DATA / f"{name}.pcap"))
    assert len(found) == truth["flow_count"]
    for flow, row in zip(truth["flows"], found, strict=True):
        assert [*flow["client"], *flow["server"]] == list(ends(row))
        assert (row["start_ns"], row["end_ns"]) == (flow["first_ns"], flow["last_ns"])
        for said, own in ((flow["client_to_server"], row["c2s"]), (flow["server_to_client"], row["s2c"])):
            for key in ("packets", "wire_bytes", "payload_bytes", "syn", "fin", "rst", "zero_window"):
                assert own[key] == said[key], (key, ends(row))
            again = sum(own[key + "retransmission"] for key in ("", "fast_", "spurious_"))
            assert again == said["rexmit"]
            assert own["out_of_order"] + own["unseen_retransmission"] == len(said["hole_filler_frames"])
            if (name, row["client_port"]) in LATE_DATA:
                continue
            assert own["stream_bytes"] == said["stream_bytes"]
            assert own["sha256"] == said["contiguous_sha256"]
            assert own["stream_bytes"] - own["undelivered_bytes"] == said["contiguous_bytes"]


# ---- times -----------------------------------------------------------------------------------


def test_filler_with_an_earlier_time(tmp_path: Path) -> None:
    """Frames of several queues come with times a little out of order: what fills a hole then was overtaken."""
    talk = p.Conversation()
    talk.handshake()
    first = talk.data("client", b"a" * 10, captured=False)
    last = talk.data("client", b"b" * 10)
    (row,) = rows(write(tmp_path / "back.pcap", [*talk, (last.time_ns - 500_000, first.frame)]))
    assert (row["c2s"]["out_of_order"], row["c2s"]["unseen_retransmission"]) == (1, 0)


def test_handshake_with_an_earlier_time(tmp_path: Path) -> None:
    """The handshake's last ACK is stamped before its SYN: no round trip of 584 years."""
    talk = p.Conversation()
    talk.handshake()
    syn, synack, ack = talk
    (row,) = rows(write(tmp_path / "back.pcap", [syn, synack, (syn[0] - 500, ack[1])]))
    assert row["handshake_rtt_ns"] in (0, None)


@pytest.mark.parametrize("back_ns", [0, 1500])
def test_waiting_for_acknowledged_bytes(tmp_path: Path, back_ns: int) -> None:
    """An ACK captured before its data makes no gap, though the packet after it is stamped earlier."""
    talk = p.Conversation(step_ns=1000)
    talk.handshake()
    first = talk.data("client", b"a" * 10, captured=False)
    talk.data("client", b"b" * 10)
    talk.ack("server")
    talk.wait(-back_ns)
    talk.ack("client")
    talk.wait(back_ns)
    talk.retransmit(first)
    (row,) = rows("--hash", write(tmp_path / "back.pcap", talk))
    assert (row["c2s"]["gaps"], row["c2s"]["sha256"]) == (0, hashlib.sha256(b"a" * 10 + b"b" * 10).hexdigest())


@pytest.mark.parametrize("start_ns", [0, 1])
def test_capture_that_begins_at_0(tmp_path: Path, start_ns: int) -> None:
    """A synthetic capture: the round trip of a SYN at time 0 is measured."""
    talk = p.Conversation(start_ns=start_ns)
    talk.handshake()
    (row,) = rows(write(tmp_path / "zero.pcap", talk))
    assert row["c2s"]["rtt_min_ns"] == talk.step_ns


# ---- long streams ----------------------------------------------------------------------------


def header_only(count: int, size: int) -> Iterator[tuple[int, bytes, int]]:
    """Frames of one upload, cut behind the TCP header: time, bytes, length on the wire."""
    talk = p.Conversation(client_isn=2**32 - 5, step_ns=1000)
    talk.handshake(options=p.window_scale(14))
    for time, frame in talk:
        yield time, frame, len(frame)
    head = p.tcp(b"", ("192.0.2.1", 40000), ("198.51.100.1", 80), seq=0, ack=5001)
    reply = p.tcp(b"", ("198.51.100.1", 80), ("192.0.2.1", 40000), seq=5001, ack=0)
    up = bytearray(p.ethernet(p.ipv4(head, "192.0.2.1", "198.51.100.1", total_length=40 + size)))
    down = bytearray(p.ethernet(p.ipv4(reply, "198.51.100.1", "192.0.2.1")))
    for i in range(count):
        time = talk.now_ns + 2000 * i
        struct.pack_into("!I", up, 38, (2**32 - 4 + size * i) % 2**32)
        yield time, bytes(up), 54 + size
        struct.pack_into("!I", down, 42, (2**32 - 4 + size * (i + 1)) % 2**32)
        yield time + 1000, bytes(down), 54


def long_capture(path: Path, count: int, size: int) -> Path:
    """Write it; the records say how long the frames were."""
    parts = [p.pcap([], nanoseconds=True)]
    for time, frame, wire in header_only(count, size):
        parts += [struct.pack("<IIII", *divmod(time, 10**9), len(frame), wire), frame]
    path.write_bytes(b"".join(parts))
    return path


def test_more_than_4_gib(tmp_path: Path) -> None:
    """A header-only capture of 70,000 segments of 64 KB: the numbers wrap, the figures and offsets do not."""
    count, size = 70_000, 65_495
    path = long_capture(tmp_path / "long.pcap", count, size)
    (row,) = rows("--hash", path)
    up = row["c2s"]
    assert up["payload_bytes"] == count * size > 2**32
    assert up["wire_bytes"] == count * (size + 54) + sum(len(f) for _, f, _ in list(header_only(0, size))[::2])
    assert (up["stream_bytes"], up["gap_bytes"], up["undelivered_bytes"]) == (0, count * size, 0)
    assert (up["retransmission"], up["out_of_order"], up["unseen_retransmission"]) == (0, 0, 0)
    assert (up["rtt_min_ns"], up["rtt_max_ns"]) == (1000, 1000)
    offsets = []

    def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
        packet = mos.mtcp_getlastpkt(m, sock, side)
        if packet.payload_len:
            offsets.append(packet.offset)

    with monitor(path) as m:
        sock = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, note)
        mos.mtcp_app_join(m)
    assert offsets == list(range(0, count * size, size))
    assert offsets[-1] > 2**32


def test_stream_behind_4_gib(tmp_path: Path) -> None:
    """Bytes captured behind 4 GiB of missing ones are delivered, with their 64-bit offset."""
    count, size = 70_000, 65_495
    path = long_capture(tmp_path / "long.pcap", count, size)
    talk = p.Conversation(client_isn=(2**32 - 5 + count * size) % 2**32, start_ns=p.EPOCH_NS + p.SECOND_NS)
    talk.hosts["client"].next_seq = (2**32 - 4 + count * size) % 2**32
    talk.hosts["server"].next_seq = 5001
    talk.data("client", b"the end")
    talk.ack("server")
    with path.open("ab") as file:
        file.write(p.pcap(talk, nanoseconds=True)[24:])
    (row,) = rows("--hash", path)
    assert row["c2s"]["stream_bytes"] == 7
    assert row["c2s"]["sha256"] == hashlib.sha256(b"the end").hexdigest()
    assert row["c2s"]["gap_bytes"] == count * size


def test_no_locale(tmp_path: Path) -> None:
    """The rows do not depend on the language of the terminal."""
    path = DATA / "rst.pcap"
    environment = {**os.environ, "LC_ALL": "de_DE.UTF-8", "PYTHONUTF8": "0"}
    done = subprocess.run([*COMMAND, str(path)], capture_output=True, check=True, env=environment, cwd=tmp_path)
    assert done.stdout == flows(path).stdout


# ---- cost ------------------------------------------------------------------------------------


def cost_script() -> Any:
    """Load benchmarks/ranges_cost.py."""
    spec = importlib.util.spec_from_file_location("ranges_cost", ROOT / "benchmarks" / "ranges_cost.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(bool(os.environ.get("MOS_TEST_SANITIZED")), reason="times mean nothing with sanitizers")
@pytest.mark.parametrize("order", ["forward", "reverse", "random", "every other"])
def test_cost_of_holes(order: str, tmp_path: Path) -> None:
    """A hundred thousand one-byte segments: about ten times the time of ten thousand, and little memory."""
    script = cost_script()
    for how, pair in script.measure_order(order, (10_000, 100_000), tmp_path).items():
        grows = script.exponent(*pair)
        if grows > 1.3:  # a busy machine: once more
            pair = script.measure_order(order, (10_000, 100_000), tmp_path)[how]  # noqa: PLW2901
            grows = script.exponent(*pair)
        assert grows <= 1.3, (how, pair)
        assert pair[1][1].peak_mb < 100


# ---- the document ----------------------------------------------------------------------------


def test_document() -> None:
    """docs/flows.md lists the fields in order, with the sentences of the core."""
    text = (ROOT / "docs" / "flows.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| (?:integer|text|object|true)[^|]*\| ([^|]*) \| (.*) \|$", text, re.MULTILINE)
    assert [name for name, _, _ in table] == [*ROW, *DIRECTION, "sha256"]
    source = (ROOT / "csrc" / "monitor" / "field_list.h").read_text(encoding="utf-8")
    listed = re.findall(r'^\w+_FIELD\((\w+), \w+, "([^"]*)", 1, "([^"]*)"\)', source, re.MULTILINE)
    assert [(name, unit or "-", sentence) for name, unit, sentence in listed] == [
        entry for entry in table if entry[0] not in ("schema", "c2s", "s2c", "sha256")
    ]
