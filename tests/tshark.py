"""Put tshark's tcp.analysis marks beside mos's classes, frame by frame.

python tests/tshark.py FILE... shows every frame the two see differently.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from support import monitor

import mos

MARKS = (
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "keep_alive",
    "zero_window",
    "zero_window_probe",
    "duplicate_ack",
)
# A frame may have several of these marks; mos gives one class.  The order is that of the specification.
CLASSES = (
    "zero_window_probe",
    "keep_alive",
    "spurious_retransmission",
    "fast_retransmission",
    "retransmission",
    "out_of_order",
)
# Marks that stand beside the class.
BESIDE = ("duplicate_ack", "zero_window")
SYN, FIN = 2, 1


class Verdict(NamedTuple):
    """What one of the two says of a frame: its class, and whether it counts as duplicate ACK or zero window."""

    kind: str
    duplicate_ack: bool
    zero_window: bool

    @property
    def text(self) -> str:
        """The class, and what stands beside it."""
        return "+".join([self.kind, *(name for name in BESIDE if getattr(self, name))])


class Frame(NamedTuple):
    """A segment as mos saw it, with its verdict.  `sender` and `receiver` are (address, port)."""

    number: int
    flow: int
    time_ns: int
    sender: tuple[str, int]
    receiver: tuple[str, int]
    seq: int
    length: int
    flags: int
    verdict: Verdict
    rtt_ns: int | None

    @property
    def direction(self) -> str:
        """Sender and receiver as one text."""
        return direction_text(self.sender, self.receiver)


def direction_text(sender: tuple[str, int], receiver: tuple[str, int]) -> str:
    """Give a direction as it stands in the table of differences."""
    return f"{sender[0]} {sender[1]} > {receiver[0]} {receiver[1]}"


@cache
def version() -> str:
    """Version of tshark, "" when it is not installed."""
    if shutil.which("tshark") is None:
        return ""
    said = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\b(\d+\.\d+\.\d+)\b", said)
    return found.group(1) if found else ""


def marks(path: Path) -> dict[int, frozenset[str]]:
    """Marks of every TCP frame; TCP headers quoted in ICMP errors are left out."""
    command = ["tshark", "-n", "-r", str(path), "-o", "tcp.relative_sequence_numbers:FALSE", "-T", "fields"]
    command += ["-E", "separator=|", "-E", "occurrence=l", "-e", "frame.number", "-e", "tcp.stream"]
    command += ["-e", "frame.protocols", *(word for name in MARKS for word in ("-e", f"tcp.analysis.{name}"))]
    found = {}
    for line in subprocess.run(command, capture_output=True, check=False).stdout.decode("latin-1").splitlines():
        number, stream, protocols, *values = line.split("|")
        if stream and "icmp" not in protocols:
            found[int(number)] = frozenset(name for name, value in zip(MARKS, values, strict=True) if value)
    return found


def verdict(of: frozenset[str]) -> Verdict:
    """Turn tshark's marks into one class."""
    kind = next((name for name in CLASSES if name in of), "normal")
    return Verdict(kind, "duplicate_ack" in of, "zero_window" in of)


@cache
def frames(path: Path) -> dict[int, Frame]:
    """Every frame of a flow as mos sees it, picked up in the middle too; late segments have no callback."""
    found: dict[int, Frame] = {}
    before: dict[tuple[int, int], tuple[int, int]] = {}

    def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
        packet, figures = mos.mtcp_getlastpkt(m, sock, side), mos.mtcp_getfigures(m, sock)
        own = figures.s2c if side == mos.MOS_SIDE_SVR else figures.c2s
        counts = (own.duplicate_ack, own.zero_window)
        old = before.get((sock, side), (0, 0))
        before[sock, side] = counts
        ends = mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_BOTH)
        rtts = (figures.handshake_rtt_ns, figures.c2s.rtt_min_ns, figures.s2c.rtt_min_ns)
        found[packet.number] = Frame(
            packet.number,
            figures.flow_id,
            packet.time_ns,
            ends[side],
            ends[1 - side],
            packet.seq,
            packet.payload_len,
            packet.flags,
            Verdict(packet.kind, counts[0] > old[0], counts[1] > old[1]),
            next((rtt for rtt in rtts if rtt is not None), None),
        )

    with monitor(path, midstream=True) as m:
        sock = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, note)
        mos.mtcp_app_join(m)
    return found


def differences(path: Path) -> list[tuple[Frame, str, str]]:
    """Frames that the two see differently, with what tshark and what mos says."""
    said = marks(path)
    rows = []
    for number, frame in frames(path).items():
        theirs = verdict(said.get(number, frozenset()))
        if theirs != frame.verdict:
            rows.append((frame, theirs.text, frame.verdict.text))
    return rows


class History(NamedTuple):
    """What a naive count says of a frame: how many of its numbers came before, and since when it was overtaken."""

    numbers: int
    seen: int
    overtaken_ns: int | None


def history(all_frames: dict[int, Frame], number: int) -> History:
    """Look at everything its sender sent before in the flow, one number at a time."""
    frame = all_frames[number]
    before = [f for f in all_frames.values() if f.number < number and (f.flow, f.sender) == (frame.flow, frame.sender)]
    numbers = numbers_of(frame)
    sent = {n for f in before for n in numbers_of(f)}
    above = [f.time_ns for f in before if numbers and 0 < (f.seq - frame.seq) % 2**32 < 2**31 and numbers_of(f)]
    return History(len(numbers), len(sent.intersection(numbers)), frame.time_ns - above[0] if above else None)


def numbers_of(frame: Frame) -> list[int]:
    """Sequence numbers a segment carries."""
    count = frame.length + bool(frame.flags & SYN) + bool(frame.flags & FIN)
    return [(frame.seq + i) % 2**32 for i in range(count)]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for row, theirs, ours in differences(Path(name)):
            print(f"{Path(name).name} frame {row.number}: {row.direction}: tshark {theirs}, mos {ours}")
