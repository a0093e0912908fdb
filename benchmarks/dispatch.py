#!/usr/bin/env python3
"""What callbacks cost: one capture read five ways in one run, and what was found against the truth.

    benchmarks/dispatch.py CAPTURE [--truth FILE.json] [--repeat N]

Figures of one run belong to that run: compare the ratios, not the rates.  `--truth` is a JSON file
with `retransmissions`, `flows` and `packets`, as capture generators write it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import mos

HOOKS = {"RCV": mos.MOS_HK_RCV, "SND": mos.MOS_HK_SND}
WAYS: dict[str, tuple[tuple[int, str], ...] | None] = {
    "decode only (no socket)": None,
    "both stacks, no callback": (),
    "REXMIT at RCV": ((mos.MOS_ON_REXMIT, "RCV"),),
    "PKT_IN at RCV": ((mos.MOS_ON_PKT_IN, "RCV"),),
    "PKT_IN at SND and RCV": ((mos.MOS_ON_PKT_IN, "SND"), (mos.MOS_ON_PKT_IN, "RCV")),
}


def run(capture: str, callbacks: tuple[tuple[int, str], ...] | None) -> tuple[float, int, dict[str, int]]:
    """Read the capture once: seconds, callbacks run, counters."""
    calls = 0

    def callback(_m: mos.Context, _sock: int, _side: int, _event: int) -> None:
        nonlocal calls
        calls += 1

    mos.mtcp_init(source=capture)
    m = mos.mtcp_create_context(0)
    if callbacks is not None:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        for event, hook in callbacks:
            mos.mtcp_register_callback(m, s, event, HOOKS[hook], callback)
    start = time.perf_counter()
    mos.mtcp_app_join(m)
    took = time.perf_counter() - start
    counters = mos.mtcp_getcounters(m)
    mos.mtcp_destroy()
    return took, calls, counters


def main() -> int:
    """Print the table; 1 when a count differs from the truth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("capture")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    truth = json.loads(args.truth.read_text()) if args.truth else {}
    wrong = 0
    base = 0.0
    print(f"{'':26} {'Mpps':>7} {'ratio':>6} {'calls':>10} {'rexmit':>8} {'flows':>8}")
    for name, callbacks in WAYS.items():
        runs = [run(args.capture, callbacks) for _ in range(args.repeat)]
        took = statistics.median(seconds for seconds, _, _ in runs)
        _, calls, counters = runs[0]
        base = base or took
        print(
            f"{name:26} {counters['received'] / took / 1e6:7.2f} {base / took:6.2f} {calls:10} "
            f"{counters['rexmit']:8} {counters['flows_created']:8}"
        )
        found = {
            "retransmissions": counters["rexmit"],
            "flows": counters["flows_created"],
            "packets": counters["received"],
        }
        if callbacks is not None:
            wrong += any(key in truth and truth[key] != value for key, value in found.items())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
