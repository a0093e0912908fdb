"""Count a capture in the plainest way there is, and compare the count with tshark's.

    python3 tests/data/count_truth.py tests/data/*.pcap            # print the counts
    python3 tests/data/count_truth.py --tshark tests/data/*.pcap   # and where tshark differs
    python3 tests/data/count_truth.py --check tests/data/*.pcap    # compare with the .json files
    python3 tests/data/count_truth.py --write tests/data/*.pcap    # renew the counts in them

This is the yardstick of the monitor's tests, so it shares no code with the monitor and is
naive on purpose: one Python set per sender holds every sequence number the capture has shown.
A segment is a retransmission (`rexmit`) when a number it carries is already in the set.  SYN
and FIN carry one number each, payload one per byte; RST and pure ACK segments carry none.
Fit for small captures without IP fragments and tunnels, and with less than 4 GiB a direction.
"""

from __future__ import annotations

import argparse
import hashlib
import ipaddress
import json
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FIN, SYN, RST, ACK = 1, 2, 4, 16
MODULUS = 1 << 32
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
ETHERTYPE_VLANS = (0x8100, 0x88A8, 0x9100)
PROTOCOL_TCP = 6
PCAP_US, PCAP_NS = 0xA1B2C3D4, 0xA1B23C4D
TSHARK_MARKS = (
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "keep_alive",
    "zero_window_probe",
    "zero_window",
    "duplicate_ack",
    "lost_segment",
)

Endpoint = tuple[str, int]


class Frame(NamedTuple):
    """One record of a capture file; `number` counts from 1."""

    number: int
    time_ns: int
    wire_len: int
    raw: bytes


class Segment(NamedTuple):
    """The parts of a TCP segment that the count needs."""

    frame: Frame
    source: Endpoint
    target: Endpoint
    seq: int
    flags: int
    window: int
    payload: bytes


@dataclass
class Sender:
    """Everything one host sent in one flow."""

    isn: int | None = None
    highest: int | None = None
    seen: set[int] = field(default_factory=set)
    stream: dict[int, int] = field(default_factory=dict)
    rexmit_frames: list[int] = field(default_factory=list)
    hole_filler_frames: list[int] = field(default_factory=list)
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("packets", "wire_bytes", "payload_bytes", "syn", "fin", "rst", "zero_window"), 0
        )
    )

    def add(self, segment: Segment) -> None:
        """Count one segment."""
        self._add_totals(segment)
        if segment.flags & RST:
            return
        if segment.flags & SYN and self.isn is None:
            self.isn = segment.seq
        numbers = self._numbers(segment)
        if not numbers:
            return
        number = segment.frame.number
        if any(value in self.seen for value in numbers):
            self.rexmit_frames.append(number)
        elif self.highest is not None and not _after(numbers[0], self.highest):
            self.hole_filler_frames.append(number)
        if self.highest is None or _after(numbers[-1], self.highest):
            self.highest = numbers[-1]
        self.seen.update(numbers)
        first = segment.seq + (1 if segment.flags & SYN else 0)
        for index, byte in enumerate(segment.payload):
            self.stream.setdefault((first + index) % MODULUS, byte)

    def _add_totals(self, segment: Segment) -> None:
        totals = self.totals
        totals["packets"] += 1
        totals["wire_bytes"] += segment.frame.wire_len
        totals["payload_bytes"] += len(segment.payload)
        for name, flag in (("syn", SYN), ("fin", FIN), ("rst", RST)):
            totals[name] += bool(segment.flags & flag)
        totals["zero_window"] += segment.window == 0 and not segment.flags & (SYN | FIN | RST)

    @staticmethod
    def _numbers(segment: Segment) -> list[int]:
        length = len(segment.payload) + bool(segment.flags & SYN) + bool(segment.flags & FIN)
        return [(segment.seq + index) % MODULUS for index in range(length)]

    def contiguous(self) -> bytes:
        """Give the stream from ISN + 1 up to the first byte that never came past."""
        result = bytearray()
        position = 0 if self.isn is None else (self.isn + 1) % MODULUS
        while position in self.stream:
            result.append(self.stream[position])
            position = (position + 1) % MODULUS
        return bytes(result)

    def report(self) -> dict[str, Any]:
        """Give the figures of this direction."""
        contiguous = self.contiguous()
        return {
            **self.totals,
            "isn": self.isn,
            "stream_bytes": len(self.stream),
            "contiguous_bytes": len(contiguous),
            "contiguous_sha256": hashlib.sha256(contiguous).hexdigest(),
            "rexmit": len(self.rexmit_frames),
            "rexmit_frames": self.rexmit_frames,
            "hole_filler_frames": self.hole_filler_frames,
        }


@dataclass
class Flow:
    """One connection: the client is the host that sent the first SYN."""

    client: Endpoint
    server: Endpoint
    first_ns: int
    last_ns: int = 0
    senders: dict[Endpoint, Sender] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """Give the figures of the flow."""
        return {
            "client": list(self.client),
            "server": list(self.server),
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
            "client_to_server": self.senders[self.client].report(),
            "server_to_client": self.senders[self.server].report(),
        }


def _after(left: int, right: int) -> bool:
    """Say whether `left` comes after `right` on the 32-bit circle."""
    return 0 < (left - right) % MODULUS < MODULUS // 2


def read_pcap(path: Path) -> Iterator[Frame]:
    """Read the records of a classic pcap file of link type Ethernet, either byte order, us or ns."""
    raw = path.read_bytes()
    for order in "<>":
        magic = struct.unpack_from(order + "I", raw)[0]
        if magic in (PCAP_US, PCAP_NS):
            break
    else:
        raise ValueError(f"{path}: not a pcap file")
    if struct.unpack_from(order + "I", raw, 20)[0] & 0xFFFF != 1:
        raise ValueError(f"{path}: link type is not Ethernet")
    unit = 1 if magic == PCAP_NS else 1000
    position, number = 24, 0
    while position < len(raw):
        seconds, fraction, kept, wire = struct.unpack_from(order + "4I", raw, position)
        position += 16
        number += 1
        time_ns = seconds * 10**9 + fraction * unit
        yield Frame(number, time_ns, wire, raw[position : position + kept])
        position += kept


def parse(frame: Frame) -> Segment | None:
    """Find the TCP segment in a frame; None when it holds none."""
    raw, position = frame.raw, 12
    while int.from_bytes(raw[position : position + 2], "big") in ETHERTYPE_VLANS:
        position += 4
    ethertype, ip = int.from_bytes(raw[position : position + 2], "big"), position + 2
    if ethertype == ETHERTYPE_IPV4 and raw[ip + 9] == PROTOCOL_TCP:
        tcp, end = ip + (raw[ip] & 15) * 4, ip + int.from_bytes(raw[ip + 2 : ip + 4], "big")
        addresses = raw[ip + 12 : ip + 16], raw[ip + 16 : ip + 20]
    elif ethertype == ETHERTYPE_IPV6 and raw[ip + 6] == PROTOCOL_TCP:
        tcp, end = ip + 40, ip + 40 + int.from_bytes(raw[ip + 4 : ip + 6], "big")
        addresses = raw[ip + 8 : ip + 24], raw[ip + 24 : ip + 40]
    else:
        return None
    source, target = (str(ipaddress.ip_address(address)) for address in addresses)
    sport, dport, seq, _, offset, flags, window = struct.unpack_from("!HHIIBBH", raw, tcp)
    payload = raw[tcp + (offset >> 4) * 4 : end]
    return Segment(frame, (source, sport), (target, dport), seq, flags, window, payload)


def flows_of(path: Path) -> tuple[list[Flow], dict[str, int]]:
    """Find all flows of a capture in the order they began, and how many frames were what."""
    flows: list[Flow] = []
    current: dict[frozenset[Endpoint], Flow] = {}
    frames = {"packets": 0, "tcp_packets": 0, "orphan_tcp_packets": 0}
    for frame in read_pcap(path):
        frames["packets"] += 1
        segment = parse(frame)
        if segment is None:
            continue
        frames["tcp_packets"] += 1
        key = frozenset((segment.source, segment.target))
        flow = current.get(key)
        if segment.flags & (SYN | ACK) == SYN and _is_new(flow, segment):
            flow = current[key] = Flow(segment.source, segment.target, frame.time_ns)
            flow.senders = {segment.source: Sender(), segment.target: Sender()}
            flows.append(flow)
        if flow is None:
            frames["orphan_tcp_packets"] += 1
            continue
        flow.last_ns = frame.time_ns
        flow.senders[segment.source].add(segment)
    return flows, frames


def _is_new(flow: Flow | None, syn: Segment) -> bool:
    """Say whether a SYN opens a flow: not if it repeats, or answers (simultaneous open), an earlier one."""
    return flow is None or flow.senders[syn.source].isn not in (None, syn.seq)


def count(path: Path) -> dict[str, Any]:
    """Count a capture; the result is ready for JSON."""
    flows, frames = flows_of(path)
    reports = [flow.report() for flow in flows]
    directions = [r[d] for r in reports for d in ("client_to_server", "server_to_client")]
    return {
        "capture": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **frames,
        "flow_count": len(flows),
        "rexmit": sum(direction["rexmit"] for direction in directions),
        "hole_fillers": sum(len(direction["hole_filler_frames"]) for direction in directions),
        "flows": reports,
    }


def summary(truth: dict[str, Any]) -> str:
    """Give a few lines for people."""
    head = (
        f"{truth['capture']}: {truth['packets']} packets ({truth['tcp_packets']} TCP), "
        f"{truth['flow_count']} flows, {truth['rexmit']} rexmits, {truth['hole_fillers']} hole fillers"
    )
    lines = [head]
    for flow in truth["flows"]:
        up, down = flow["client_to_server"], flow["server_to_client"]
        host = "{}.{} > {}.{}".format(*flow["client"], *flow["server"])
        lines.append(
            f"  {host:52s} packets {up['packets']:3d}/{down['packets']:3d} "
            f"payload {up['payload_bytes']:6d}/{down['payload_bytes']:6d} "
            f"rexmit {up['rexmit']:2d}/{down['rexmit']:2d} fillers "
            f"{len(up['hole_filler_frames'])}/{len(down['hole_filler_frames'])}"
        )
    return "\n".join(lines)


def tshark_marks(path: Path) -> dict[str, list[int]]:
    """Ask tshark for the frame numbers by its tcp.analysis flags."""
    command = ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.number"]
    for mark in TSHARK_MARKS:
        command += ["-e", f"tcp.analysis.{mark}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    marks: dict[str, list[int]] = {mark: [] for mark in TSHARK_MARKS}
    for line in text.splitlines():
        number, *values = line.split("\t")
        for mark, value in zip(TSHARK_MARKS, values, strict=True):
            if value:
                marks[mark].append(int(number))
    return marks


def compare_with_tshark(path: Path, truth: dict[str, Any]) -> list[str]:
    """Give one line per frame that only one of the two calls a retransmission."""
    marks = tshark_marks(path)
    directions = [f[d] for f in truth["flows"] for d in ("client_to_server", "server_to_client")]
    ours = {number for direction in directions for number in direction["rexmit_frames"]}
    fillers = {number for direction in directions for number in direction["hole_filler_frames"]}
    theirs = set(marks["retransmission"])
    counts = ", ".join(f"{mark} {len(frames)}" for mark, frames in marks.items() if frames)
    lines = [f"  tshark: {counts}; both call {len(ours & theirs)} frames retransmissions"]
    for number in sorted(ours ^ theirs):
        said = [mark for mark, frames in marks.items() if number in frames]
        mine = "rexmit" if number in ours else "hole filler" if number in fillers else "nothing"
        lines.append(f"  frame {number}: here {mine}; tshark {', '.join(said) or 'nothing'}")
    return lines


def write(path: Path, **extra: object) -> dict[str, Any]:
    """Write the truth beside a capture, with tshark's marks and `extra`; keep other old keys."""
    target, truth = path.with_suffix(".json"), count(path)
    stored = json.loads(target.read_text()) if target.exists() else {}
    if shutil.which("tshark"):
        version = subprocess.run(["tshark", "-v"], check=True, capture_output=True, text=True).stdout
        extra["tshark"] = {"version": version.split()[2], "frames": tshark_marks(path)}
    target.write_text(_json({**stored, **truth, **extra}) + "\n")
    return truth


def _json(value: object) -> str:
    """Indented JSON with lists of numbers on one line."""
    text = json.dumps(value, indent=1)
    return re.sub(r"\[[\s\d,]*\]", lambda match: re.sub(r"\s+", " ", match[0]), text)


def check(path: Path, truth: dict[str, Any]) -> list[str]:
    """Say how the stored .json file, and what the applications saw, differ from the count."""
    stored = json.loads(path.with_suffix(".json").read_text())
    wrong = [f"`{name}` differs" for name, value in truth.items() if stored.get(name) != value]
    flows = {flow["client"][1]: flow for flow in truth["flows"]}
    for visit in stored.get("visits", []):
        port = visit["client_port"]
        for name, direction in (("sent", "client_to_server"), ("received", "server_to_client")):
            digest = visit[f"{name}_sha256"]
            if digest not in (None, flows[port][direction]["contiguous_sha256"]):
                wrong.append(f"the client on port {port} {name} other bytes")
    return [f"{path}: {line}" for line in wrong]


def main() -> int:
    """Count the captures named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", nargs="+", type=Path)
    parser.add_argument("--tshark", action="store_true", help="list differences to tshark")
    parser.add_argument("--check", action="store_true", help="fail if a .json file disagrees")
    parser.add_argument("--write", action="store_true", help="renew the .json files")
    arguments = parser.parse_args()
    if arguments.tshark and not shutil.which("tshark"):
        parser.error("tshark is not installed")
    failed = False
    for path in arguments.captures:
        truth = count(path)
        print(summary(truth))
        if arguments.tshark:
            print("\n".join(compare_with_tshark(path, truth)))
        if arguments.write:
            write(path)
        if arguments.check and (wrong := check(path, truth)):
            print("\n".join(wrong), file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
