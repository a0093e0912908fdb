"""Overlapping segments as text, as captures, and what mos delivers of them.

    "2-4 3-5 1-3F 0-1"

is the segments of one connection in the order of their arrival: offsets from the start of the
stream, in units, and F for FIN.  The first carries the letter A everywhere, the second B, and so
on, so what is delivered shows who won.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import packets as p
from support import DATA, monitor, write

import mos

GOLDEN = DATA / "kernel_overlaps.json"
FIRST_PORT = 1024
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Piece(NamedTuple):
    """A segment: offset of its first byte, its bytes, and whether it carries FIN."""

    at: int
    data: bytes
    fin: bool


def pieces(case: str, unit: int = 1) -> list[Piece]:
    """Read a case."""
    found = []
    for letter, text in zip(LETTERS, case.split(), strict=False):
        start, end = (int(number) for number in text.rstrip("F").split("-"))
        found.append(Piece(start * unit, letter.encode() * ((end - start) * unit), text.endswith("F")))
    return found


def spans(first: int, last: int) -> list[str]:
    """All segments inside [first, last)."""
    return [f"{start}-{end}" for start, end in itertools.combinations(range(first, last + 1), 2)]


def all_of(count: int, first: int, last: int, *, fill: str = "") -> Iterator[str]:
    """Every sequence of `count` segments inside [first, last), and then `fill`."""
    for chosen in itertools.product(spans(first, last), repeat=count):
        yield " ".join((*chosen, fill)).rstrip()


def at_random(source: random.Random, count: int, width: int, *, fins: bool = False) -> str:
    """`count` segments inside [0, width), mostly short; one of them fills the first byte."""
    chosen = []
    for _ in range(count):
        start = source.randrange(1, width)
        end = min(start + source.choice((1, 2, 3, width)), source.randrange(start + 1, width + 1))
        chosen.append(f"{start}-{end}" + ("F" if fins and end == width and source.random() < 0.5 else ""))
    chosen.insert(source.choice((count, count, source.randrange(count + 1))), f"0-{source.choice((1, 1, 1, 2, 3))}")
    return " ".join(chosen)


def capture(path: Path, cases: Sequence[str], unit: int) -> Path:
    """Write a connection for every case, one after the other; the client's port is its number."""
    frames: list[tuple[int, bytes]] = []
    for number, case in enumerate(cases):
        isn = -number % 5 - 3 if number % 2 else 1000 * number
        start_ns = p.EPOCH_NS + number * p.SECOND_NS // 100
        talk = p.Conversation(
            ("192.0.2.1", FIRST_PORT + number), client_isn=isn % p.SEQ_MODULUS, start_ns=start_ns, step_ns=1000
        )
        talk.handshake()
        for piece in pieces(case, unit):
            flags = p.ACK | p.PSH | (p.FIN if piece.fin else 0)
            talk.send("client", flags, piece.data, seq=talk.seq_of("client", piece.at))
        frames.extend(talk)
    return write(path, frames)


def delivered_by_port(path: Path, policy: int, *, at_once: bool = True, **options: object) -> dict[int, bytes]:
    """Run a capture; give what the server of every client port was delivered."""
    got: dict[int, bytes] = {}

    def read(m: mos.Context, sock: int, side: int, _event: int) -> None:
        if side == mos.MOS_SIDE_SVR:
            port = mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_CLI)[1]
            while data := mos.mtcp_peek(m, sock, side, 1 << 16):
                got[port] = got.get(port, b"") + data

    with monitor(path, **options) as m:
        listening = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_setsockopt(m, listening, mos.SOL_MONSOCKET, mos.MOS_SVROVERLAP, policy)
        mos.mtcp_setsockopt(m, listening, mos.SOL_MONSOCKET, mos.MOS_SVRBUF, 1 << 16)
        event = mos.MOS_ON_CONN_NEW_DATA if at_once else mos.MOS_ON_CONN_END
        mos.mtcp_register_callback(m, listening, event, mos.MOS_HK_RCV, read)
        mos.mtcp_app_join(m)
    return got


def delivered(
    folder: Path, cases: Sequence[str], policy: int, *, unit: int = 1, at_once: bool = True, **options: object
) -> list[bytes]:
    """Run cases through mos; give what each delivers to the server."""
    path = capture(folder / "overlaps.pcap", cases, unit)
    got = delivered_by_port(path, policy, at_once=at_once, **options)
    return [got.get(FIRST_PORT + number, b"") for number in range(len(cases))]
