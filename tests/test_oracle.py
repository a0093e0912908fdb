"""mos flows says of captures made by other people what tshark and a byte map say; each difference is explained.

tests/data/oracle_differences.json lists every frame that tshark sees differently, with the reason (docs/oracle.md).
A difference that is new, or one that is gone, fails.  What the specification asks for and mos does not do yet is in
BUGS, and is expected to fail.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tshark
from support import DATA, ROOT, corpus

COUNTS = {"packets": "packets", "payload": "payload_bytes", "syn": "syn", "fin": "fin", "rst": "rst"}
RETRANSMISSIONS = ("retransmission", "fast_retransmission", "spurious_retransmission")
OTHER_CLASSES = ("out_of_order", "keep_alive", "zero_window_probe")
BUGS: dict[str, dict[str, str]] = {
    "classes": {},
    "stream_bytes": {
        "tcptrace__urgent.dmp": "stream_bytes leaves out the byte of a probe that was not acknowledged",
    },
}

Figures = dict[str, Any]


@cache
def manifest() -> dict[str, dict[str, str]]:
    """Rows of MANIFEST.tsv by file name."""
    with corpus("MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        return {Path(row["file"]).name: row for row in csv.DictReader(file, delimiter="\t")}


@cache
def table() -> dict[str, Any]:
    """The differences that are known."""
    found: dict[str, Any] = json.loads((DATA / "oracle_differences.json").read_text(encoding="utf-8"))
    return found


@cache
def rows(name: str) -> list[dict[str, Any]]:
    """Rows of mos flows."""
    command = [sys.executable, "-m", "mos", "flows", "--midstream", "--hash", "--json", str(corpus("open", name))]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


def directions(row: dict[str, Any]) -> Iterable[tuple[str, Figures]]:
    """The two directions of a row, as text and figures."""
    ends = (row["client"], row["client_port"]), (row["server"], row["server_port"])
    yield tshark.direction_text(*ends), row["c2s"]
    yield tshark.direction_text(*reversed(ends)), row["s2c"]


def ours(name: str) -> dict[str, list[Figures]]:
    """Figures by direction, in order of the flows; directions without a segment are left out."""
    found: dict[str, list[Figures]] = defaultdict(list)
    for row in rows(name):
        for direction, figures in directions(row):
            if figures["packets"]:
                found[direction].append(figures)
    return found


@cache
def oracle(name: str) -> dict[str, list[Figures]]:
    """The oracle's sides by direction, in order of the streams."""
    found: dict[str, list[Figures]] = defaultdict(list)
    for stream in json.loads(corpus("oracle", name + ".json").read_text(encoding="utf-8"))["stream"]:
        for side in stream["sides"]:
            direction = tshark.direction_text((side["src"], side["sport"]), (side["dst"], side["dport"]))
            if side["packets"]:
                found[direction].append(side)
    return found


def sums(found: dict[str, list[Figures]], keys: Iterable[str]) -> dict[str, Counter[str]]:
    """Add figures up by direction; zeros are left out."""
    return {direction: Counter({k: sum(f[k] for f in all_) for k in keys}) for direction, all_ in found.items()}


def parameters(what: str) -> list[Any]:
    """Every capture with TCP, expected to fail where there is a bug."""
    names = sorted(name for name, row in manifest().items() if row["tier"] != "D")
    bugs = BUGS.get(what, {})
    marks = {name: [pytest.mark.xfail(reason=reason, strict=True)] for name, reason in bugs.items()}
    return [pytest.param(name, marks=marks.get(name, [])) for name in names]


def known(name: str, list_name: str = "frames") -> list[dict[str, Any]]:
    """Known differences of a capture."""
    return [entry for entry in table()[list_name] if entry["file"] == name]


@pytest.mark.parametrize("name", parameters("counts"))
def test_counts(name: str) -> None:
    """Packets, payload and flags of every direction of every 4-tuple; as many flows as streams."""
    theirs, mine = oracle(name), ours(name)
    renamed = {d: [{key: f[own] for key, own in COUNTS.items()} for f in all_] for d, all_ in mine.items()}
    assert sums(renamed, COUNTS) == sums(theirs, COUNTS)
    assert {d: len(all_) for d, all_ in mine.items()} == {d: len(all_) for d, all_ in theirs.items()}


def expected_classes(name: str) -> dict[str, Counter[str]]:
    """Counts of tshark with the known differences put right.  tshark's retransmission includes fast and spurious."""
    wanted = sums(oracle(name), (*RETRANSMISSIONS, *OTHER_CLASSES, "zero_window", "duplicate_ack"))
    for counts in wanted.values():
        counts["retransmission"] -= counts["fast_retransmission"] + counts["spurious_retransmission"]
        counts["unseen_retransmission"] = 0
    for entry in known(name):
        for label in entry["tshark"].split("+"):
            wanted[entry["direction"]][label] -= 1
        for label in entry["mos"].split("+"):
            wanted[entry["direction"]][label] += 1
    for counts in wanted.values():
        del counts["normal"]
    return wanted


@pytest.mark.parametrize("name", parameters("classes"))
def test_classes(name: str) -> None:
    """Counts of each class, of duplicate ACKs and zero windows, but for the differences of the table."""
    keys = (*RETRANSMISSIONS, *OTHER_CLASSES, "unseen_retransmission", "zero_window", "duplicate_ack")
    assert sums(ours(name), keys) == expected_classes(name)


@pytest.mark.skipif(not tshark.version().startswith("4.0."), reason="the table was made with tshark 4.0")
@pytest.mark.parametrize("name", parameters("frames"))
def test_frames(name: str) -> None:
    """The table names exactly the frames that tshark sees differently, and what each of the two says."""
    found = {f.number: (f.direction, theirs, mine) for f, theirs, mine in tshark.differences(corpus("open", name))}
    wanted = {entry["frame"]: (entry["direction"], entry["tshark"], entry["mos"]) for entry in known(name)}
    assert found == wanted


@pytest.mark.parametrize("name", sorted({entry["file"] for entry in table()["frames"]}))
def test_reasons(name: str) -> None:
    """A count of every sequence number confirms what the table says of each frame."""
    frames = tshark.frames(corpus("open", name))
    for entry in known(name):
        past = tshark.history(frames, entry["frame"])
        assert (past.numbers, past.seen) == (entry["numbers"], entry["seen"]), entry
        if entry["reason"] in ("seen", "probe", "syn_acked"):
            assert past.seen == past.numbers > 0
        else:
            assert past.seen == 0
        if entry["reason"] == "filler":
            assert past.overtaken_ns is not None
            assert past.overtaken_ns // 1000 == entry["hole_age_us"] > entry["rtt_us"]
        if entry["reason"] == "backwards":
            assert past.overtaken_ns is not None
            assert past.overtaken_ns < 0


def pairs(name: str) -> list[tuple[str, Figures, Figures]]:
    """Direction, the oracle's side and our figures."""
    theirs, mine = oracle(name), ours(name)
    return [(d, *pair) for d in theirs for pair in zip(theirs[d], mine[d], strict=True)]


@pytest.mark.parametrize("name", parameters("hashes"))
def test_hashes(name: str) -> None:
    """Delivered bytes hash to the oracle's contiguous bytes, or where there are holes to all captured bytes."""
    others = {}
    for direction, side, figures in pairs(name):
        sha, said = figures["sha256"], side["map"]
        if side["trust"] == "high":
            assert sha == said["sha_contig"], direction
            assert (figures["gaps"], figures["undelivered_bytes"]) == (0, 0), direction
        elif side["trust"] == "medium" and sha not in (said["sha_contig"], said["sha_skip"]):
            others[direction] = sha
    assert others == {entry["direction"]: entry["sha256"] for entry in known(name, "streams")}


@pytest.mark.parametrize("name", parameters("lengths"))
def test_lengths(name: str) -> None:
    """Captured and missing bytes add up: every hole of the oracle is a gap, or hides undelivered bytes."""
    listed = {entry["direction"] for entry in known(name, "streams")}
    for direction, side, figures in pairs(name):
        said, delivered = side["map"], figures["stream_bytes"] - figures["undelivered_bytes"]
        if direction in listed or side["trust"] == "low":
            continue
        if figures["sha256"] == said["sha_contig"]:
            # bytes below the first number of a midstream flow are captured, and not delivered
            assert delivered <= said["bytes"], direction
        else:
            assert delivered == said["bytes"], direction
            assert figures["gap_bytes"] >= sum(length for _, length in said["gaps"]), direction
        if said["gaps"]:
            assert figures["gap_bytes"] or figures["undelivered_bytes"] or delivered <= said["contig"], direction


@pytest.mark.parametrize("name", parameters("stream_bytes"))
def test_stream_bytes(name: str) -> None:
    """Distinct captured bytes, delivered or not, are those of the byte map."""
    different = {d: (f["stream_bytes"], s["map"]["bytes"]) for d, s, f in pairs(name) if s["trust"] != "low"}
    assert {d: pair for d, pair in different.items() if pair[0] != pair[1]} == {}


def test_table() -> None:
    """Every entry has a reason that is explained, every reason is used, and docs/oracle.md names each frame."""
    entries = [*table()["frames"], *table()["streams"]]
    assert {entry["reason"] for entry in entries} == set(table()["reasons"])
    text = (ROOT / "docs" / "oracle.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    for name in {entry["file"] for entry in entries}:
        told = " ".join(line for line in lines if line.startswith(f"| `{name}`"))
        numbers = set(re.findall(r"\b\d+\b", told.replace(name, "")))
        assert {str(entry["frame"]) for entry in known(name)} <= numbers, name
        assert {entry["direction"] for entry in entries if entry["file"] == name} <= set(re.findall(r"`([^`]*)`", told))
    assert set(table()["reasons"]) <= set(re.findall(r"`(\w+)`", text))
