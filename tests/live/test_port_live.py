"""A network interface as a source: csrc/io/port.c on real interfaces with real traffic.

The C program tests/c/test_port.c opens the interface and prints `key value` lines.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from netns import Host, Pair, unavailable, veth_pair

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "ctests" / "test_port"
REASON = unavailable()

pytestmark = [pytest.mark.live, pytest.mark.skipif(bool(REASON), reason=REASON)]

#: The driver's slots on an interface that may merge segments, and the longest frame that fits.
SLOTS, LONGEST = 512, 65342

SEND_UDP = """
import socket, sys, time
address, count, size, pause = sys.argv[1], *map(float, sys.argv[2:])
payload = bytes(i & 255 for i in range(int(size)))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
for i in range(int(count)):
    udp.sendto(payload, (address, 9999))
    if pause and i % 64 == 63:
        time.sleep(pause)
"""

SEND_TAGGED = """
import socket, struct, sys
device, source, target, count = sys.argv[1:]
payload = bytes(range(64))
mac = lambda text: bytes.fromhex(text.replace(":", ""))
udp = struct.pack("!HHHH", 1, 9999, 8 + len(payload), 0) + payload
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), bytes(4)) + udp
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((device, 0))
for _ in range(int(count)):
    raw.send(mac(target) + mac(source) + struct.pack("!HHH", 0x8100, 100, 0x0800) + ip)
"""

TCP_SERVER = """
import socket
server = socket.create_server(("", 8080))
print("ready", flush=True)
peer = server.accept()[0]
while peer.recv(1 << 20):
    pass
"""

TCP_CLIENT = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 8080))
peer.sendall(bytes(1 << 24))
"""


@pytest.fixture(scope="module")
def _program() -> None:
    """Build the C program as the unit tests do."""
    made = subprocess.run(
        ["make", "-s", "-C", str(ROOT / "tests" / "c"), "test_port"],
        env={
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "LD_PRELOAD"))
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.fixture
def pair(_program: None) -> Iterator[Pair]:
    """Two hosts on a cable."""
    with veth_pair() as made:
        yield made


@pytest.fixture
def jumbo_pair(_program: None) -> Iterator[Pair]:
    """Two hosts on a cable that takes 9,000 bytes."""
    with veth_pair(mtu=9000) as made:
        yield made


def values(text: str) -> dict[str, int]:
    """Read `key value` lines."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].lstrip("-").isdigit()}


def ask(host: Host, *args: str) -> dict[str, int]:
    """Run the program to its end; nothing but its own lines may be printed."""
    done = host.run(str(PROGRAM), *args)
    assert done.stderr == ""
    return values(done.stdout)


class Tap:
    """The program at work in the background, ready for traffic."""

    def __init__(self, host: Host, *args: str) -> None:
        self.process = host.popen(str(PROGRAM), *args)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready 1\n", line + str(self.process.communicate())

    def result(self) -> tuple[dict[str, int], str]:
        """Wait for the end: its figures, and all it printed."""
        out, err = self.process.communicate(timeout=60)
        assert err == ""
        assert self.process.returncode == 0
        return values(out), out


def send(host: Host, to: str, count: int, size: int = 100, pause: float = 0.002) -> None:
    """Send probes."""
    host.python(SEND_UDP, to, str(count), str(size), str(pause))


def all_whole(seen: dict[str, int], count: int) -> bool:
    """Say whether `count` probes came, undamaged, none lost, none twice."""
    return (seen["probes"], seen["bad"], seen["dropped"], seen["mbufs"]) == (count, 0, 0, 0)


def test_counts_equal_what_was_sent(pair: Pair) -> None:
    """Incoming packets."""
    tap = Tap(pair.b, "count", "veth0", "20", "3000")
    send(pair.a, pair.b.ipv4, 3000)
    seen, _ = tap.result()
    assert all_whole(seen, 3000)
    assert seen["received"] == seen["frames"]
    assert seen["wrong_time"] == 0
    assert seen["no_mbuf"] == 0


def test_outgoing_packets_of_this_host_are_seen(pair: Pair) -> None:
    """A tap shows both directions, as tcpdump does."""
    tap = Tap(pair.a, "count", "veth0", "20", "500")
    send(pair.a, pair.b.ipv4, 500)
    seen, _ = tap.result()
    assert all_whole(seen, 500)


def test_loopback_packets_are_seen_once(pair: Pair) -> None:
    """On loopback a packet passes as sent and as received; tcpdump shows one, and so do we."""
    tap = Tap(pair.a, "count", "lo", "20", "500")
    send(pair.a, "127.0.0.1", 500)
    seen, _ = tap.result()
    assert all_whole(seen, 500)


def test_frames_that_were_cut_keep_their_length_and_are_announced(pair: Pair) -> None:
    """The driver's longest frame is 65,342 bytes; loopback makes longer ones."""
    tap = Tap(pair.a, "count", "lo", "20", "5")
    send(pair.a, "127.0.0.1", 5, size=65507)
    seen, text = tap.result()
    assert all_whole(seen, 5)
    assert (seen["max_cap"], seen["max_wire"]) == (LONGEST, 65549)
    assert "cut" in text
    assert "ip link set lo mtu 65280" in text


def test_jumbo_frames_are_whole(jumbo_pair: Pair) -> None:
    """A frame of 9,014 bytes in one piece."""
    tap = Tap(jumbo_pair.b, "count", "veth0", "20", "200")
    send(jumbo_pair.a, jumbo_pair.b.ipv4, 200, size=8972)
    seen, _ = tap.result()
    assert all_whole(seen, 200)
    assert (seen["payload"], seen["max_cap"], seen["max_wire"]) == (200 * 8972, 9014, 9014)


def test_frames_of_segmentation_offload_are_whole(pair: Pair) -> None:
    """TCP over veth travels in frames of up to 64 KB."""
    server = pair.b.popen(sys.executable, "-c", TCP_SERVER)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    tap = Tap(pair.b, "count", "veth0", "3", "0")
    pair.a.python(TCP_CLIENT, pair.b.ipv4)
    server.communicate(timeout=20)
    seen, text = tap.result()
    assert seen["max_cap"] > 20000
    assert seen["max_cap"] == seen["max_wire"]
    assert "cut" not in text


def test_the_kernel_reassembles_fragments_for_the_driver(pair: Pair) -> None:
    """The driver's fan-out group asks for it: a fragmented datagram is one frame."""
    tap = Tap(pair.b, "count", "veth0", "20", "50")
    send(pair.a, pair.b.ipv4, 50, size=5000)
    seen, _ = tap.result()
    assert all_whole(seen, 50)
    assert seen["max_cap"] == 5042


def test_vlan_tags_survive(pair: Pair) -> None:
    """The kernel takes the tag out of the frame; the frame we give has it again."""
    tap = Tap(pair.b, "count", "veth0", "20", "100")
    pair.a.python(SEND_TAGGED, "veth0", pair.a.mac, pair.b.mac, "100")
    seen, _ = tap.result()
    assert all_whole(seen, 100)
    assert seen["tagged"] == 100
    assert seen["max_wire"] == 14 + 4 + 20 + 8 + 64


def test_other_hosts_packets_are_seen(pair: Pair) -> None:
    """Promiscuous while open: frames to a foreign MAC address arrive; the flag stays as it was."""
    tap = Tap(pair.b, "count", "veth0", "20", "10")
    assert "PROMISC" not in pair.b.ip("link", "show", "veth0").split(">")[0]
    assert "promiscuity 1" in pair.b.ip("-d", "link", "show", "veth0")
    pair.a.python(SEND_TAGGED, "veth0", pair.a.mac, "00:00:5e:00:53:77", "10")
    assert all_whole(tap.result()[0], 10)
    assert "promiscuity 0" in pair.b.ip("-d", "link", "show", "veth0")


def test_an_administrators_promiscuous_flag_stays(pair: Pair) -> None:
    """DPDK would clear it when a port starts."""
    pair.b.ip("link", "set", "veth0", "promisc", "on")
    ask(pair.b, "open", "veth0")
    assert "PROMISC" in pair.b.ip("link", "show", "veth0").split(">")[0]


def test_drops_are_counted(pair: Pair) -> None:
    """Whatever does not fit the ring appears in `dropped`: none vanishes."""
    tap = Tap(pair.b, "stall", "veth0", "3")
    # Nobody answers a frame with a tag of an unknown network, so the number is exact.
    pair.a.python(SEND_TAGGED, "veth0", pair.a.mac, pair.b.mac, "3000")
    seen, _ = tap.result()
    assert seen["received"] == SLOTS
    assert seen["received"] + seen["dropped"] == 3000


def test_the_process_is_undisturbed(pair: Pair) -> None:
    """Affinity, signals, getopt and stdout are as before, and no folder is left in /var/run."""
    seen = ask(pair.b, "undisturbed", "veth0")
    assert seen == {"affinity": 0, "mask": 0, "actions": 0, "getopt": 0, "runtime_folder": 0}


def test_the_interface_is_undisturbed(pair: Pair) -> None:
    """DPDK writes the MAC address back, which would clear the neighbour table; ours does not."""
    pair.b.ip("neigh", "replace", "192.0.2.9", "lladdr", "00:00:5e:00:53:09", "dev", "veth0", "nud", "reachable")
    before = pair.b.run("cat", "/sys/class/net/veth0/addr_assign_type", "/sys/class/net/veth0/mtu").stdout
    ask(pair.b, "open", "veth0")
    assert pair.b.run("cat", "/sys/class/net/veth0/addr_assign_type", "/sys/class/net/veth0/mtu").stdout == before
    assert "00:00:5e:00:53:09" in pair.b.ip("neigh", "show")


def test_reopening_leaves_nothing(pair: Pair) -> None:
    """Twenty rounds: no descriptor, thread, buffer or memory is left."""
    seen = ask(pair.b, "reopen", "veth0", "20")
    assert (seen["more_fds"], seen["more_threads"], seen["mbufs"]) == (0, 0, 0)
    assert seen["more_kb"] < 2048


def test_an_idle_tap_uses_little_processor_time(pair: Pair) -> None:
    """Under 5 % of a core."""
    seen = ask(pair.b, "idle", "veth0", "2")
    assert seen["cpu_us"] < 0.05 * 2_000_000


def test_an_interface_that_goes_down_is_reported(pair: Pair) -> None:
    """-ENETDOWN with a sentence, within a second, without spinning."""
    tap = Tap(pair.b, "until-down", "veth0", "10")
    pair.b.ip("link", "set", "veth0", "down")
    seen, text = tap.result()
    assert 'error -100 interface "veth0" is down; bring it up: ip link set veth0 up' in text
    assert seen["cpu_us"] < 200_000


def test_an_interface_that_disappears_is_reported(pair: Pair) -> None:
    """The other end's removal takes this one along."""
    tap = Tap(pair.b, "until-down", "veth0", "10")
    pair.a.ip("link", "del", "veth0")
    _, text = tap.result()
    assert 'error -100 interface "veth0" is gone' in text


def test_a_fork_child_takes_no_packets(pair: Pair) -> None:
    """A child that inherited the driver's socket must not share the parent's next tap."""
    tap = Tap(pair.b, "fork", "veth0", "5", "1000")
    send(pair.a, pair.b.ipv4, 1000)
    seen, _ = tap.result()
    assert all_whole(seen, 1000)
    assert seen["child_failed"] == 0


def test_a_thread_unknown_to_dpdk_can_read(pair: Pair) -> None:
    """Python's threads are such."""
    tap = Tap(pair.b, "thread", "veth0", "20", "1000")
    send(pair.a, pair.b.ipv4, 1000)
    assert all_whole(tap.result()[0], 1000)


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("eth77", 'error -19 no network interface is called "eth77"; there is: lo, veth0'),
        ("", 'error -19 no network interface is called ""; there is: lo, veth0'),
        ("a,b", 'error -22 interface "a,b" cannot be opened: DPDK takes no name'),
        ("x" * 40, 'error -19 no network interface is called "xxx'),
    ],
)
def test_wrong_names_get_a_sentence(pair: Pair, device: str, sentence: str) -> None:
    """A name that cannot be opened."""
    assert sentence in pair.b.run(str(PROGRAM), "open", device, check=False).stdout


def test_a_second_port_on_the_interface_is_refused(pair: Pair) -> None:
    """The driver would share the packets out between the two."""
    assert 'error -16 interface "veth0" is open already' in pair.b.run(str(PROGRAM), "twice", "veth0").stdout


def test_missing_permission_gets_a_sentence(pair: Pair) -> None:
    """Without capabilities: which ones are needed, and how to give them."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--reuid=65534", "--clear-groups"]
    done = pair.b.run(*drop, str(PROGRAM), "open", "veth0", check=False)
    assert "error -1 no permission" in done.stdout
    assert "CAP_NET_RAW" in done.stdout
    assert "setcap" in done.stdout


def test_without_net_admin_the_sentence_names_it(pair: Pair) -> None:
    """This DPDK's driver asks for CAP_NET_ADMIN when it starts."""
    done = pair.b.run("setpriv", "--bounding-set=-net_admin", str(PROGRAM), "open", "veth0", check=False)
    assert done.stdout == "ok\n" or "CAP_NET_ADMIN" in done.stdout


def open_with_locked_memory(host: Host, kilobytes: int) -> str:
    """Open the interface as a process that may lock only so much memory."""
    command = 'ulimit -l "$1" && exec setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock "$2" open veth0'
    return host.run("sh", "-c", command, "sh", str(kilobytes), str(PROGRAM), check=False).stdout


def test_little_lockable_memory_makes_a_smaller_ring(pair: Pair) -> None:
    """8 MB is what systems usually allow; with too little there is a sentence."""
    assert open_with_locked_memory(pair.b, 8192) == "ok\n"
    assert "ulimit -l unlimited" in open_with_locked_memory(pair.b, 512)
