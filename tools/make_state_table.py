#!/usr/bin/env python3
"""Make docs/tcp-states.md from the table in csrc/tcp/tcp_state.c.

Without arguments it writes the page; with --check it only says, by its exit code, whether the page is fresh.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "csrc" / "tcp" / "tcp_state.c"
HEADER = ROOT / "csrc" / "tcp" / "tcp_state.h"
API = ROOT / "csrc" / "mos_api.h"
PAGE = ROOT / "docs" / "tcp-states.md"

#: What the rows mean; a row that is not here is an error, so a new input gets its sentence.
MEANING = {
    "SENT_SYN": "it sent a SYN",
    "SENT_SYN_ACK": "it sent a SYN/ACK",
    "SENT_ACK": "it sent anything that shows it has the peer's SYN",
    "SENT_DATA": "it sent data or a FIN behind its SYN",
    "SENT_FIN": "it sent a FIN, for the first time",
    "SENT_CROSSING_FIN": "it sent a FIN that does not acknowledge the peer's FIN: both were under way",
    "SENT_RST": "it sent a RST",
    "GOT_SYN": "it received a SYN",
    "GOT_SYN_ACK": "it received a SYN/ACK",
    "GOT_ACK_OF_SYN": "its SYN was acknowledged",
    "GOT_ACK_OF_FIN": "its FIN was acknowledged",
    "GOT_FIN": "it received the peer's FIN and everything before it, or acknowledged it",
    "GOT_RST": "it received a RST that its stack takes",
}

INTRODUCTION = """\
# TCP states

<!-- Made by tools/make_state_table.py from csrc/tcp/tcp_state.c; do not edit. -->

Each flow has two emulated stacks, the client's and the server's. A stack moves by what it sends and by what it
receives. The client's begins in `CLOSED`, the server's in `LISTEN`; a flow picked up in the middle begins with both in
`ESTABLISHED` (in `SYN_SENT` and `SYN_RCVD` when its first packet is a SYN/ACK).

The table has one row per input and one column per state. A cell says where the input leads; `·` means that the stack
stays where it is, which fires no `MOS_ON_TCP_STATE_CHANGE`. The states are those of RFC 9293, 3.3.2.

Whether a segment counts as an input at all is decided before the table is asked: the sequence number must fit the
window, a RST must be in the window, a FIN waits until every byte before it is there or given up, or until its receiver
acknowledges it. One segment can be several inputs, for its sender and then for its receiver. Some rows lead further
than RFC 9293 does, because a monitor can miss a packet that a host did not miss: any later evidence stands in for a
missing SYN/ACK or ACK.
"""


def states() -> list[str]:
    """Names of the states in their order, without the prefix."""
    body = re.search(r"enum mos_tcp_state \{(.*?)\}", API.read_text(encoding="utf-8"), re.DOTALL)
    if body is None:
        raise SystemExit(f"{API}: enum mos_tcp_state was not found")
    return [name for name in re.findall(r"MOS_TCP_(\w+) = \d+", body[1]) if name != "STATES"]


def inputs() -> list[str]:
    """Names of the inputs in their order."""
    body = re.search(r"enum tcp_input \{(.*?)\}", HEADER.read_text(encoding="utf-8"), re.DOTALL)
    if body is None:
        raise SystemExit(f"{HEADER}: enum tcp_input was not found")
    names = re.findall(r"^\s*([A-Z_]+)\s*,?", re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL), re.MULTILINE)
    return [name for name in names if name != "TCP_INPUTS"]


def table() -> dict[str, list[str]]:
    """Next states by input, from the text of the designated initialisers."""
    text = SOURCE.read_text(encoding="utf-8")
    short = dict(re.findall(r"^#define (\w+) MOS_TCP_(\w+)$", text, re.MULTILINE))
    body = re.search(r"next_state\[TCP_INPUTS\]\[MOS_TCP_STATES\] = \{(.*?)\n\};", text, re.DOTALL)
    if body is None:
        raise SystemExit(f"{SOURCE}: the table next_state was not found")
    rows = re.findall(r"\[(\w+)\]\s*=\s*\{([^}]*)\}", body[1])
    return {name: [short[cell.strip()] for cell in cells.split(",") if cell.strip()] for name, cells in rows}


def row(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def page() -> str:
    """The whole page."""
    columns, found = states(), table()
    if sorted(found) != sorted(inputs()):
        raise SystemExit(f"{SOURCE}: the rows are not those of enum tcp_input: {sorted(set(found) ^ set(inputs()))}")
    lines = [INTRODUCTION, row(["input", *columns]), row(["---"] * (len(columns) + 1))]
    for name in inputs():
        if len(found[name]) != len(columns):
            raise SystemExit(f"{SOURCE}: row {name} has {len(found[name])} cells, not {len(columns)}")
        moves = ["·" if to == state else to for state, to in zip(columns, found[name], strict=True)]
        lines.append(row([f"`{name}`", *moves]))
    lines += ["", "| input | of the stack that moves |", "| --- | --- |"]
    lines += [row([f"`{name}`", MEANING[name]]) for name in inputs()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 when the page is old")
    args = parser.parse_args()
    text = page()
    if not args.check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.relative_to(ROOT)} is old: run tools/make_state_table.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
