"""Geneva's evasion strategies against real Linux hosts: mos delivers what they read, or says ERROR."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import geneva
from kernel_tcp import unavailable

REASON = unavailable()
live = [pytest.mark.live, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def lab() -> Iterator[geneva.Lab]:
    """Two hosts for all strategies."""
    try:
        made = geneva.Lab()
    except OSError as error:
        pytest.skip(f"no network namespace or tun device: {error}")
    with contextlib.closing(made):
        yield made


@pytest.mark.parametrize(
    "strategy", [pytest.param(strategy, id=strategy.name, marks=live) for strategy in geneva.STRATEGIES]
)
def test_what_the_hosts_read_is_delivered_or_reported(lab: geneva.Lab, strategy: geneva.Strategy) -> None:
    """Byte by byte what recv() gave, at both ends and with any burst size; else an ERROR."""
    verdict = geneva.judge(lab, strategy)
    assert not verdict.faults(), "\n".join([*verdict.faults(), strategy.dna, *geneva.show(verdict)])


@pytest.mark.live
@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_without_a_strategy_all_is_exact(lab: geneva.Lab) -> None:
    """The laboratory itself changes nothing."""
    verdict = geneva.judge(lab, geneva.Strategy("nothing", geneva.OURS))
    assert (verdict.played.server, verdict.played.client) == ("closed", "closed")
    assert verdict.played.server_read == verdict.said.server_read == verdict.single.server_read == geneva.REQUESTS
    assert verdict.played.client_read == verdict.said.client_read == verdict.single.client_read == geneva.REPLIES
    assert verdict.said.flows == [("TIME_WAIT", "CLOSED", "fin")]
    assert not verdict.said.errors
    assert not verdict.single.errors


def test_strategies_are_distinct_and_readable() -> None:
    """Names and texts are unique, and every text parses."""
    assert len({strategy.name for strategy in geneva.STRATEGIES}) == len(geneva.STRATEGIES)
    assert len({(strategy.client, strategy.server) for strategy in geneva.STRATEGIES}) == len(geneva.STRATEGIES)
    for strategy in geneva.STRATEGIES:
        assert geneva.parse(strategy.dna)


def test_the_documentation_lists_them(root: Path) -> None:
    """docs/evasion.md was made from these strategies."""
    rows = (root / "docs" / "evasion.md").read_text(encoding="utf-8").splitlines()
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows if row.startswith("| ")][1:]
    assert names == [strategy.name for strategy in geneva.STRATEGIES]
