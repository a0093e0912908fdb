"""Record small captures of what Linux TCP does in particular cases, one function a capture.

    sudo python3 tests/data/record_linux.py              # all of them
    sudo python3 tests/data/record_linux.py tfo rst      # some

The first line of each function says what its capture shows.  netlab.py has the picture of the path;
README.md says what was recorded.  Beside each capture a .json file with its count is written.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import count_truth
from netlab import (
    CLIENT4,
    CLIENT6,
    FIN,
    RST,
    SERVER4,
    SERVER6,
    SYN,
    TO_CLIENT,
    TO_SERVER,
    Lab,
    Rule,
    Segment,
    inside,
    use_cubic,
)
from record_demo import data, flagged, text

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
PORT = 80
REQUEST = b"please\n"
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_SEND_QUEUE = 19, 20, 21, 2

Handler = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(listener: socket.socket, handler: Handler) -> Iterator[None]:
    """Accept connections in the background, each handled in its own thread."""
    threads: list[threading.Thread] = []

    def handle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            handler(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=handle, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield
    finally:
        time.sleep(0.1)
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        for thread in threads:
            thread.join()
        listener.close()


def read_to_end(sock: socket.socket) -> bytes:
    """Receive everything until the other side's FIN."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def answer(size: int) -> Handler:
    """Make a server that reads one request, answers `size` bytes and closes."""

    def handler(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text("An answer", size))

    return handler


def collect(connection: socket.socket) -> None:
    """Serve: read to the end, then say how much that was, and close."""
    connection.sendall(f"{len(read_to_end(connection))} bytes\n".encode())


def address(*, v6: bool) -> tuple[str, int]:
    """Say where the server listens."""
    return (SERVER6 if v6 else SERVER4, PORT)


def abort(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def tfo(path: Path) -> None:
    """Record TCP Fast Open: cookie requests, data in the SYN, and such a SYN lost behind the tap."""
    with Lab() as lab:
        for namespace in (lab.client, lab.server):
            lab.sysctl(namespace, **{"net.ipv4.tcp_fastopen": 3})
        lab.far_wire.rules.append(flagged(49303, TO_SERVER, SYN))
        with contextlib.ExitStack() as stack:
            for v6 in (False, True):
                listener = lab.listen(PORT, v6=v6)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
                stack.enter_context(serving(listener, answer(900)))
            lab.record(path)
            for port, v6 in ((49301, False), (49302, False), (49303, False), (49304, True), (49305, True)):
                with lab.dial(port, v6=v6) as sock:
                    sock.settimeout(None)
                    sock.sendto(REQUEST, socket.MSG_FASTOPEN, address(v6=v6))
                    read_to_end(sock)
            lab.stop_recording()


def half_close(path: Path) -> None:
    """Record one side that closes and goes on receiving; once its FIN is lost behind the tap."""
    with Lab() as lab:
        lab.far_wire.rules.append(flagged(49313, TO_SERVER, FIN))

        def slow_answer(connection: socket.socket) -> None:
            read_to_end(connection)
            for part in range(4):
                connection.sendall(text(f"Part {part}", 1200))
                time.sleep(0.05)

        def early_leaver(connection: socket.socket) -> None:
            connection.sendall(b"send me all you have\n")
            connection.shutdown(socket.SHUT_WR)
            read_to_end(connection)

        with serving(lab.listen(PORT), slow_answer), serving(lab.listen(PORT, v6=True), early_leaver):
            lab.record(path)
            for port in (49311, 49313):
                with lab.dial(port) as sock:
                    sock.connect(address(v6=False))
                    sock.sendall(REQUEST)
                    sock.shutdown(socket.SHUT_WR)
                    read_to_end(sock)
            with lab.dial(49312, v6=True) as sock:
                sock.connect(address(v6=True))
                read_to_end(sock)
                for part in range(4):
                    sock.sendall(text(f"Part {part}", 1200))
                    time.sleep(0.05)
            lab.stop_recording()


def rst(path: Path) -> None:
    """Record refused connections, aborts by either side, and a port used again after an abort."""
    with Lab() as lab:

        def unread(connection: socket.socket) -> None:
            connection.recv(3)
            connection.sendall(b"enough\n")
            time.sleep(0.05)

        def hang_up(connection: socket.socket) -> None:
            connection.recv(65536)
            abort(connection)

        lab.near_wire.rules.append(flagged(49323, TO_CLIENT, RST))
        with serving(lab.listen(PORT), unread), serving(lab.listen(PORT, v6=True), hang_up):
            lab.record(path)
            for port, v6 in ((49321, False), (49322, True), (49323, False)):
                with lab.dial(port, v6=v6) as sock, contextlib.suppress(ConnectionRefusedError):
                    sock.connect((SERVER6 if v6 else SERVER4, 8081))
            for port, v6 in ((49324, False), (49325, True)):
                with lab.dial(port, v6=v6) as sock, contextlib.suppress(ConnectionResetError):
                    sock.connect(address(v6=v6))
                    sock.sendall(text("A letter", 1000))
                    read_to_end(sock)
            for _ in range(2):
                sock = lab.dial(49326)
                sock.connect(address(v6=False))
                sock.sendall(REQUEST)
                sock.recv(100)
                abort(sock)
            lab.stop_recording()


def zero_window(path: Path) -> None:
    """Record a receiver that stops reading (zero window, probes), and an idle connection's keep-alives."""
    with Lab() as lab:

        def lazy(connection: socket.socket) -> None:
            time.sleep(1.6)
            collect(connection)

        listener = lab.listen(PORT)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
        with serving(listener, lazy), serving(lab.listen(PORT, v6=True), answer(600)):
            lab.record(path)
            with lab.dial(49331) as sock:
                sock.connect(address(v6=False))
                sock.sendall(text("A long letter", 16000))
                sock.shutdown(socket.SHUT_WR)
                read_to_end(sock)
            with lab.dial(49332, v6=True) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                    sock.setsockopt(socket.IPPROTO_TCP, option, 1)
                sock.connect(address(v6=True))
                time.sleep(3.3)
                sock.sendall(REQUEST)
                read_to_end(sock)
            lab.stop_recording()


def simultaneous(path: Path) -> None:
    """Record hosts that connect to each other at once, and close at once."""
    with Lab(delay_s=0.04) as lab:
        lab.record(path)
        for v6 in (False, True):
            start = threading.Barrier(2)
            ends = ((lab.client, CLIENT6 if v6 else CLIENT4), (lab.server, address(v6=v6)[0]))
            sockets = []
            for namespace, own in ends:
                with inside(namespace):
                    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
                use_cubic(sock).settimeout(10)
                sock.bind((own, 49341))
                sockets.append(sock)

            def meet(sock: socket.socket, peer: str, start: threading.Barrier = start) -> None:
                start.wait()
                sock.connect((peer, 49341))
                sock.sendall(text(f"To {peer}", 700))
                sock.recv(700, socket.MSG_WAITALL)
                time.sleep(0.3)
                start.wait()
                sock.close()

            threads = [
                threading.Thread(target=meet, args=(sock, peer))
                for sock, (_, peer) in zip(sockets, reversed(ends), strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        lab.stop_recording()


def wrap(path: Path) -> None:
    """Record uploads whose sequence numbers pass 2^32 (and 2^31), some with loss behind the tap there."""
    plan = (
        (49351, 0xFFFFFFFF, 1500),
        (49352, 0xFFFFFFFE, 1500),
        (49353, 0xFFFFF000, 9000),
        (49354, 0x7FFFFE00, 3000),
    )
    with Lab() as lab:
        lab.far_wire.rules += [
            flagged(49351, TO_SERVER, SYN),
            data(49352, TO_SERVER, 1),
            data(49353, TO_SERVER, 10, 11, 12),
        ]
        with serving(lab.listen(PORT), collect):
            lab.record(path)
            for port, isn, size in plan:
                with lab.dial(port) as sock:
                    start_at(sock, isn)
                    sock.connect(address(v6=False))
                    sock.sendall(text("Round the circle", size))
                    sock.shutdown(socket.SHUT_WR)
                    read_to_end(sock)
            lab.stop_recording()


def start_at(sock: socket.socket, isn: int) -> None:
    """Make an unconnected socket use this initial sequence number (socket repair, tcp(7))."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("=I", isn))
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)


def ipv6_vlan(path: Path) -> None:
    """Record IPv6 (and one IPv4) transfers with an 802.1Q tag, in nanoseconds, some loss behind the tap."""
    with Lab() as lab:
        lab.near_wire.vlan, lab.near_wire.tagged_side = 42, TO_SERVER
        lab.far_wire.vlan, lab.far_wire.tagged_side = 42, TO_CLIENT
        lab.near_wire.rules += [data(49361, TO_CLIENT, 4, 9), last_ack(49362)]
        with contextlib.ExitStack() as stack:
            for v6 in (False, True):
                stack.enter_context(serving(lab.listen(PORT, v6=v6), answer(6000)))
            lab.record(path, "--time-stamp-precision=nano")
            for port, v6 in ((49361, True), (49362, True), (49363, False)):
                with lab.dial(port, v6=v6) as sock:
                    sock.connect(address(v6=v6))
                    sock.sendall(REQUEST)
                    read_to_end(sock)
            lab.stop_recording()


def last_ack(port: int) -> Rule:
    """Lose the server's ACK of the client's FIN (a payload-free segment after the server's FIN)."""
    server_closed = False

    def match(segment: Segment) -> bool:
        nonlocal server_closed
        if segment.client_port != port or segment.direction != TO_CLIENT:
            return False
        after_fin = server_closed and not segment.flags & FIN
        server_closed |= bool(segment.flags & FIN)
        return after_fin

    return Rule(TO_CLIENT, match, frozenset({1}))


CAPTURES = {
    function.__name__: function for function in (tfo, half_close, rst, zero_window, simultaneous, wrap, ipv6_vlan)
}


def main() -> None:
    """Record the captures named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="capture", help=", ".join(CAPTURES))
    parser.add_argument("--folder", type=Path, default=HERE, help="where to write, beside this file if not given")
    arguments = parser.parse_args()
    names: list[str] = arguments.names
    if unknown := sorted(set(names) - set(CAPTURES)):
        parser.error(f"no such capture: {', '.join(unknown)}")
    for name in names or CAPTURES:
        path = arguments.folder / f"{name}.pcap"
        path.unlink(missing_ok=True)
        CAPTURES[name](path)
        print(count_truth.summary(count_truth.write(path)))


if __name__ == "__main__":
    main()
