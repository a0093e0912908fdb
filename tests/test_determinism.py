"""The same capture gives the same events, every time: for any burst size, any hash seed, packed or not."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import packets as p
import pytest
from support import DATA, Event, Log, corpus, monitor, write

import mos

CAPTURES = sorted(path.stem for path in DATA.glob("*.pcap"))
# Other people's captures with holes, overlaps, reused ports, fragments and many flows.
OTHERS = (
    "arkime__tcp_handshake_synthetic.pcap",
    "mercury__smb.pcap",
    "ndpi__1kxun.pcap",
    "nfstream__weibo.pcap",
    "suricata__tcp-overlap.pcap",
    "zeek__ipv6-http-atomic-frag.pcap",
)
every_capture = pytest.mark.parametrize("name", CAPTURES)


class Told(NamedTuple):
    """Everything observable of a run."""

    events: list[Event]
    details: list[tuple[object, ...]]
    at_null: dict[tuple[int, str], str]
    counters: dict[str, int]


class Witness:
    """Logs all events with what can be read in them; the bytes read at MOS_NULL only as a whole."""

    def __init__(self, m: mos.Context) -> None:
        """Open a socket that reads at MOS_HK_RCV, one that reads at MOS_NULL, and a raw one."""
        self.m, self.log = m, Log(m, self.react)
        self.details: list[tuple[object, ...]] = []
        self.sums: dict[tuple[int, str], hashlib._Hash] = defaultdict(hashlib.sha256)
        self.log.listen()
        self.log.listen(wanted={mos.MOS_NULL: ("NEW_DATA",), mos.MOS_HK_RCV: ("CONN_END",)})
        self.log.listen_raw()

    def read(self, sock: int, side: int) -> bytes:
        """Read what is there; a gap is a part of what is told."""
        data = b""
        while True:
            try:
                part = mos.mtcp_peek(self.m, sock, side)
            except mos.StreamGap as gap:
                data += f"<{gap.missed} missed>".encode()
                continue
            if not part:
                return data
            data += part

    def react(self, event: Event, sock: int) -> None:
        """Take what an event has to say."""
        if event.side == "-":
            return
        side = ("CLI", "SVR").index(event.side)
        if event.name == "NEW_DATA" and event.hook == "NULL":
            self.sums[event.flow, event.side].update(self.read(sock, side))
        elif event.name == "NEW_DATA":
            self.details.append((event.packet, self.read(sock, side)))
        elif event.name == "ERROR":
            self.details.append((event.packet, mos.mtcp_getlasterror(self.m)))
        else:
            self.details.append((event.packet, event.flow, mos.mtcp_getfigures(self.m, sock)))


def told(path: Path, **options: object) -> Told:
    """Run a capture."""
    with monitor(path, midstream=True, **options) as m:
        witness = Witness(m)
        mos.mtcp_app_join(m)
    events = [e for e in witness.log.events if (e.hook, e.name) != ("NULL", "NEW_DATA")]
    sums = {key: digest.hexdigest() for key, digest in witness.sums.items()}
    counters = mos.mtcp_getcounters(m)
    del counters["callbacks"]  # NEW_DATA at MOS_NULL is grouped by bursts
    return Told(events, witness.details, sums, counters)


@cache
def first_time(path: Path) -> Told:
    """The run that others are compared with."""
    return told(path)


@every_capture
def test_twenty_times(name: str) -> None:
    """Twenty runs of one file."""
    path = DATA / f"{name}.pcap"
    assert all(told(path) == first_time(path) for _ in range(20))


@every_capture
@pytest.mark.parametrize(("burst", "seed"), [(1, 0), (3, 1), (64, 2**63 + 5), (1, 7), (64, 0)])
def test_bursts_and_seeds(name: str, burst: int, seed: int) -> None:
    """Neither the burst size nor the hash seed can be observed."""
    path = DATA / f"{name}.pcap"
    assert told(path, burst=burst, hash_seed=seed) == first_time(path)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("burst", [1, 3, 64])
def test_other_peoples_captures(name: str, burst: int) -> None:
    """The same on captures with more odd things in them."""
    path = corpus("open", name)
    assert told(path, burst=burst, hash_seed=burst) == first_time(path)


@every_capture
def test_packed(name: str, tmp_path: Path) -> None:
    """A file and the same file packed with gzip."""
    path, packed = DATA / f"{name}.pcap", tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert told(packed) == first_time(path)


def test_other_processes() -> None:
    """Another process, with another seed for Python's own hashes, writes the same rows."""
    command = [sys.executable, "-m", "mos", "flows", "--json", "--hash", "--midstream"]
    command += [str(DATA / f"{name}.pcap") for name in CAPTURES]
    said = {
        subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(said) == 1
    assert said.pop().count(b"\n") > len(CAPTURES)


def overlap(tmp_path: Path, hook: int, policy: int, burst: int) -> tuple[bytes, list[str]]:
    """Read GOOD, sent again as EVIL before anything is acknowledged: the bytes read, and the errors."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"GOOD")
    talk.data("client", b"EVIL", offset=0)
    talk.ack("server")
    read, errors = bytearray(), []

    def new_data(m: mos.Context, sock: int, side: int, _event: int) -> None:
        read.extend(mos.mtcp_peek(m, sock, side))

    def error(m: mos.Context, _sock: int, _side: int, _event: int) -> None:
        errors.append(mos.mtcp_getlasterror(m).name)

    with monitor(write(tmp_path / "overlap.pcap", talk), burst=burst) as m:
        sock = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, mos.MOS_SVROVERLAP, policy)
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_CONN_NEW_DATA, hook, new_data)
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_ERROR, mos.MOS_NULL, error)
        mos.mtcp_app_join(m)
    return bytes(read), errors


OVERLAPS = [
    (mos.MOS_HK_RCV, mos.MOS_OVERLAP_POLICY_FIRST),
    (mos.MOS_HK_RCV, mos.MOS_OVERLAP_POLICY_LAST),
    (mos.MOS_NULL, mos.MOS_OVERLAP_POLICY_FIRST),
    (mos.MOS_NULL, mos.MOS_OVERLAP_POLICY_LAST),
]


@pytest.mark.parametrize(("hook", "policy"), OVERLAPS)
def test_overlaps(tmp_path: Path, hook: int, policy: int) -> None:
    """Conflicting copies in one burst: the same bytes and the same errors as in several."""
    assert overlap(tmp_path, hook, policy, 64) == overlap(tmp_path, hook, policy, 1)
