"""Overlap policies through the whole monitor: which copy of a byte that came twice is delivered."""

from __future__ import annotations

import csv
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import overlap_cases as oc
import packets as p
import pytest
from support import corpus, monitor, write

import mos

FIRST, LAST = mos.MOS_OVERLAP_POLICY_FIRST, mos.MOS_OVERLAP_POLICY_LAST
LINUX, BSD = mos.MOS_OVERLAP_POLICY_LINUX, mos.MOS_OVERLAP_POLICY_BSD
WINDOWS, SOLARIS = mos.MOS_OVERLAP_POLICY_WINDOWS, mos.MOS_OVERLAP_POLICY_SOLARIS
POLICIES = {"first": FIRST, "last": LAST, "linux": LINUX, "bsd": BSD, "windows": WINDOWS, "solaris": SOLARIS}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)

# ---- naive models ----------------------------------------------------------------------------


def model(case: str, *, last: bool) -> bytes:
    """Deliver by an array of bytes: the first copy stays, or the last."""
    stored: dict[int, int] = {}
    for piece in oc.pieces(case):
        for at, byte in enumerate(piece.data, piece.at):
            if last or at not in stored:
                stored[at] = byte
    return bytes(stored[at] for at in itertools.takewhile(stored.__contains__, itertools.count()))


TRIPLES = [*oc.all_of(3, 1, 5, fill="0-1"), *oc.all_of(3, 0, 4)]


@pytest.mark.parametrize(("policy", "at_once"), [(FIRST, True), (FIRST, False), (LAST, False)])
def test_every_triple_is_the_models(tmp_path: Path, policy: int, *, at_once: bool) -> None:
    """First and last, for all triples of a window, in a hole and not."""
    expected = [model(case, last=policy == LAST) for case in TRIPLES]
    assert oc.delivered(tmp_path, TRIPLES, policy, at_once=at_once) == expected


def test_last_never_changes_what_was_read(tmp_path: Path) -> None:
    """Bytes that the reader has are its own, whatever comes later."""
    cases = ["0-3 1-4", "2-4 0-3 1-6", "0-2 0-2 2-3"]
    assert oc.delivered(tmp_path, cases, LAST, burst=1) == [b"AAAB", b"BBBACC", b"AAC"]


# ---- Linux: answers of a real kernel ---------------------------------------------------------


@pytest.mark.parametrize("burst", [1, 64])
def test_linux_is_the_recorded_kernel(tmp_path: Path, burst: int) -> None:
    """All recorded cases, FIN included (tests/live/test_overlap_kernel.py asks the running kernel)."""
    rows = [row.split(" = ") for row in json.loads(oc.GOLDEN.read_text(encoding="utf-8"))["cases"]]
    found = oc.delivered(tmp_path, [case for case, _ in rows], LINUX, burst=burst)
    different = [(row, got) for row, got in zip(rows, found, strict=True) if row[1].encode() != got]
    assert not different, different[:5]


# ---- the corpus: what others say -------------------------------------------------------------

# OpenSolaris' own source is what policy solaris follows; suricata keeps segments uncut, takes an equal
# one for a follower, and meets the preceding segment first.
SOLARIS_IS_NOT_SURICATA = {
    "equals/hole": "-AA",
    "triple021/hole": "-AABB",
    "triple120/hole": "-CCBB",
    "triple201/hole": "-BBAA",
    "triple210/hole": "-CCAA",
}


def units(data: bytes) -> str:
    """One letter for each 4-byte unit."""
    assert all(len(set(data[at : at + 4])) == 1 for at in range(0, len(data), 4))
    return data[::4].decode()


@pytest.mark.parametrize(
    ("policy", "column", "at_once", "other"),
    [
        (FIRST, "ideal-first", True, {}),
        (FIRST, "ideal-first", False, {}),
        (LAST, "ideal-last", False, {}),
        (LINUX, "linux-kernel-6.18", True, {}),
        (LINUX, "linux-kernel-6.18", False, {}),
        (BSD, "suricata-bsd", True, {}),
        (WINDOWS, "suricata-windows", True, {}),
        (WINDOWS, "suricata-windows2k3", True, {}),
        (FIRST, "suricata-vista", True, {}),
        (SOLARIS, "suricata-solaris", True, SOLARIS_IS_NOT_SURICATA),
    ],
)
def test_corpus(policy: int, column: str, at_once: bool, other: dict[str, str]) -> None:  # noqa: FBT001
    """The 24 cases of overlap/cases_eth.pcap."""
    with corpus("overlap", "policies.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    got = oc.delivered_by_port(corpus("overlap", "cases_eth.pcap"), policy, at_once=at_once)
    found = {row["case"]: units(got[int(row["client_port"])]) for row in rows}
    assert len(found) == 24
    assert found == {row["case"]: row[column] for row in rows} | other
    assert all(row[column] != other.get(row["case"], "") for row in rows)


# ---- what holds for every policy -------------------------------------------------------------


@every_policy
def test_without_conflicts_all_policies_agree(tmp_path: Path, policy: int) -> None:
    """Bytes sent twice with the same values are the stream, in whatever order they come."""
    source, data = random.Random(1), random.Random(2).randbytes(3000)
    talks = []
    for number in range(40):
        talk = p.Conversation(("192.0.2.1", 2000 + number), start_ns=p.EPOCH_NS + number * p.SECOND_NS)
        talk.handshake()
        spans = [(at, at + source.randrange(20, 200)) for at in range(0, 3000, 20) for _ in range(2)]
        source.shuffle(spans)
        for start, end in spans:
            talk.data("client", data[start:end], offset=start)
        talks.append(talk)
    path = write(tmp_path / "same.pcap", [frame for talk in talks for frame in talk])
    assert set(oc.delivered_by_port(path, policy).values()) == {data}


@every_policy
def test_what_was_delivered_stays(tmp_path: Path, policy: int) -> None:
    """Reading at once or at the end is the same, except for policy last."""
    source = random.Random(3)
    cases = [oc.at_random(source, 6, 8) for _ in range(500)]
    at_end = oc.delivered(tmp_path, cases, policy, at_once=False, burst=1)
    assert (oc.delivered(tmp_path, cases, policy, at_once=True, burst=1) == at_end) == (policy != LAST)


@every_policy
def test_conflicts_are_reported_before_anything_changes(tmp_path: Path, policy: int) -> None:
    """ERROR names the first byte that differs; the stored ones can still be read."""
    path, found = oc.capture(tmp_path / "conflict.pcap", ["2-6 1-7 4-5 0-1"], 1), []

    def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
        error = mos.mtcp_getlasterror(m)
        found.append((error.offset, error.length, mos.mtcp_ppeek(m, sock, side, 9, error.offset)[:1]))

    with monitor(path) as m:
        listening = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_setsockopt(m, listening, mos.SOL_MONSOCKET, mos.MOS_SVROVERLAP, policy)
        mos.mtcp_setsockopt(m, listening, mos.SOL_MONSOCKET, mos.MOS_SVRBUF, 4096)
        mos.mtcp_register_callback(m, listening, mos.MOS_ON_ERROR, mos.MOS_HK_RCV, note)
        mos.mtcp_app_join(m)
    kept = b"A" if policy == FIRST else b"B"
    assert found == [(2, 4, b"A"), (4, 1, kept)]


def run_switching(path: Path, when: Callable[[int], bool], policy: int) -> bytes:
    """Set the policy on the flow's socket at the packet that `when` names; give what is delivered."""
    got, number = b"", itertools.count(1)

    def on_packet(m: mos.Context, sock: int, _side: int, _event: int) -> None:
        if when(next(number)):
            mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, mos.MOS_SVROVERLAP, policy)

    def on_data(m: mos.Context, sock: int, side: int, _event: int) -> None:
        nonlocal got
        got += mos.mtcp_peek(m, sock, side, 100)

    with monitor(path) as m:
        listening = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, listening, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, on_packet)
        mos.mtcp_register_callback(m, listening, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, on_data)
        mos.mtcp_app_join(m)
    return got


def test_a_flow_has_its_own_policy(tmp_path: Path) -> None:
    """Set on a flow's socket, also while segments wait, it decides about what comes from then on."""
    path = oc.capture(tmp_path / "flow.pcap", ["2-4 1-5 1-5 0-1"], 1)
    assert run_switching(path, lambda _: False, LAST) == b"DBAAB"
    assert run_switching(path, lambda number: number == 1, LAST) == b"DCCCC"
    assert run_switching(path, lambda number: number == 1, LINUX) == b"DBBBB"
    assert run_switching(path, lambda number: number == 6, LAST) == b"DCCCC"


def test_each_side_has_its_own_policy(tmp_path: Path) -> None:
    """MOS_CLIOVERLAP is for what the client receives, MOS_SVROVERLAP for what the server receives."""
    talk, got = p.Conversation(), {mos.MOS_SIDE_CLI: b"", mos.MOS_SIDE_SVR: b""}
    talk.handshake()
    for piece in oc.pieces("2-4 1-5 0-1"):
        talk.data("client", piece.data, offset=piece.at)
        talk.data("server", piece.data, offset=piece.at)

    def on_data(m: mos.Context, sock: int, side: int, _event: int) -> None:
        got[side] += mos.mtcp_peek(m, sock, side, 100)

    with monitor(write(tmp_path / "sides.pcap", talk)) as m:
        listening = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_setsockopt(m, listening, mos.SOL_MONSOCKET, mos.MOS_CLIOVERLAP, BSD)
        mos.mtcp_register_callback(m, listening, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, on_data)
        mos.mtcp_app_join(m)
    assert got == {mos.MOS_SIDE_CLI: b"CBBBB", mos.MOS_SIDE_SVR: b"CBAAB"}
