"""Record demo.pcap: web traffic of real Linux hosts over a path that loses segments.

    sudo python3 tests/data/record_demo.py        # writes demo.pcap and demo.json beside itself

netlab.py has the picture of the path and of where the tap is; README.md lists the flows.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import count_truth
from netlab import (
    FIN,
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

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
CLIENTS4 = ("192.0.2.10", "192.0.2.11", "192.0.2.12")
CLIENTS6 = ("2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::12")
SENTENCES = (
    "A segment that was sent twice tells you where the path is thin.",
    "The client asks, the server answers, and the monitor keeps both ledgers.",
    "Every byte has a number; a number seen before is a byte sent again.",
    "Windows open and close, and nobody on the path is told why.",
    "What was lost behind the tap comes past it a second time.",
    "What was lost before the tap leaves a hole until somebody fills it.",
)


def text(title: str, size: int) -> bytes:
    """Write a readable page of exactly `size` bytes, the same every time."""
    lines = [f"{title}\n\n"]
    total, number = len(lines[0]), 1
    while total < size:
        lines.append(f"{number:04d}  {SENTENCES[(number * 7 + len(title)) % len(SENTENCES)]}\n")
        total += len(lines[-1])
        number += 1
    return "".join(lines).encode()[: size - 1] + b"\n"


PAGES = {
    "/": text("Welcome", 1800),
    "/about.txt": text("About this server", 700),
    "/news.txt": text("News", 2600),
    "/guide.txt": text("The long guide", 24000),
    "/notes.txt": text("Notes of a monitor", 15000),
}


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves PAGES and takes uploads."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pages/1", ""

    def do_GET(self) -> None:
        """Answer with a page."""
        page = PAGES.get(self.path)
        self._answer(200 if page else 404, page or b"no such page\n")

    def do_POST(self) -> None:
        """Read the upload and say how long it was."""
        got = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, f"stored {len(got)} bytes\n".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        """Stay quiet."""


class Server(http.server.ThreadingHTTPServer):
    """The page server, quiet about clients that vanish."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that reset their connection are part of the plan."""


class Server6(Server):
    """The same over IPv6."""

    address_family = socket.AF_INET6


@dataclass(frozen=True)
class Visit:
    """One connection of a client: what it does, and what the path does to it."""

    port: int
    note: str
    paths: Sequence[str] = ()
    upload: int = 0
    v6: bool = False
    host: int = 0
    server_port: int = 80
    abort_after: int = 0
    near: Sequence[Rule] = ()
    far: Sequence[Rule] = ()


def data(port: int, direction: str, *nth: int, loss: float = 0.0, delay: float | None = None) -> Rule:
    """Harm data segments of a visit: the `nth` ones, or each with probability `loss`."""

    def match(segment: Segment) -> bool:
        return segment.client_port == port and segment.payload_len > 0

    return Rule(direction, match, frozenset(nth), loss, delay, seed=port)


def flagged(port: int, direction: str, flag: int) -> Rule:
    """Lose the first segment of a visit that carries the flag."""

    def match(segment: Segment) -> bool:
        return segment.client_port == port and bool(segment.flags & flag)

    return Rule(direction, match, frozenset({1}))


VISITS = (
    Visit(49201, "clean page", ["/"]),
    Visit(49202, "download, bursts lost behind the tap", ["/guide.txt"],
          near=[data(49202, TO_CLIENT, 9, 10, 24, 25, 26, 44, 58)]),
    Visit(49203, "download over IPv6, random loss behind the tap", ["/guide.txt"], v6=True,
          near=[data(49203, TO_CLIENT, loss=0.05)]),
    Visit(49204, "four pages on one connection, an answer's last segment lost behind the tap",
          ["/", "/about.txt", "/news.txt", "/about.txt"], v6=True, host=1,
          near=[data(49204, TO_CLIENT, 10)]),
    Visit(49205, "upload, random loss behind the tap", upload=13000, host=1,
          far=[data(49205, TO_SERVER, loss=0.08)]),
    Visit(49206, "upload over IPv6, a run of three lost behind the tap", upload=8000, v6=True,
          far=[data(49206, TO_SERVER, 6, 7, 8)]),
    Visit(49207, "the first SYN is lost behind the tap", ["/about.txt"],
          far=[flagged(49207, TO_SERVER, SYN)]),
    Visit(49208, "the first SYN/ACK is lost behind the tap", ["/about.txt"], v6=True, host=2,
          near=[flagged(49208, TO_CLIENT, SYN)]),
    Visit(49209, "the client's FIN is lost behind the tap", ["/about.txt"], host=2,
          far=[flagged(49209, TO_SERVER, FIN)]),
    Visit(49210, "the server's FIN is lost behind the tap", ["/about.txt"], host=1,
          near=[flagged(49210, TO_CLIENT, FIN)]),
    Visit(49211, "download, loss and late segments before the tap", ["/notes.txt"], host=2,
          far=[data(49211, TO_CLIENT, 8, 14, 15, 30), data(49211, TO_CLIENT, 20, 26, delay=0.004)]),
    Visit(49212, "download over IPv6, late segments before the tap", ["/news.txt", "/news.txt"],
          v6=True, host=1, far=[data(49212, TO_CLIENT, 4, 12, delay=0.003)]),
    Visit(49213, "upload, loss before the tap", upload=6000, host=1,
          near=[data(49213, TO_SERVER, 5, 11)]),
    Visit(49214, "nobody listens on the port", ["/"], server_port=8081),
    Visit(49215, "the client aborts in the middle", ["/guide.txt"], v6=True, host=2,
          abort_after=2500),
    Visit(49216, "no such page", ["/missing.txt"], host=2),
)  # fmt: skip


class Browser(threading.Thread):
    """Carries out one visit and remembers the bytes it sent and received."""

    def __init__(self, lab: Lab, visit: Visit) -> None:
        """Remember where and what."""
        super().__init__()
        self.visit = visit
        self.sent, self.received = b"", b""
        self.complete = False
        self._client = lab.client

    def run(self) -> None:
        """Connect, talk, close."""
        visit = self.visit
        with inside(self._client):
            sock = socket.socket(socket.AF_INET6 if visit.v6 else socket.AF_INET)
        use_cubic(sock).settimeout(20)
        with sock:
            sock.bind(((CLIENTS6 if visit.v6 else CLIENTS4)[visit.host], visit.port))
            try:
                sock.connect((SERVER6 if visit.v6 else SERVER4, visit.server_port))
            except ConnectionRefusedError:
                return
            self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        visit = self.visit
        if visit.upload:
            body = text("An upload", visit.upload)
            head = f"POST /inbox HTTP/1.1\r\nHost: mos.example\r\nContent-Length: {len(body)}\r\n"
            self._send(sock, head.encode() + b"Connection: close\r\n\r\n" + body)
            self._read_answer(sock)
        for number, path in enumerate(visit.paths, 1):
            last = "Connection: close\r\n" if number == len(visit.paths) else ""
            self._send(sock, f"GET {path} HTTP/1.1\r\nHost: mos.example\r\n{last}\r\n".encode())
            if visit.abort_after:
                sock.recv(visit.abort_after, socket.MSG_WAITALL)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            self._read_answer(sock)
        self.complete = sock.recv(1) == b""

    def _send(self, sock: socket.socket, request: bytes) -> None:
        sock.sendall(request)
        self.sent += request

    def _read_answer(self, sock: socket.socket) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._more(sock)
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            piece = self._more(sock)
            answer, body = answer + piece, body + piece
        self.received += answer

    def _more(self, sock: socket.socket) -> bytes:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError(f"visit {self.visit.port}: the server hung up early")
        return piece

    def account(self) -> dict[str, object]:
        """Say what the application saw; null where the visit did not run to its end."""
        account: dict[str, object] = {"client_port": self.visit.port, "note": self.visit.note}
        for name, stream in (("sent", self.sent), ("received", self.received)):
            account[f"{name}_bytes"] = len(stream) if self.complete else None
            account[f"{name}_sha256"] = hashlib.sha256(stream).hexdigest() if self.complete else None
        return account


def serve(lab: Lab) -> list[Server]:
    """Start the page server on IPv4 and IPv6."""
    servers = []
    for kind, address in ((Server, SERVER4), (Server6, SERVER6)):
        with inside(lab.server):
            server = kind((address, 80), Pages, bind_and_activate=False)
        use_cubic(server.socket)
        server.server_bind()
        server.server_activate()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
    return servers


def record(path: Path) -> list[dict[str, object]]:
    """Record all visits; give back what the applications saw."""
    with Lab(advmss=400) as lab:
        for index in (1, 2):
            lab.add_address(CLIENTS4[index], 24)
            lab.add_address(CLIENTS6[index], 64)
        for visit in VISITS:
            lab.near_wire.rules.extend(visit.near)
            lab.far_wire.rules.extend(visit.far)
        servers = serve(lab)
        lab.record(path)
        browsers = [Browser(lab, visit) for visit in VISITS]
        for browser in browsers:
            browser.start()
            time.sleep(0.06)
        for browser in browsers:
            browser.join()
        time.sleep(1.5)
        lab.stop_recording()
        for server in servers:
            server.shutdown()
            server.server_close()
    return [browser.account() for browser in browsers]


def main() -> None:
    """Record, count, write the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", type=Path, default=HERE / "demo.pcap")
    path: Path = parser.parse_args().output
    path.unlink(missing_ok=True)
    print(count_truth.summary(count_truth.write(path, visits=record(path))))


if __name__ == "__main__":
    main()
