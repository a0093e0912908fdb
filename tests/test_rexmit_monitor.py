"""The first example gives the truth that lies beside the captures."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import DATA, ROOT, monitor

import mos

EXAMPLE = ROOT / "examples" / "rexmit_monitor.py"
CAPTURES = sorted(path.stem for path in DATA.glob("*.pcap"))
REXMIT_FIELDS = ["type", "time_ns", "client", "client_port", "server", "server_port", "side", "seq", "len"]
SUMMARY_FIELDS = ["type", "packets", "flows", "rexmits"]
# Retransmissions that come after both sides have finished: late segments fire no event (specification, section 3).
AFTER_THE_END = {
    "rst": {15: "the SYN again, because the RST that refused it was lost"},
    "ipv6_vlan": {126: "the client's FIN again, because the last ACK was lost"},
}
every_capture = pytest.mark.parametrize("name", CAPTURES)


def example(*args: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the example."""
    command = [sys.executable, str(EXAMPLE), *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def lines(*args: object, stdin: bytes | None = None) -> list[dict[str, Any]]:
    """Give its JSON lines; nothing may be on stderr."""
    done = example("--json", *args, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


def truth(name: str) -> dict[str, Any]:
    """What count_truth.py says."""
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return found


def true_rexmits(name: str) -> list[tuple[object, ...]]:
    """Client, server, receiver and frame number of every retransmission that has an event, in order."""
    found = []
    for flow in truth(name)["flows"]:
        for direction, receiver in (("client_to_server", "server"), ("server_to_client", "client")):
            frames = [frame for frame in flow[direction]["rexmit_frames"] if frame not in AFTER_THE_END.get(name, {})]
            found += [(frame, *flow["client"], *flow["server"], receiver) for frame in frames]
    return sorted(found, key=lambda row: row[0])


def frame_times(path: Path) -> list[int]:
    """Time in ns of every frame, in order."""
    times: list[int] = []
    with monitor(path) as m:
        raw = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW)

        def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
            times.append(mos.mtcp_getlastpkt(m, sock, side).time_ns)

        mos.mtcp_register_callback(m, raw, mos.MOS_ON_PKT_IN, mos.MOS_NULL, note)
        mos.mtcp_app_join(m)
    return times


@every_capture
def test_json_is_the_truth(name: str) -> None:
    """Every retransmission is reported, with the time of its frame, and nothing else."""
    *rexmits, summary = lines(DATA / f"{name}.pcap")
    times, wanted = frame_times(DATA / f"{name}.pcap"), true_rexmits(name)
    ends = ("client", "client_port", "server", "server_port", "side")
    assert [tuple(row[key] for key in ends) for row in rexmits] == [row[1:] for row in wanted]
    assert [row["time_ns"] for row in rexmits] == [times[int(str(row[0])) - 1] for row in wanted]
    said = truth(name)
    expected = {"packets": said["packets"], "flows": said["flow_count"], "rexmits": len(wanted)}
    assert summary == {"type": "summary", **expected}
    assert len(wanted) + len(AFTER_THE_END.get(name, {})) == said["rexmit"]


@pytest.mark.parametrize("name", AFTER_THE_END)
def test_late_rexmits_are_late(name: str) -> None:
    """The frames in AFTER_THE_END come when their flow has ended: no PKT_IN, and no orphan either."""
    seen: set[int] = set()

    def note(m: mos.Context, sock: int, side: int, _event: int) -> None:
        seen.add(mos.mtcp_getlastpkt(m, sock, side).number)

    with monitor(DATA / f"{name}.pcap") as m:
        stream = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        raw = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW)
        mos.mtcp_register_callback(m, stream, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, note)
        mos.mtcp_register_callback(m, raw, mos.MOS_ON_ORPHAN, mos.MOS_NULL, note)
        mos.mtcp_app_join(m)
    assert not seen & AFTER_THE_END[name].keys()


@every_capture
def test_json_fields(name: str) -> None:
    """Exactly the agreed fields, in order, with the agreed types; the summary is last."""
    *rexmits, summary = lines(DATA / f"{name}.pcap")
    assert list(summary) == SUMMARY_FIELDS
    for row in rexmits:
        assert list(row) == REXMIT_FIELDS
        assert row["type"] == "rexmit"
        assert row["side"] in ("client", "server")
        assert all(type(row[key]) is int for key in ("time_ns", "client_port", "server_port", "seq", "len"))
        assert 0 <= row["seq"] < 2**32


@every_capture
def test_text(name: str) -> None:
    """One line per retransmission, a table per flow with the same sums, and a last line with the totals."""
    done = example(DATA / f"{name}.pcap")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    wanted, said = true_rexmits(name), truth(name)
    events = [line for line in text.splitlines() if re.match(r"\d\d:\d\d:\d\d\.\d{6} ", line)]
    assert len(events) == len(wanted)
    for line, row in zip(events, wanted, strict=True):
        assert f"to {row[-1]} seq " in line
    end = f"{said['packets']} packets, {said['flow_count']} flows, {len(wanted)} retransmissions"
    assert text.splitlines()[-1] == end
    table = re.findall(r"^ *\S+ > \S+ +(\d+) +(\d+) +\d+$", text, re.MULTILINE)
    assert sum(int(value) for row in table for value in row) == len(wanted)
    assert len(table) == len({row[1:5] for row in wanted})


def test_filter() -> None:
    """-f is looked at on the first SYN; packets are all that were read."""
    *rexmits, summary = lines(DATA / "demo.pcap", "-f", "ip6 and dst port 80")
    wanted = [row for row in true_rexmits("demo") if ":" in str(row[1])]
    assert [row["client_port"] for row in rexmits] == [row[2] for row in wanted]
    assert summary["packets"] == truth("demo")["packets"]
    assert summary["flows"] == sum(":" in flow["client"][0] for flow in truth("demo")["flows"])
    assert lines(DATA / "demo.pcap", "-f", "dst port 1")[-1]["flows"] == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("/no/such/file.pcap",), "/no/such/file.pcap"),
        (("/",), "/"),
        ((str(EXAMPLE),), "rexmit_monitor.py"),
        ((str(DATA / "demo.pcap"), "-f", "dst port nonsense+"), "filter"),
    ],
)
def test_error_is_one_sentence(args: tuple[str, ...], words: str) -> None:
    """What cannot be done is said in one line on stderr, exit code 2, nothing on stdout, no traceback."""
    done = example(*args)
    said = done.stderr.decode()
    assert done.returncode == 2
    assert done.stdout == b""
    assert said.startswith("rexmit_monitor: ")
    assert words in said
    assert said.count("\n") == 1


def test_usage() -> None:
    """No source: usage, exit code 2; --help: exit code 0."""
    assert example().returncode == 2
    helped = example("--help")
    assert helped.returncode == 0
    assert b"--json" in helped.stdout


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_standard_input(*, packed: bool) -> None:
    """The source "-" reads a capture, also a compressed one, from a pipe."""
    data = (DATA / "demo.pcap").read_bytes()
    assert lines("-", stdin=gzip.compress(data) if packed else data) == lines(DATA / "demo.pcap")


def test_gz(tmp_path: Path) -> None:
    """A .gz file is the same."""
    (tmp_path / "demo.pcap.gz").write_bytes(gzip.compress((DATA / "demo.pcap").read_bytes()))
    assert lines(tmp_path / "demo.pcap.gz") == lines(DATA / "demo.pcap")


def test_cut_capture(tmp_path: Path) -> None:
    """What came before the break is counted; one sentence on stderr, exit code 1."""
    data = (DATA / "demo.pcap").read_bytes()
    (tmp_path / "cut.pcap").write_bytes(data[:-10])
    done = example("--json", tmp_path / "cut.pcap")
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["packets"] == truth("demo")["packets"] - 1
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("switch", ["", "--json"])
def test_broken_pipe(switch: str) -> None:
    """| head -1 is quiet, whether or not the output fits into the pipe."""
    script = f"{sys.executable} {EXAMPLE} {switch} {DATA / 'demo.pcap'} | head -1"
    for environment in ("", "PYTHONUNBUFFERED=1 "):
        done = subprocess.run(["sh", "-c", environment + script], capture_output=True, timeout=60, check=False)
        assert done.stdout.count(b"\n") == 1
        assert done.stderr == b""


def test_truth_is_consistent() -> None:
    """The .json files, the applications' notes and a fresh count agree."""
    captures = [str(DATA / f"{name}.pcap") for name in CAPTURES]
    command = [sys.executable, str(DATA / "count_truth.py"), "--check", *captures]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
