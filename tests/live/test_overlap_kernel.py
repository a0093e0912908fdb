"""Overlap policy `linux` against the TCP of the running kernel.

The same segments go to a real socket (kernel_tcp.py) and, as a capture, through mos.

    python tests/live/test_overlap_kernel.py --record

writes tests/data/kernel_overlaps.json, the kernel's answers that tests/c/test_overlap.c and
tests/test_overlap.py check where nobody may ask a kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import kernel_tcp
import overlap_cases as oc

import mos

REASON = kernel_tcp.unavailable()
pytestmark = [pytest.mark.live, pytest.mark.skipif(bool(REASON), reason=REASON)]
LINUX = mos.MOS_OVERLAP_POLICY_LINUX


def kernel(cases: Sequence[str], unit: int = 1, *, eager: bool = False, sack: bool = False) -> list[bytes]:
    """Ask the kernel."""
    asked = [[kernel_tcp.Piece(*piece) for piece in oc.pieces(case, unit)] for case in cases]
    return kernel_tcp.ask(asked, eager=eager, sack=sack)


def check(folder: Path, cases: Sequence[str], unit: int = 1, *, eager: bool = False, sack: bool = False) -> None:
    """Compare; shows the first cases that differ."""
    expected = kernel(cases, unit, eager=eager, sack=sack)
    found = oc.delivered(folder, cases, LINUX, unit=unit)
    different = [row for row in zip(cases, expected, found, strict=True) if row[1] != row[2]]
    assert not different, f"{len(different)} of {len(cases)}: {different[:5]}"
    assert sum(map(len, expected)) > 2 * len(cases) * unit


@pytest.fixture
def source() -> random.Random:
    """Random numbers; the seed is shown when a test fails."""
    seed = int(os.environ.get("MOS_TEST_SEED") or random.randrange(1 << 32))
    print(f"MOS_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("eager", [False, True])
def test_every_pair(tmp_path: Path, *, eager: bool) -> None:
    """All pairs inside a hole and where the stream begins, read at the end or after every segment."""
    check(tmp_path, [*oc.all_of(2, 1, 6, fill="0-1"), *oc.all_of(2, 0, 5)], unit=4, eager=eager)


@pytest.mark.parametrize("begin", [0, 1])
def test_triples(tmp_path: Path, source: random.Random, begin: int) -> None:
    """A sample of the triples of a wider window; where the hole is filled is chosen too."""
    triples = list(oc.all_of(3, begin, 6))
    chosen = [case.split() for case in source.sample(triples, 2000)]
    for case in chosen:
        case.insert(source.randrange(4), "0-1")
    check(tmp_path, [" ".join(case) for case in chosen], unit=4)


@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize(("count", "width"), [(4, 6), (6, 10), (12, 14), (25, 40)])
def test_many(tmp_path: Path, source: random.Random, count: int, width: int, *, sack: bool) -> None:
    """Segments enough for the tree to grow and turn."""
    check(tmp_path, [oc.at_random(source, count, width) for _ in range(2000)], sack=sack)


def test_fin(tmp_path: Path, source: random.Random) -> None:
    """FIN counts as a byte where segments are compared."""
    check(tmp_path, [oc.at_random(source, 6, 7, fins=True) for _ in range(4000)])


# ---- recording -------------------------------------------------------------------------------


def golden_cases() -> list[str]:
    """All pairs and triples of a window of 4, in a hole and not, and longer ones."""
    cases = [case for count in (2, 3) for case in oc.all_of(count, 1, 5, fill="0-1")]
    cases += [case for count in (2, 3) for case in oc.all_of(count, 0, 4)]
    source = random.Random(618)
    for count, width, number_of in ((4, 6, 400), (6, 10, 400), (10, 14, 400), (25, 40, 100)):
        cases += [oc.at_random(source, count, width, fins=number % 3 == 0) for number in range(number_of)]
    return cases


def test_golden_answers_are_this_kernels() -> None:
    """The recorded answers are still those of the kernel that runs here."""
    cases = dict(case.split(" = ") for case in json.loads(oc.GOLDEN.read_text(encoding="utf-8"))["cases"])
    assert kernel(list(cases)) == [answer.encode() for answer in cases.values()]


def record() -> None:
    """Write the golden file."""
    cases = sorted(set(golden_cases()), key=lambda case: (len(case), case))
    rows = [f"{case} = {answer.decode()}" for case, answer in zip(cases, kernel(cases), strict=True)]
    text = json.dumps({"kernel": ".".join(os.uname().release.split(".")[:2]), "cases": rows}, indent=0)
    oc.GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"{len(rows)} cases")


def main() -> None:
    """Record, if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", required=True, help="ask the kernel and write its answers")
    parser.parse_args()
    if REASON:
        sys.exit(REASON)
    record()


if __name__ == "__main__":
    main()
