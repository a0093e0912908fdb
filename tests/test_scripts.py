"""One test per conversation script, with variants; and every cell of the TCP state table is visited by some script."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # --import-mode=importlib does not
import segscript

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.seg"))
COLUMNS = ("SYN", "SYN/ACK", "ACK", "data", "FIN", "RST")
# role, state before the packet, column -> why no packet can meet it
UNREACHABLE = {
    (role, "LISTEN", column): "a side is in LISTEN only until the SYN that makes the flow; without a flow a packet is "
    "an orphan, and midstream opens flows in the state that the packet proves (midstream_*.seg)"
    for role in ("sender", "receiver")
    for column in COLUMNS[1:]
}
REACHABLE = set(itertools.product(("sender", "receiver"), segscript.STATES, COLUMNS)) - set(UNREACHABLE)
# The same conversation gives the same events wherever its sequence numbers wrap, in IPv6, and for any burst.
VARIANTS = {
    "burst1": {},
    "burst64": {"burst": 64},
    "burst3": {"burst": 3},
    "wrap_at_isn": {"isn_shift": 2**32 - 1_000_001},
    "wrap_near_isn": {"isn_shift": 2**32 - 1_000_006},
    "wrap_server": {"isn_shift": 2**32 - 5_000_008},
    "sign_bit": {"isn_shift": 2**31 - 1_000_012},
    "ipv6": {"ipv6": True},
}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    """The callbacks are exactly those that the script lists."""
    script = segscript.parse(path)
    problems = segscript.check(script, segscript.run(script))
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize("variant", list(VARIANTS)[1:])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_variant(path: Path, variant: str) -> None:
    """Burst size, sequence number space and IP version make no difference."""
    script, options = segscript.parse(path), VARIANTS[variant]
    if variant == "ipv6":  # longer headers
        for _line, _flow, _scope, values in script.figures:
            values.pop("wire_bytes", None)
    problems = segscript.check(script, segscript.run(script, **options), burst=options.get("burst", 1))
    assert not problems, "\n" + "\n".join(problems)


def test_every_cell_is_visited() -> None:
    """All scripts together bring every state together with every kind of segment, as sender and as receiver."""
    visited = set()
    for path in SCRIPTS:
        script = segscript.parse(path)
        visited |= segscript.cells(script, segscript.run(script).events)
    assert visited >= REACHABLE, f"not visited: {sorted(REACHABLE - visited)}"
    assert not visited & set(UNREACHABLE), f"reached, so not unreachable: {sorted(visited & set(UNREACHABLE))}"


def test_every_cell_is_expected() -> None:
    """The same from the expectations alone: what the scripts claim to visit."""
    scripts = [segscript.parse(path) for path in SCRIPTS]
    claimed = set().union(*(segscript.cells(s, [e for step in s.steps for e in step.expected]) for s in scripts))
    assert claimed >= REACHABLE, f"no script for: {sorted(REACHABLE - claimed)}"


def test_claims_are_different() -> None:
    """One claim a script."""
    claims = [segscript.parse(path).claim for path in SCRIPTS]
    assert len(set(claims)) == len(claims)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_captures_are_well_formed(tmp_path: Path, *, ipv6: bool) -> None:
    """A second reader finds every frame, no malformed one, and no bad checksum."""
    parts = []
    for path in SCRIPTS:
        parts.append(tmp_path / f"{path.stem}.pcap")
        segscript.write_capture(segscript.parse(path), parts[-1], ipv6=ipv6)
    merged = tmp_path / "all.pcap"
    subprocess.run(["mergecap", "-a", "-F", "nsecpcap", "-w", merged, *parts], check=True)
    bad = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
    wanted = (
        "tcp.check_checksum:TRUE",
        "ip.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "tcp.desegment_tcp_streams:FALSE",
        "tcp.analyze_sequence_numbers:FALSE",
    )  # look at frames, not at flows
    switches = [word for setting in wanted for word in ("-o", setting)]
    command = ["tshark", "-r", merged, *switches, "-T", "fields", "-e", "frame.number"]
    found = [
        subprocess.run([*command, "-Y", text], check=True, capture_output=True, text=True).stdout.split()
        for text in ("frame", bad)
    ]
    assert len(found[0]) == sum(len(segscript.parse(path).steps) for path in SCRIPTS)
    assert not found[1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no claim", "1: the first line must be the claim"),
        ("# c\n0.0 C > S 0:1(0)", "2: 0:1 is not 0 bytes"),
        ("# c\n0.0 C > A 0:0(0)", "2: flag A needs 'ack N'"),
        ("# c\n0.0 C > S 0:0(0) <mss>", "2: cannot read option 'mss'"),
        ("# c\n0.0 C > S 0:0(0) wim 4", "2: cannot read 'wim 4'"),
        ("# c\n0.1 tick\n0.1 tick", "3: time 0.1 is not after the line before"),
        ("# c\nhello", "2: unknown directive 'hello'"),
        ("# c\n  SND CLI CONN_START", "2: an indented line must follow 'expect'"),
        ("# c\n0.0 tick\nexpect\n  SND CLI NEW_DATA", "4: NEW_DATA never fires at hook 'SND'"),
        ("# c\n0.0 tick\nexpect\n  SND CLI STATE_CHANGE", "4: STATE_CHANGE at SND needs 1 detail"),
        ("# c\n0.0 tick\nexpect\n  SND CLI STATE_CHANGE A/B", "4: 'A/B' is not CLIENT/SERVER"),
        ("# c\n0.0 tick\nexpect\n  SND CLI REXMIT odd", "4: unknown segment class 'odd'"),
        ("# c\n0.0 tick\nstates LISTEN/LISTEN", "3: there is no packet before this line"),
    ],
)
def test_error_texts(tmp_path: Path, text: str, complaint: str) -> None:
    """A mistake in a script is reported with file and line."""
    path = tmp_path / "wrong.seg"
    path.write_text(text)
    with pytest.raises(segscript.ScriptError) as caught:
        segscript.parse(path)
    assert str(caught.value).startswith(f"{path}:{complaint}")


def test_difference_is_readable(tmp_path: Path) -> None:
    """A wrong run is shown as a diff in the words of the script."""
    path = tmp_path / "small.seg"
    path.write_text("# A claim.\n0.0 C > S 0:0(0)\nexpect\n  SND CLI CONN_START\n  RCV SVR CONN_START\n")
    script = segscript.parse(path)
    seen = segscript.Event("1", "1", "SND", "CLI", "CONN_START", step=0)
    other = segscript.Event("1", "1", "RCV", "SVR", "REXMIT", ("retransmission",), step=0)
    text = segscript.check(script, segscript.Result(events=[seen, other]))[0]
    assert text.splitlines()[3:] == [
        "     SND CLI CONN_START    <- line 2: 0.0 C > S 0:0(0)",
        "    -RCV SVR CONN_START    <- line 2: 0.0 C > S 0:0(0)",
        "    +RCV SVR REXMIT retransmission    <- line 2: 0.0 C > S 0:0(0)",
    ]
