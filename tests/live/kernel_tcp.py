"""Ask the TCP of the running kernel what it makes of hand-made segments.

    answers = ask([[Piece(1, b"AA"), Piece(1, b"BB"), Piece(0, b"-")], ...])

For every case a connection is opened to a listening socket, its segments are injected in the
given order, and what recv() delivers is the answer.  Packets go through a tun device, whose
write() returns when the kernel has dealt with the packet, so nothing has to wait.  All of it
happens in a network namespace of a child process that goes away with it.  Needs root and
unshare(1): `unavailable()` says what is missing.  Some thousand cases a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SERVER, CLIENT = "198.51.100.1", "198.51.100.2"
PORT = 7000
FIRST_CLIENT_PORT = 1024
BATCH = 400
WINDOW = 65535
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
TIMEOUT_S = 5
SACK_PERMITTED = b"\x02\x04\x05\xb4\x01\x01\x04\x02"  # with an MSS of 1460


class Piece(NamedTuple):
    """A segment: offset of its first byte in the stream, its bytes, and whether it carries FIN."""

    at: int
    data: bytes
    fin: bool = False


def unavailable() -> str:
    """Say why the kernel cannot be asked here; empty when it can."""
    if os.geteuid() != 0:
        return "needs root, to make a network namespace"
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    return ""


def ask(cases: Sequence[Sequence[Piece]], *, eager: bool = False, sack: bool = False) -> list[bytes]:
    """Give what an application reads in each case: after the last segment, or `eager` after every one."""
    request = {
        "eager": eager,
        "sack": sack,
        "cases": [[[piece.at, piece.data.hex(), piece.fin] for piece in case] for case in cases],
    }
    command = ["unshare", "--net", sys.executable, str(Path(__file__).resolve())]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"asking the kernel failed: {done.stderr.strip()}")
    return [bytes.fromhex(answer) for answer in json.loads(done.stdout)]


# ---- in the namespace ------------------------------------------------------------------------


def words(data: bytes) -> int:
    """Sum of the 16-bit words."""
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def folded(total: int) -> int:
    """Internet checksum of a sum of words."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


ADDRESSES = ipaddress.IPv4Address(CLIENT).packed + ipaddress.IPv4Address(SERVER).packed
ADDRESSES_SUM = words(ADDRESSES)


def packet(port: int, numbers: tuple[int, int], flags: int, data: bytes = b"", options: bytes = b"") -> bytes:
    """Make an IPv4 packet from the client's port to the server; numbers: sequence, acknowledgement."""
    seq, ack = numbers
    size = 20 + len(options) + len(data)
    offset = (20 + len(options)) // 4 << 4
    fields = [port, PORT, seq & 0xFFFFFFFF, ack, offset, flags, WINDOW, 0, 0]
    header = struct.Struct("!HHIIBBHHH")
    total = words(header.pack(*fields) + options + data) + ADDRESSES_SUM + socket.IPPROTO_TCP + size
    fields[7] = folded(total)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, socket.IPPROTO_TCP, 0)
    ip = ip[:-2] + struct.pack("!H", folded(words(ip) + ADDRESSES_SUM))
    return ip + ADDRESSES + header.pack(*fields) + options + data


class Lab:
    """A tun device and a listening socket behind it."""

    def __init__(self, *, eager: bool, sack: bool) -> None:
        self.eager, self.options = eager, SACK_PERMITTED if sack else b""
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
        for command in (f"addr add {SERVER}/24 dev tun0", "link set tun0 up txqueuelen 10000", "link set lo up"):
            subprocess.run(["ip", *command.split()], check=True)
        for name in ("ipv4/tcp_max_syn_backlog", "core/somaxconn"):
            with contextlib.suppress(OSError):
                Path("/proc/sys/net", name).write_text(str(4 * BATCH), encoding="ascii")
        self.listener = socket.create_server((SERVER, PORT), backlog=2 * BATCH)
        self.next_port = FIRST_CLIENT_PORT

    def received(self) -> Iterator[tuple[int, int, int]]:
        """Give port, sequence number and flags of the packets the kernel sent since."""
        while select.select([self.tun], [], [], 0)[0]:
            data = os.read(self.tun, 65536)
            if data[0] >> 4 == 4 and data[9] == socket.IPPROTO_TCP:
                port, seq = struct.unpack("!2xHI", data[20:28])
                yield port, seq, data[33]

    def connect(self, count: int) -> list[tuple[int, int, socket.socket]]:
        """Open connections: client port, what to acknowledge, and the server's socket of each."""
        ports = range(self.next_port, self.next_port + count)
        self.next_port = FIRST_CLIENT_PORT if ports.stop + BATCH > 65535 else ports.stop
        for port in ports:
            os.write(self.tun, packet(port, (isn(port), 0), SYN, options=self.options))
        acks = {port: seq + 1 & 0xFFFFFFFF for port, seq, flags in self.received() if flags == SYN | ACK}
        for port in ports:
            os.write(self.tun, packet(port, (isn(port) + 1, acks[port]), ACK))
        sockets = {}
        self.listener.settimeout(TIMEOUT_S)
        for _ in ports:
            server, (_, port) = self.listener.accept()
            server.setblocking(False)  # noqa: FBT003 - the socket module's own
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sockets[port] = server
        return [(port, acks[port], sockets[port]) for port in ports]

    def inject(self, cases: Sequence[Sequence[Piece]]) -> Iterator[bytes]:
        """Run cases side by side."""
        for case, (port, ack, server) in zip(cases, self.connect(len(cases)), strict=True):
            got = b""
            for piece in case:
                flags = ACK | PSH | (FIN if piece.fin else 0)
                os.write(self.tun, packet(port, (isn(port) + 1 + piece.at, ack), flags, piece.data))
                if self.eager:
                    got += readable(server)
            yield got + readable(server)
            server.close()
        for _ in self.received():
            pass


def isn(port: int) -> int:
    """Give the client's initial sequence number; some of them wrap."""
    return -3 - port % 7 if port % 2 else port * 1000


def readable(server: socket.socket) -> bytes:
    """Read all there is."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while part := server.recv(1 << 20):
            data += part
    return data


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    lab = Lab(eager=request["eager"], sack=request["sack"])
    cases = [[Piece(at, bytes.fromhex(data), fin) for at, data, fin in case] for case in request["cases"]]
    answers = []
    for start in range(0, len(cases), BATCH):
        answers += [answer.hex() for answer in lab.inject(cases[start : start + BATCH])]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
