"""Play Geneva's evasion strategies between two real Linux hosts, and compare what mos said.

    python tests/live/geneva.py            every strategy, one line each; exit code 1 if one is missed
    python tests/live/geneva.py NAME -v    one strategy, with its packets
    python tests/live/geneva.py --table    docs/evasion.md

Two network namespaces, each with a tun device; this program carries the packets between them:

    client's kernel - [strategy] - the cable, where the capture is taken - [strategy] - server's kernel

The client asks twice and closes, the server answers every question.  A strategy is written in
Geneva's own language and changes what its host sends.  A packet whose TTL is below MIN_TTL is
captured and then thrown away, as if more hops followed.  Sockets are those of the running kernel:
what recv() returned is the truth that mos, which reads the capture, is measured by.

The strategies are those of Bock et al., "Geneva: Evolving Censorship Evasion Strategies" (CCS '19),
Bock et al., "Come as You Are: Helping Unmodified Clients Bypass Censorship with Server-side
Evasion" (SIGCOMM '20), and variations of ours in the same language.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))

import packets as p
from kernel_tcp import IFF_NO_PI, IFF_TUN, TUNSETIFF
from support import monitor

import mos

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"  # reserved for documentation
PORT = 80
MIN_TTL = 20
SIZE, ROUNDS = 64, 2
QUIET_S = 0.004
CLONE_NEWNET = 0x40000000
FLAGS = "FSRPAUECN"
OPTIONS = {"mss": 2, "wscale": 3, "sackok": 4, "timestamp": 8, "altchksum": 14, "md5header": 19, "uto": 28}
OPTION_SIZE = {"mss": 2, "wscale": 1, "sackok": 0, "altchksum": 3, "md5header": 16, "uto": 2}
KERNEL_STATES = (
    "?",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RCVD",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "TIME_WAIT",
    "CLOSED",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
)


# ---- a packet that can be tampered with -------------------------------------------------------


@dataclass
class Packet:
    """An IPv4 TCP packet by its fields; None = what the other fields make of it."""

    src: str
    dst: str
    ttl: int
    ident: int
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    urgent: int
    options: list[tuple[int, bytes]]
    load: bytes
    length: int | None = None
    dataofs: int | None = None
    wrong_checksum: bool = False

    @classmethod
    def parse(cls, data: bytes) -> Packet:
        """Take a packet of the kernel apart."""
        tcp = data[(data[0] & 15) * 4 : int.from_bytes(data[2:4], "big")]
        sport, dport, seq, ack, bits, window, _, urgent = struct.unpack("!HHIIHHHH", tcp[:20])
        size = (bits >> 12) * 4
        src, dst = (socket.inet_ntoa(data[at : at + 4]) for at in (12, 16))
        ident = int.from_bytes(data[4:6], "big")
        options = list(split_options(tcp[20:size]))
        return cls(src, dst, data[8], ident, sport, dport, seq, ack, bits & 0x1FF, window, urgent, options, tcp[size:])

    def __bytes__(self) -> bytes:
        """Give the packet as it goes on the wire."""
        options = b"".join(bytes([kind]) + (bytes([len(body) + 2]) + body) * (kind > 1) for kind, body in self.options)
        options += b"\0" * (-len(options) % 4)
        words = (20 + len(options)) // 4 if self.dataofs is None else self.dataofs
        bits = words << 12 | self.flags
        ports = (self.sport, self.dport, self.seq % 2**32, self.ack % 2**32, bits, self.window)
        segment = struct.pack("!HHIIHHHH", *ports, 0, self.urgent) + options + self.load
        covered = segment if self.length is None else segment[: self.length - 20]
        value = p.checksum(p.pseudo_header(self.src, self.dst, p.TCP, len(covered)) + covered)
        value ^= 0x5555 if self.wrong_checksum else 0
        segment = segment[:16] + struct.pack("!H", value) + segment[18:]
        return p.ipv4(segment, self.src, self.dst, ttl=self.ttl, ident=self.ident, total_length=self.length)

    def letters(self) -> str:
        """Flags in Geneva's letters."""
        return "".join(letter for bit, letter in enumerate(FLAGS) if self.flags >> bit & 1)


def split_options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take TCP options apart, without the padding at the end."""
    while data and data[0]:
        size = 1 if data[0] == 1 else max(data[1], 2) if len(data) > 1 else len(data)
        yield data[0], data[2:size]
        data = data[size:]


# ---- Geneva's language --------------------------------------------------------------------------


@dataclass(frozen=True)
class Action:
    """A node of an action tree: duplicate, drop, tamper{...}, fragment{...}; None = send."""

    name: str
    words: tuple[str, ...] = ()
    left: Action | None = None
    right: Action | None = None


class Rule(NamedTuple):
    """[TCP:flags:PA]-action-|: what is done to packets whose field has exactly this value."""

    field: str
    value: str
    action: Action | None


def parse_action(text: str) -> tuple[Action | None, str]:
    """Read one action; give what follows it too."""
    found = re.match(r"(duplicate|drop|tamper|fragment)(?:\{([^}]*)\})?", text)
    if not found:
        return None, text
    left = right = None
    rest = text[found.end() :]
    if rest.startswith("("):
        left, rest = parse_action(rest[1:])
        if rest.startswith(","):
            right, rest = parse_action(rest[1:])
        if not rest.startswith(")"):
            raise ValueError(f"expected ')' at {rest!r}")
        rest = rest[1:]
    return Action(found[1], tuple((found[2] or "").split(":")), left, right), rest


def parse(dna: str) -> list[Rule]:
    """Read a strategy: rules for what a host sends."""
    rules = []
    for name, value, tree in re.findall(r"\[TCP:([\w-]+):([^\]]*)\]-(.*?)-\|", dna):
        action, rest = parse_action(tree)
        if rest:
            raise ValueError(f"{dna}: cannot read {rest!r}")
        rules.append(Rule(name, value, action))
    if not rules:
        raise ValueError(f"{dna}: no rule")
    return rules


class Engine:
    """Applies a strategy; "corrupt" gives the same values in every run, relative to the true ones."""

    def __init__(self, dna: str) -> None:
        self.rules = parse(dna) if dna else []
        self.random = random.Random(dna)

    def run(self, packet: Packet) -> list[Packet]:
        """Give what leaves instead of a packet."""
        for rule in self.rules:
            if self.matches(rule, packet):
                return self.act(rule.action, packet)
        return [packet]

    def matches(self, rule: Rule, packet: Packet) -> bool:
        """Say whether a packet triggers a rule; an option that is not there is empty."""
        if rule.field == "flags":
            return set(rule.value) == set(packet.letters())
        kind = OPTIONS[rule.field.removeprefix("options-")]
        return rule.value == "".join(body.hex() for number, body in packet.options if number == kind)

    def act(self, action: Action | None, packet: Packet) -> list[Packet]:
        """Run an action and those below it."""
        if action is None:
            return [packet]
        if action.name == "drop":
            return []
        if action.name == "tamper":
            return self.act(action.left, self.tamper(packet, *action.words))
        if action.name == "duplicate":
            first, second = replace(packet, options=list(packet.options)), packet
        elif packet.load:
            first, second = segment(packet, *action.words[1:])
        else:
            first, second = replace(packet, options=list(packet.options)), packet
        return self.act(action.left, first) + self.act(action.right, second)

    def tamper(self, packet: Packet, layer: str, name: str, mode: str, value: str = "") -> Packet:
        """Change one field."""
        if name.startswith("options-"):
            return replace(packet, options=self.option(packet, name.removeprefix("options-"), mode, value))
        if name == "flags":
            return replace(packet, flags=sum(1 << FLAGS.index(letter) for letter in value))
        if name == "load":
            return replace(packet, load=value.encode() if mode == "replace" else self.garbage(packet.load))
        if name == "chksum":
            return replace(packet, wrong_checksum=True)
        name = {"len": "length", "id": "ident", "urgptr": "urgent"}.get(name, name)
        if mode == "add":
            return replace(packet, **{name: getattr(packet, name) + int(value)})
        if mode == "corrupt":
            # for seq and ack: far ahead; anything behind is said with "add"
            return replace(packet, **{name: getattr(packet, name) + 2**28 + self.random.randrange(2**28)})
        return replace(packet, **{name: int(value)})

    def garbage(self, load: bytes) -> bytes:
        """Other bytes than the real ones, as many."""
        return bytes(self.random.choices(b"bcdfghjklmnpqrstvwxz", k=len(load) or 24))

    def option(self, packet: Packet, name: str, mode: str, value: str) -> list[tuple[int, bytes]]:
        """Options with one changed, or added behind the others."""
        kind = OPTIONS[name]
        if name == "timestamp":
            old = next((body for number, body in packet.options if number == kind), bytes(8))
            stamp, echo = struct.unpack("!II", old)
            change = int(value) if mode == "add" else -(2**28) - self.random.randrange(2**28)
            body = struct.pack("!II", (stamp + change) % 2**32, echo)
        elif mode == "corrupt":
            body = self.random.randbytes(OPTION_SIZE[name])
        else:
            body = int(value or 0).to_bytes(OPTION_SIZE[name], "big")
        kept = [option if option[0] != kind else (kind, body) for option in packet.options]
        return kept if kept != packet.options else [*kept, (kind, body)]


def segment(packet: Packet, size: str, in_order: str, overlap: str = "0") -> tuple[Packet, Packet]:
    """Cut a segment in two; `overlap` bytes of the second are in the first as well."""
    at = int(size)
    if at < 0 or at > len(packet.load) - 1:
        at = len(packet.load) // 2
    first = replace(packet, load=packet.load[: at + int(overlap)], options=list(packet.options))
    second = replace(packet, load=packet.load[at:], seq=packet.seq + at, options=list(packet.options))
    return (first, second) if in_order == "True" else (second, first)


# ---- two hosts, and a cable through this program ------------------------------------------------


class Namespace:
    """A network namespace of one tun device.  It goes away with the file descriptors."""

    def __init__(self, address: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._setns, self._home = libc.setns, os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if libc.unshare(CLONE_NEWNET):
            os.close(self._home)
            raise OSError(ctypes.get_errno(), "no network namespace")
        try:
            self.own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN | IFF_NO_PI))
            for name, value in (("ipv6/conf/all/disable_ipv6", 1), ("ipv4/tcp_no_metrics_save", 1)):
                with contextlib.suppress(FileNotFoundError):
                    Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")
            for command in (f"addr add {address}/24 dev tun0", "link set tun0 up"):
                subprocess.run(["ip", *command.split()], check=True, timeout=10)
        finally:
            self._setns(self._home, CLONE_NEWNET)

    def socket(self) -> socket.socket:
        """Make a TCP socket inside."""
        self._setns(self.own, CLONE_NEWNET)
        try:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        finally:
            self._setns(self._home, CLONE_NEWNET)
        made.setblocking(False)
        return made

    def close(self) -> None:
        """Give everything back."""
        for fd in (self.tun, self.own, self._home):
            os.close(fd)

    def packets(self) -> Iterator[bytes]:
        """Take what the kernel has sent."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self.tun, 65536)
                if data[0] >> 4 == 4 and data[9] == p.TCP:
                    yield data


def request(number: int) -> bytes:
    """Make a question of the client."""
    return f"GET /?q=ultrasurf&n={number} HTTP/1.1".encode().ljust(SIZE - 4, b"-") + b"\r\n\r\n"


def reply(number: int) -> bytes:
    """Make an answer of the server."""
    return f"HTTP/1.1 200 fine {number}".encode().ljust(SIZE - 4, b"+") + b"\r\n\r\n"


REQUESTS = b"".join(request(number) for number in range(ROUNDS))
REPLIES = b"".join(reply(number) for number in range(ROUNDS))


class App:
    """The program at one end: what it read, and how its connection ended."""

    def __init__(self, sock: socket.socket | None, *, asks: bool) -> None:
        self.sock, self.asks = sock, asks
        self.got, self.sent = b"", 0
        self.fate = ""

    @property
    def over(self) -> bool:
        """Nothing more happens here."""
        return bool(self.fate)

    def state(self) -> str:
        """State of the kernel's socket."""
        if not self.sock:
            return "not accepted"
        return KERNEL_STATES[self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]]

    def work(self) -> None:
        """Read what is there, send what is due, close when all is said."""
        if self.sock is None or self.over:
            return
        try:
            while part := self.sock.recv(65536):
                self.got += part
            self.fate = "closed"
            self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            with contextlib.suppress(BlockingIOError, OSError):
                self.talk(self.sock)
        except OSError as error:
            if self.state() != "SYN_SENT":
                self.fate = "closed" if self.fate else {104: "reset", 111: "refused"}.get(error.errno or 0, str(error))

    def talk(self, sock: socket.socket) -> None:
        """Ask, or answer, as far as the other side allows."""
        due = min(len(self.got) // SIZE + self.asks, ROUNDS)
        if self.asks and self.state() == "SYN_SENT":
            return
        while self.sent < due:
            sock.send((request if self.asks else reply)(self.sent))
            self.sent += 1
        if self.asks and len(self.got) >= SIZE * ROUNDS:
            sock.shutdown(socket.SHUT_WR)


@dataclass
class Played:
    """What happened: the packets on the cable, and what both programs got."""

    packets: list[tuple[int, bytes]] = field(default_factory=list)
    server_read: bytes = b""
    client_read: bytes = b""
    server: str = ""
    client: str = ""


class Lab:
    """Two hosts that play one strategy after the other."""

    def __init__(self) -> None:
        self.hosts = {CLIENT: Namespace(CLIENT), SERVER: Namespace(SERVER)}

    def __enter__(self) -> Lab:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take it down."""
        for host in self.hosts.values():
            host.close()

    def play(self, strategy: Strategy) -> Played:
        """Play a strategy."""
        played = Played()
        with self.hosts[CLIENT].socket() as client, self.hosts[SERVER].socket() as listener:
            for sock, address in ((client, (CLIENT, 0)), (listener, (SERVER, PORT))):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
            listener.listen()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.connect_ex((SERVER, PORT))
            apps = App(client, asks=True), App(None, asks=False)
            engines = {CLIENT: Engine(strategy.client), SERVER: Engine(strategy.server)}
            self.converse(played, apps, listener, engines, strategy.patience)
            server = apps[1].sock
            if server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                server.close()
        for host in self.hosts.values():  # the farewells of half-open sockets
            for _ in host.packets():
                pass
        return played

    def converse(
        self,
        played: Played,
        apps: tuple[App, App],
        listener: socket.socket,
        engines: dict[str, Engine],
        patience: float,
    ) -> None:
        """Carry packets until both programs are done, or nothing can be hoped for."""
        client, server = apps
        assert client.sock
        port, deadline = client.sock.getsockname()[1], time.monotonic() + patience
        while True:
            moved = self.carry(played, engines, port)
            if server.sock is None:
                with contextlib.suppress(BlockingIOError):
                    server.sock, _ = listener.accept()
                    server.sock.setblocking(False)
            before = [(app.got, app.sent, app.fate) for app in apps]
            for app in apps:
                app.work()
            if moved or before != [(app.got, app.sent, app.fate) for app in apps]:
                continue
            if time.monotonic() > deadline or (client.over and (server.over or server.sock is None)):
                break
            select.select([host.tun for host in self.hosts.values()], [], [], QUIET_S)
        played.server_read, played.client_read = server.got, client.got
        played.server, played.client = server.fate or server.state(), client.fate or client.state()

    def carry(self, played: Played, engines: dict[str, Engine], port: int) -> bool:
        """Carry what both kernels have sent; true if there was something."""
        moved = False
        for source, target in ((CLIENT, SERVER), (SERVER, CLIENT)):
            for data in self.hosts[source].packets():
                packet = Packet.parse(data)
                if port not in {packet.sport, packet.dport}:
                    continue
                moved = True
                for sent in engines[source].run(packet):
                    played.packets.append((time.time_ns(), bytes(sent)))
                    if sent.ttl >= MIN_TTL:
                        os.write(self.hosts[target].tun, bytes(sent))
        return moved


# ---- what mos says of the capture ---------------------------------------------------------------


@dataclass
class Said:
    """What mos delivered to each side, how it says it ended, and its errors."""

    server_read: bytes = b""
    client_read: bytes = b""
    flows: list[tuple[str, str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


def watch(packets: list[tuple[int, bytes]], *, burst: int) -> Said:
    """Run mos on a capture, with checksums verified."""
    said = Said()

    def on_data(m: mos.Context, sock: int, side: int, _event: int) -> None:
        try:
            data = mos.mtcp_peek(m, sock, side)
        except mos.StreamGap:
            data = mos.mtcp_peek(m, sock, side)
        if side == mos.MOS_SIDE_SVR:
            said.server_read += data
        else:
            said.client_read += data

    def on_error(m: mos.Context, _sock: int, _side: int, _event: int) -> None:
        name = mos.mtcp_getlasterror(m).name
        if name not in said.errors:
            said.errors.append(name)

    def on_end(m: mos.Context, sock: int, side: int, _event: int) -> None:
        if side == mos.MOS_SIDE_SVR:
            figures = mos.mtcp_getfigures(m, sock)
            said.flows.append((figures.client_state, figures.server_state, figures.end_reason))

    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(p.pcap(packets, nanoseconds=True, link_type=p.LINK_RAW))
        file.flush()
        with monitor(file.name, verify_checksums=True, burst=burst) as m:
            sock = mos.mtcp_socket(m, socket.AF_UNSPEC, mos.MOS_SOCK_MONITOR_STREAM, 0)
            mos.mtcp_register_callback(m, sock, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, on_data)
            for hook in (mos.MOS_NULL, mos.MOS_HK_RCV):
                mos.mtcp_register_callback(m, sock, mos.MOS_ON_ERROR, hook, on_error)
            mos.mtcp_register_callback(m, sock, mos.MOS_ON_CONN_END, mos.MOS_HK_RCV, on_end)
            mos.mtcp_app_join(m)
        said.counters = mos.mtcp_getcounters(m)
    return said
