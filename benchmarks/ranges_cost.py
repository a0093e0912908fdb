"""Cost of reassembly: one-byte segments in several orders, up to a million holes.

python benchmarks/ranges_cost.py [COUNT...] prints, for each order and count, the time of a run that hashes the stream
(as mos flows --hash does) and of one whose socket reads it, with the peak memory; and how time grows with the count
(exponent 1 = cost per packet does not depend on the number of holes).  Exit 1 when it grows faster than 1.15.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import mos

COUNTS = (10_000, 100_000, 1_000_000)
LIMIT = 1.15
ISN, SERVER_ISN = 0xFFFF0000, 1000
SYN, RST, ACK = 2, 4, 16
WINDOW_SCALE = bytes([3, 3, 14, 1])


def every_other(count: int) -> list[int]:
    """The even places, then the odd ones: half as many holes as bytes."""
    return [*range(0, count, 2), *range(1, count, 2)]


def shuffled(count: int) -> list[int]:
    """Any order, the same each time."""
    places = list(range(count))
    random.Random(1).shuffle(places)  # noqa: S311 - repeatable on purpose
    return places


ORDERS: dict[str, Callable[[int], Iterable[int]]] = {
    "forward": range,
    "reverse": lambda count: range(count - 1, -1, -1),
    "random": shuffled,
    "every other": every_other,
}


def frame(*, up: bool, flags: int, ack: int, payload: bytes = b"", options: bytes = b"") -> bytearray:
    """Make an Ethernet frame; checksums are left 0, captures have such frames as a rule."""
    ports = (40000, 80) if up else (80, 40000)
    ends = (b"\xc0\0\2\1", b"\xc6\x33\x64\1") if up else (b"\xc6\x33\x64\1", b"\xc0\0\2\1")
    header = 20 + len(options)
    tcp = struct.pack("!HHIIBBHHH", *ports, 0, ack, header // 4 << 4, flags, 65535, 0, 0) + options + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, *ends)
    return bytearray(bytes(12) + b"\x08\0" + ip + tcp)


def byte_at(place: int) -> int:
    """Give the byte of the stream at a place."""
    return (place * 7 + (place >> 8)) & 255


def stream(count: int) -> bytes:
    """Give the whole stream."""
    return bytes(byte_at(place) for place in range(count))


def write_capture(path: Path, order: str, count: int) -> None:
    """Write the connection: handshake, the bytes one by one, an acknowledgement of all."""
    parts = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
    now = 0

    def add(packet: bytearray, seq: int) -> None:
        nonlocal now
        now += 100
        struct.pack_into("!I", packet, 38, seq % 2**32)
        parts.append(struct.pack("<IIII", 1_700_000_000 + now // 10**9, now % 10**9, len(packet), len(packet)))
        parts.append(bytes(packet))

    add(frame(up=True, flags=SYN, ack=0, options=WINDOW_SCALE), ISN)
    add(frame(up=False, flags=SYN | ACK, ack=ISN + 1, options=WINDOW_SCALE), SERVER_ISN)
    add(frame(up=True, flags=ACK, ack=SERVER_ISN + 1), ISN + 1)
    add(frame(up=False, flags=ACK, ack=ISN + 1), SERVER_ISN + 1)  # the window of a SYN/ACK is not scaled
    packet = frame(up=True, flags=ACK, ack=SERVER_ISN + 1, payload=b"x")
    for place in ORDERS[order](count):
        packet[-1] = byte_at(place)
        add(packet, ISN + 1 + place)
    add(frame(up=False, flags=ACK, ack=(ISN + 1 + count) % 2**32), SERVER_ISN + 1)
    path.write_bytes(b"".join(parts))


class Cost(NamedTuple):
    """What a run took."""

    seconds: float
    peak_mb: float
    sha256: str


def peak_mb() -> float:
    """Give the most memory this process had (ru_maxrss begins with the parent's)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found.group(1)) / 1024 if found else math.nan


def run(path: str, how: str) -> Cost:
    """Run a capture in this process, "hash" or "read"."""
    digest = hashlib.sha256()

    def read(m: mos.Context, sock: int, side: int, _event: int) -> None:
        digest.update(mos.mtcp_peek(m, sock, side))

    mos.mtcp_init(source=path)
    m = mos.mtcp_create_context(0)
    sock = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    if how == "hash":
        m.rows_on(as_json=True, hashes=True)
    else:
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_NULL, read)
    start = time.perf_counter()
    mos.mtcp_app_join(m)
    seconds = time.perf_counter() - start
    sha = json.loads(m.rows())["c2s"]["sha256"] if how == "hash" else digest.hexdigest()
    mos.mtcp_destroy()
    return Cost(seconds, peak_mb(), sha)


def measure(path: Path, how: str, repeat: int = 3) -> Cost:
    """Run a capture in processes of its own; the fastest counts."""
    command = [sys.executable, __file__, "--run", str(path), how]
    runs = []
    for _ in range(repeat):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(Cost(*json.loads(done.stdout)))
    return min(runs)


def exponent(small: tuple[int, Cost], large: tuple[int, Cost]) -> float:
    """How time grows between two counts."""
    return math.log(large[1].seconds / small[1].seconds) / math.log(large[0] / small[0])


def measure_order(order: str, counts: Iterable[int], folder: Path) -> dict[str, list[tuple[int, Cost]]]:
    """Measure one order; what was delivered is checked."""
    costs: dict[str, list[tuple[int, Cost]]] = {"hash": [], "read": []}
    for count in counts:
        path = folder / "capture.pcap"
        write_capture(path, order, count)
        wanted = hashlib.sha256(stream(count)).hexdigest()
        for how, found in costs.items():
            cost = measure(path, how)
            if cost.sha256 != wanted:
                raise SystemExit(f"{order}, {count} bytes, {how}: the delivered bytes are not those sent")
            found.append((count, cost))
    return costs


def main(counts: list[int]) -> int:
    """Print the table."""
    worst = 0.0
    print(f"{'order':12} {'how':5} {'bytes':>9} {'seconds':>9} {'ns/packet':>10} {'peak MB':>8} {'exponent':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for order in ORDERS:
            for how, found in measure_order(order, counts, Path(folder)).items():
                for i, (count, cost) in enumerate(found):
                    grows = exponent(found[i - 1], found[i]) if i else None
                    worst = max(worst, grows or 0) if i == len(found) - 1 else worst
                    each = cost.seconds / count * 1e9
                    line = f"{order:12} {how:5} {count:9} {cost.seconds:9.3f} {each:10.0f} {cost.peak_mb:8.0f}"
                    print(line + (f" {grows:9.2f}" if grows is not None else ""), flush=True)
    return int(worst > LIMIT)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(run(sys.argv[2], sys.argv[3])))
    else:
        sys.exit(main([int(argument) for argument in sys.argv[1:]] or list(COUNTS)))
