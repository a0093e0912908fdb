"""A small network laboratory: real Linux TCP between two namespaces, with a tap in the middle.

    client ns          near ns             far ns           server ns
    +--------+      +----------+        +----------+      +----------+
    |   c0 --|------|-- n0  n1-|--------|-f0   f1 -|------|-- s0     |
    +--------+      +----------+  the   +----------+      +----------+
                     near wire     tap    far wire

The two hosts run the kernel's own TCP.  The two wires copy Ethernet frames between their
interfaces in user space and can lose, delay, tag and untag them; tcpdump records between the
wires.  Loss on the near wire towards the client happens behind the tap: the tap sees the lost
frame and later its retransmission.  Loss on the far wire towards the client happens before
the tap: the tap sees a hole and later the segment that fills it.

A user-space wire is used rather than `tc netem` so that the recorders run on kernels built
without it (and without 802.1Q), and so that a rule can name one frame ("the first FIN").

Needs root, iproute2, ethtool and tcpdump.  Nothing outside the namespaces is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23

CLIENT4, SERVER4 = "192.0.2.10", "198.51.100.80"
CLIENT6, SERVER6 = "2001:db8:1::10", "2001:db8:2::80"
#: MAC addresses reserved for documentation (RFC 7042).
CLIENT_MAC, SERVER_MAC = "00:00:5e:00:53:10", "00:00:5e:00:53:80"

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TO_SERVER, TO_CLIENT = "to_server", "to_client"

OFFLOADS_OFF = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Segment:
    """What a wire rule may look at in a TCP frame."""

    direction: str
    client_port: int
    flags: int
    payload_len: int


def parse(direction: str, frame: bytes) -> Segment | None:
    """Find the TCP segment in an untagged Ethernet frame; None if there is none."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP:
        tcp = 14 + (frame[14] & 15) * 4
        end = 14 + int.from_bytes(frame[16:18], "big")
    elif ethertype == b"\x86\xdd" and frame[20] == socket.IPPROTO_TCP:
        tcp = 54
        end = 54 + int.from_bytes(frame[18:20], "big")
    else:
        return None
    source, target = struct.unpack_from("!HH", frame, tcp)
    header = (frame[tcp + 12] >> 4) * 4
    port = source if direction == TO_SERVER else target
    return Segment(direction, port, frame[tcp + 13], end - tcp - header)


@dataclass
class Rule:
    """What happens to the frames of one direction that `match` accepts.

    Of the matching frames the `nth` ones (1 = the first) are picked, or each one with
    `probability`.  A picked frame is lost, or with `delay_s` arrives that much later.
    """

    direction: str
    match: Callable[[Segment], bool]
    nth: frozenset[int] = frozenset()
    probability: float = 0.0
    delay_s: float | None = None
    seed: int = 1
    matched: int = 0
    picked: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Seed the dice."""
        self._random = random.Random(self.seed)

    def picks(self, segment: Segment) -> bool:
        """Count the segment, and say whether it is one to harm."""
        if segment.direction != self.direction or not self.match(segment):
            return False
        self.matched += 1
        hit = self.matched in self.nth or self._random.random() < self.probability
        self.picked += hit
        return hit


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move this thread into a network namespace; sockets made here stay there."""
    with Path("/proc/thread-self/ns/net").open() as home, Path("/var/run/netns", namespace).open() as target:
        _setns(target.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)} (root is needed)")


class Wire(threading.Thread):
    """Copies frames between two interfaces of one namespace, later, and not all of them."""

    def __init__(self, namespace: str, client_side: str, server_side: str, delay_s: float) -> None:
        """Open both interfaces; start() begins the copying."""
        super().__init__(daemon=True)
        self.delay_s = delay_s
        self.rules: list[Rule] = []
        #: When set, frames leaving on the tagged side carry this 802.1Q tag.
        self.vlan: int | None = None
        self.tagged_side = TO_SERVER
        self._stop_reading = threading.Event()
        self._queue: list[tuple[float, int, str, bytes]] = []
        self._serial = 0
        with inside(namespace):
            self._sockets = {
                TO_SERVER: _packet_socket(client_side),
                TO_CLIENT: _packet_socket(server_side),
            }

    def stop(self) -> None:
        """End the thread and close its sockets."""
        self._stop_reading.set()
        self.join()
        for sock in self._sockets.values():
            sock.close()

    def run(self) -> None:
        """Read, delay and write frames until stop()."""
        directions = {sock.fileno(): name for name, sock in self._sockets.items()}
        while not self._stop_reading.is_set():
            wait = 0.05
            if self._queue:
                wait = min(wait, max(0.0, self._queue[0][0] - time.monotonic()))
            ready, _, _ = select.select(list(directions), [], [], wait)
            for descriptor in ready:
                self._receive(directions[descriptor])
            self._send_due()

    def _receive(self, direction: str) -> None:
        frame = self._sockets[direction].recv(65536)
        extra = 0.0
        segment = parse(direction, frame)
        for rule in self.rules if segment else ():
            if segment and rule.picks(segment):
                if rule.delay_s is None:
                    return
                extra += rule.delay_s
        self._serial += 1
        due = time.monotonic() + self.delay_s + extra
        heapq.heappush(self._queue, (due, self._serial, direction, frame))

    def _send_due(self) -> None:
        while self._queue and self._queue[0][0] <= time.monotonic():
            _, _, direction, frame = heapq.heappop(self._queue)
            if self.vlan is not None and direction == self.tagged_side:
                frame = frame[:12] + struct.pack("!HH", 0x8100, self.vlan) + frame[12:]
            other = TO_CLIENT if direction == TO_SERVER else TO_SERVER
            with contextlib.suppress(OSError):
                self._sockets[other].send(frame)


def _packet_socket(interface: str) -> socket.socket:
    """Open a raw socket on one interface.  The kernel hands frames to it without their 802.1Q tag."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.bind((interface, ETH_P_ALL))
    return sock


def use_cubic(sock: socket.socket) -> socket.socket:
    """Set the usual congestion control, whatever this kernel's default is."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return sock


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


class Lab:
    """The namespaces, the wires and the recorder.  Use as a context manager."""

    def __init__(self, *, delay_s: float = 0.005, advmss: int = 400, mtu: int = 1500) -> None:
        """Choose each wire's delay one way, and the MSS the hosts advertise."""
        prefix = f"moslab{os.getpid()}"
        self.client, self.near = f"{prefix}-client", f"{prefix}-near"
        self.far, self.server = f"{prefix}-far", f"{prefix}-server"
        self._delay_s, self._advmss, self._mtu = delay_s, advmss, mtu
        self._recorder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Build everything; on failure leave nothing behind."""
        try:
            for namespace in (self.client, self.near, self.far, self.server):
                _ip("netns", "add", namespace)
            self._cable(self.client, "c0", self.near, "n0")
            self._cable(self.near, "n1", self.far, "f0")
            self._cable(self.far, "f1", self.server, "s0")
            self._host(self.client, "c0", CLIENT_MAC, (CLIENT4, CLIENT6), (SERVER4, SERVER6))
            self._host(self.server, "s0", SERVER_MAC, (SERVER4, SERVER6), (CLIENT4, CLIENT6))
            self.near_wire = Wire(self.near, "n0", "n1", self._delay_s)
            self.far_wire = Wire(self.far, "f0", "f1", self._delay_s)
        except BaseException:
            self._remove()
            raise
        self.near_wire.start()
        self.far_wire.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the recorder and the wires, delete the namespaces."""
        self.stop_recording()
        self.near_wire.stop()
        self.far_wire.stop()
        self._remove()

    def _remove(self) -> None:
        for namespace in (self.client, self.near, self.far, self.server):
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL, check=False)

    def _cable(self, left_ns: str, left: str, right_ns: str, right: str) -> None:
        """Make a veth pair whose segments are as long as on a wire, checksums filled in."""
        _ip("link", "add", left, "netns", left_ns, "type", "veth", "peer", "name", right, "netns", right_ns)
        for namespace, name in ((left_ns, left), (right_ns, right)):
            self.sysctl(namespace, **{f"net.ipv6.conf.{name}.disable_ipv6": 1})
            subprocess.run(
                ["ip", "netns", "exec", namespace, "ethtool", "-K", name, *OFFLOADS_OFF],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            _ip("-n", namespace, "link", "set", name, "mtu", str(self._mtu), "up")

    def _host(self, namespace: str, name: str, mac: str, own: tuple[str, str], peer: tuple[str, str]) -> None:
        """Give one end its addresses and an on-link route to the other end's network."""
        _ip("-n", namespace, "link", "set", name, "address", mac)
        self.sysctl(
            namespace,
            **{
                f"net.ipv6.conf.{name}.accept_dad": 0,
                f"net.ipv6.conf.{name}.router_solicitations": 0,
                f"net.ipv6.conf.{name}.disable_ipv6": 0,
                "net.ipv4.tcp_no_metrics_save": 1,
            },
        )
        for family, address, target in zip(("-4", "-6"), own, peer, strict=True):
            bits = "24" if family == "-4" else "64"
            network = target.rsplit("." if family == "-4" else "::", 1)[0]
            network += ".0/24" if family == "-4" else "::/64"
            extra = ["nodad"] if family == "-6" else []
            _ip("-n", namespace, "addr", "add", f"{address}/{bits}", "dev", name, *extra)
            _ip("-n", namespace, family, "route", "add", network, "dev", name, "advmss", str(self._advmss))
        _ip("-n", namespace, "link", "set", "lo", "up")

    def sysctl(self, namespace: str, **values: object) -> None:
        """Set kernel parameters inside one namespace."""
        command = ["ip", "netns", "exec", namespace, "sysctl", "-qw"]
        subprocess.run(command + [f"{k}={v}" for k, v in values.items()], check=True)

    def add_address(self, address: str, bits: int) -> None:
        """Give the client one more address."""
        _ip("-n", self.client, "addr", "add", f"{address}/{bits}", "dev", "c0", *(["nodad"] if ":" in address else []))

    def record(self, path: Path, *options: str) -> None:
        """Start tcpdump on the tap; whole frames, in the order they passed."""
        self._recorder = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                self.far,
                "tcpdump",
                "-i",
                "f0",
                "-s",
                "0",
                "-U",
                "-n",
                "-Z",
                "root",
                "--immediate-mode",
                "-w",
                str(path),
                *options,
            ],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 5
        while not (path.exists() and path.stat().st_size >= 24):
            if time.monotonic() > deadline:
                raise RuntimeError(f"tcpdump wrote nothing to {path}")
            time.sleep(0.05)
        time.sleep(0.2)

    def stop_recording(self) -> None:
        """Let the last frames pass, then end tcpdump."""
        if self._recorder:
            time.sleep(0.5)
            self._recorder.terminate()
            self._recorder.wait()
            self._recorder = None

    def listen(self, port: int, *, v6: bool = False) -> socket.socket:
        """Make a listening socket on the server."""
        with inside(self.server):
            sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        use_cubic(sock).setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((SERVER6 if v6 else SERVER4, port))
        sock.listen(16)
        return sock

    def dial(self, source_port: int, *, v6: bool = False) -> socket.socket:
        """Make a client socket bound to its source port, not connected yet."""
        with inside(self.client):
            sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
        use_cubic(sock).settimeout(20)
        sock.bind((CLIENT6 if v6 else CLIENT4, source_port))
        return sock
