"""The retransmission monitor on a live interface, against its own answer on a capture of the same packets.

Real Linux TCP passes a monitored interface; a user-space wire (tests/data/netlab.py) loses frames
on either side of it.  tcpdump records the same interface at the same time.  What the monitor says
while the packets pass must be what it says of tcpdump's file afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import netlab
from netns import ip, unavailable, veth_pair

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "rexmit_monitor.py"
DEMO = ROOT / "tests" / "data" / "demo.pcap"
NEIGHBOUR = "192.0.2.9"
SANITIZED = bool(os.environ.get("MOS_TEST_SANITIZED"))


def missing() -> str:
    """Say why the laboratory cannot be built here; empty when it can."""
    tools = [name for name in ("tcpdump", "ethtool", "sysctl") if shutil.which(name) is None]
    return unavailable() or (f"needs {', '.join(tools)}" if tools else "")


REASON = missing()
live = [pytest.mark.live, pytest.mark.skipif(bool(REASON), reason=REASON)]

IS_DATA, IS_SYN, IS_FIN = (
    lambda segment: segment.payload_len > 0,
    lambda segment: segment.flags & netlab.SYN,
    lambda segment: segment.flags & netlab.FIN,
)


# ---- one session: a monitor and tcpdump on the same interface, transfers over it ------------------


@dataclass
class Session:
    """What was seen."""

    idle_share: float
    seconds_to_end: float
    exit_code: int
    lines: list[dict[str, Any]]
    stderr: str
    offline: list[dict[str, Any]]
    before: dict[str, str]
    after: dict[str, str]
    leftovers: set[str]
    frames: int
    flows: int

    def rexmits(self) -> list[tuple[Any, ...]]:
        """What the live run reported, without the times."""
        return keys(self.lines)


def keys(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(client, port, seq, len, side) of each retransmission, sorted."""
    wanted = ("client", "client_port", "seq", "len", "side")
    return sorted(tuple(line[name] for name in wanted) for line in lines if line["type"] == "rexmit")


def parse(text: str) -> list[dict[str, Any]]:
    """Read JSON lines; anything else on standard output is a fault."""
    return [json.loads(line) for line in text.splitlines()]


def monitor_command(source: str) -> list[str]:
    """The script under test."""
    return [sys.executable, str(SCRIPT), source, "--json"]


def in_namespace(namespace: str, *args: str) -> list[str]:
    """`ip netns exec` replaces itself by the command, so the process id is the command's."""
    return ["ip", "netns", "exec", namespace, *args]


def ask(namespace: str, *args: str) -> str:
    """Run a command inside and give what it printed."""
    return subprocess.run(in_namespace(namespace, *args), capture_output=True, text=True, check=True).stdout


def interface_state(namespace: str) -> dict[str, str]:
    """What a monitor must leave as it was."""
    sys_files = [f"/sys/class/net/f0/{name}" for name in ("flags", "mtu", "address", "addr_assign_type")]
    details = ask(namespace, "ip", "-d", "link", "show", "f0").split()
    return {
        "flags": ask(namespace, "cat", *sys_files),
        "promiscuity": details[details.index("promiscuity") + 1],
        "neighbours": " ".join(ask(namespace, "ip", "neigh", "show", "dev", "f0").split()[:3]),
    }


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_ready(namespace: str, readers: int, pid: int) -> None:
    """Every reader of the interface makes it more promiscuous; after that the start of DPDK takes a while."""
    deadline = time.monotonic() + 30
    used = -1.0
    while interface_state(namespace)["promiscuity"] != str(readers) or cpu_seconds(pid) - used > 0.02:
        assert time.monotonic() < deadline, "the monitor did not open the interface"
        used = cpu_seconds(pid)
        time.sleep(0.5)


def idle_share(pid: int, seconds: float = 2.0) -> float:
    """The part of a core that is used while nothing arrives."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds


def dpdk_folders() -> set[str]:
    """What DPDK processes leave in the run-time folder when they do not clean up."""
    return {path.name for path in Path("/var/run/dpdk").glob("mos-*")}


def receive(sock: socket.socket, size: int) -> int:
    """Read until `size` bytes, or the end."""
    got = 0
    while got < size and (chunk := sock.recv(1 << 16)):
        got += len(chunk)
    return got


def transfer(lab: netlab.Lab, port: int, up: int, down: int, *, v6: bool = False) -> None:
    """One connection: `up` bytes to the server, then `down` bytes back."""
    listener = lab.listen(8000 + port % 1000, v6=v6)

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(30)
            assert receive(peer, up) == up
            peer.sendall(bytes(range(256)) * (down // 256))

    server = Thread(target=serve, daemon=True)
    server.start()
    with listener, lab.dial(port, v6=v6) as client:
        client.connect((netlab.SERVER6 if v6 else netlab.SERVER4, 8000 + port % 1000))
        client.sendall(bytes(up))
        assert receive(client, down) == down
        server.join(30)
    assert not server.is_alive()


def run_transfers(lab: netlab.Lab) -> int:
    """Losses behind and before the monitored interface, both ways; returns the number of connections.

    The interface lies between the wires: the near wire leads to the client, the far one to the server.
    """
    to_client, to_server = netlab.TO_CLIENT, netlab.TO_SERVER
    lab.near_wire.rules = [
        netlab.Rule(to_client, lambda s: IS_DATA(s) and s.client_port == 50001, probability=0.04, seed=3),
        netlab.Rule(to_server, lambda s: IS_DATA(s) and s.client_port == 50002, nth=frozenset({20, 60})),
        netlab.Rule(to_client, lambda s: IS_SYN(s) and s.client_port == 50004, nth=frozenset({1})),
    ]
    lab.far_wire.rules = [
        netlab.Rule(to_server, lambda s: IS_DATA(s) and s.client_port in (50002, 50003), probability=0.04, seed=5),
        netlab.Rule(to_client, lambda s: IS_DATA(s) and s.client_port == 50001, nth=frozenset({30, 31})),
        netlab.Rule(to_server, lambda s: IS_SYN(s) and s.client_port == 50005, nth=frozenset({1})),
        netlab.Rule(to_server, lambda s: IS_FIN(s) and s.client_port == 50006, nth=frozenset({1})),
    ]
    transfer(lab, 50001, 256, 120 << 10)
    transfer(lab, 50002, 60 << 10, 256)
    transfer(lab, 50003, 60 << 10, 256, v6=True)
    for port in (50004, 50005, 50006, 50007):
        transfer(lab, port, 256, 256)
    return 7


@contextmanager
def monitor(namespace: str) -> Iterator[subprocess.Popen[str]]:
    """The script on the interface, ready; killed if a test fails before its end."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(in_namespace(namespace, *monitor_command("f0")), stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def end(process: subprocess.Popen[str]) -> tuple[float, str, str]:
    """Ctrl-C: how long it takes, and what was printed."""
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return time.monotonic() - started, out, err


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One run for all tests."""
    recorded = tmp_path_factory.mktemp("live") / "tap.pcap"
    folders = dpdk_folders()
    with netlab.Lab(delay_s=0.002) as lab:
        lab_namespace = lab.far
        ip("-n", lab.far, "neigh", "replace", NEIGHBOUR, "lladdr", "00:00:5e:00:53:09", "dev", "f0", "nud", "reachable")
        before = interface_state(lab_namespace)
        time.sleep(2.5)  # the hosts report their IPv6 multicast groups for a second; then the cable is silent
        lab.record(recorded)
        with monitor(lab_namespace) as process:
            wait_until_ready(lab_namespace, 2, process.pid)
            idle = idle_share(process.pid)
            flows = run_transfers(lab)
            time.sleep(0.5)  # the last acknowledgements
            seconds, out, err = end(process)
        lab.stop_recording()
        after = interface_state(lab_namespace)
    offline = subprocess.run(monitor_command(str(recorded)), capture_output=True, text=True, check=True)
    return Session(
        idle_share=idle,
        seconds_to_end=seconds,
        exit_code=process.returncode,
        lines=parse(out),
        stderr=err,
        offline=parse(offline.stdout),
        before=before,
        after=after,
        leftovers=dpdk_folders() - folders,
        frames=count_frames(recorded),
        flows=flows,
    )


def count_frames(path: Path) -> int:
    """Records of a little-endian pcap file, counted without the code under test."""
    data, at, count = path.read_bytes(), 24, 0
    while at < len(data):
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        count += 1
    return count


class TestLiveMonitor:
    """Properties of the one session."""

    pytestmark = live

    def test_same_retransmissions_as_the_capture(self, session: Session) -> None:
        """Nothing more, nothing less, each with the same numbers."""
        assert session.rexmits() == keys(session.offline)
        assert len(session.rexmits()) > 10
        seen = {port for _, port, *_ in session.rexmits()}
        # 50004: SYN/ACK lost behind the interface; 50005, 50006: SYN and FIN lost behind it
        assert {50001, 50003, 50004, 50005, 50006} <= seen
        assert 50007 not in seen

    def test_both_directions_are_seen(self, session: Session) -> None:
        """Loss behind the interface was forced for data to the client and to the server."""
        assert {line["side"] for line in session.lines if line["type"] == "rexmit"} == {"client", "server"}

    def test_summary_adds_up(self, session: Session) -> None:
        """The last line counts what the lines before it showed, and every frame tcpdump saw."""
        *lines, summary = session.lines
        assert summary["type"] == "summary"
        assert [line["type"] for line in lines] == ["rexmit"] * summary["rexmits"]
        assert summary == session.offline[-1]
        assert summary["packets"] == session.frames
        assert summary["flows"] == session.flows
        assert session.stderr == ""

    def test_times_are_the_kernels(self, session: Session) -> None:
        """Both readers got their times from the kernel; the two stamps of a frame differ by little."""
        live_times, offline_times = (
            sorted(line["time_ns"] for line in lines if line["type"] == "rexmit")
            for lines in (session.lines, session.offline)
        )
        assert all(abs(a - b) < 50_000_000 for a, b in zip(live_times, offline_times, strict=True))

    @pytest.mark.skipif(SANITIZED, reason="sanitizers take longer to end")
    def test_ctrl_c_ends_it_at_once(self, session: Session) -> None:
        """Within 300 ms, the clean end of DPDK included, and with the shell's exit code for SIGINT."""
        assert session.exit_code == 130
        assert session.seconds_to_end < 0.3

    def test_the_interface_is_as_before(self, session: Session) -> None:
        """Flags, MTU, address and neighbours; tcpdump's own promiscuous membership is gone as well."""
        assert session.after == session.before
        assert session.before["neighbours"].startswith(NEIGHBOUR)

    def test_nothing_is_left_behind(self, session: Session) -> None:
        """No folder of DPDK's in /var/run."""
        assert session.leftovers == set()

    def test_an_idle_monitor_costs_little(self, session: Session) -> None:
        """Under 5 % of a core."""
        assert session.idle_share < 0.05


# ---- captures and DPDK --------------------------------------------------------------------------

WATCH_THREADS = """
import os, sys
import mos
threads = lambda: sorted(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task"))
before = threads()
mos.mtcp_init(source=sys.argv[1])
m = mos.mtcp_create_context(0)
s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
during = []
mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, lambda *_: during.append(threads()))
mos.mtcp_app_join(m)
mos.mtcp_destroy()
assert len(during) == 16, during
assert before == threads() == during[0] == during[-1], (before, during[0], threads())
assert not [name for name in before if name.startswith(("eal", "rte", "dpdk"))], before
assert not os.path.exists(f"/var/run/dpdk/mos-{os.getpid()}")
"""


def test_a_capture_does_not_start_dpdk() -> None:
    """No thread of EAL's, during the run or after it."""
    done = subprocess.run([sys.executable, "-c", WATCH_THREADS, str(DEMO)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- what cannot be opened ----------------------------------------------------------------------


def one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, and one line that names what failed: no traceback, nothing of DPDK's."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rexmit_monitor: ")
    assert all(word in lines[0] for word in words), lines[0]


def run_script(*args: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The script to its end, in this namespace."""
    command = [*prefix, sys.executable, str(SCRIPT), *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_missing_interface_is_told_in_one_sentence() -> None:
    """A name that is neither a file nor an interface."""
    one_sentence(run_script("mos-nosuch0"), "mos-nosuch0", "No such file")


@pytest.mark.live
@pytest.mark.skipif(bool(unavailable()), reason=unavailable())
def test_an_interface_that_is_down_is_told_in_one_sentence() -> None:
    """With what to do."""
    with veth_pair() as pair:
        pair.b.ip("link", "set", "veth0", "down")
        done = pair.b.run(sys.executable, str(SCRIPT), "veth0", check=False)
    one_sentence(done, "veth0", "down")


def test_missing_permission_is_told_in_one_sentence() -> None:
    """As nobody: which capabilities, and how to get them."""
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, to become nobody")
        prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
        probe = [*prefix, sys.executable, "-c", "import mos; mos.mtcp_init"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            pytest.skip("the user nobody cannot start this Python")
    one_sentence(run_script("lo", prefix=prefix), "lo", "CAP_NET_RAW", "CAP_NET_ADMIN")
