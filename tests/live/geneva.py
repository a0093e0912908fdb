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
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

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


@dataclass
class Rule:
    """[TCP:flags:PA]-action-|: what is done to packets whose field has exactly this value.

    [TCP:flags:PA:1] does it for the first one only.
    """

    field: str
    value: str
    left: float
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
    for name, value, times, tree in re.findall(r"\[TCP:([\w-]+):([^\]:]*)(?::(\d+))?\]-(.*?)-\|", dna):
        action, rest = parse_action(tree)
        if rest:
            raise ValueError(f"{dna}: cannot read {rest!r}")
        rules.append(Rule(name, value, float(times or "inf"), action))
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
            if rule.left > 0 and self.matches(rule, packet):
                rule.left -= 1
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

    def tamper(self, packet: Packet, _layer: str, name: str, mode: str, value: str = "") -> Packet:
        """Change one field."""
        name = {"len": "length", "id": "ident", "urgptr": "urgent"}.get(name, name)
        new: object
        if name.startswith("options-"):
            name, new = "options", self.option(packet, name.removeprefix("options-"), mode, value)
        elif name == "flags":
            new = sum(1 << FLAGS.index(letter) for letter in value)
        elif name == "load":
            new = value.encode() if mode == "replace" else self.garbage(packet.load)
        elif name == "chksum":
            name, new = "wrong_checksum", True
        elif mode == "add":
            new = getattr(packet, name) + int(value)
        elif mode == "corrupt":
            # for seq and ack: far ahead; anything behind is said with "add"
            new = getattr(packet, name) + 2**28 + self.random.randrange(2**28)
        else:
            new = int(value)
        changed = replace(packet)
        setattr(changed, name, new)
        return changed

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
        made.settimeout(0)
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

    def close(self) -> None:
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
                    server.sock.settimeout(0)
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
            for side in (mos.MOS_CLIOVERLAP, mos.MOS_SVROVERLAP):  # both hosts run Linux
                mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, side, mos.MOS_OVERLAP_POLICY_LINUX)
            mos.mtcp_register_callback(m, sock, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, on_data)
            for hook in (mos.MOS_NULL, mos.MOS_HK_RCV):
                mos.mtcp_register_callback(m, sock, mos.MOS_ON_ERROR, hook, on_error)
            mos.mtcp_register_callback(m, sock, mos.MOS_ON_CONN_END, mos.MOS_HK_RCV, on_end)
            mos.mtcp_app_join(m)
        said.counters = mos.mtcp_getcounters(m)
    return said


# ---- the strategies -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Strategy:
    """A strategy of the client, or of the server, in Geneva's language."""

    name: str
    source: str
    client: str = ""
    server: str = ""
    patience: float = 0.5

    @property
    def dna(self) -> str:
        """The strategy's text."""
        return self.client or self.server


CCS, SIGCOMM, OURS = "CCS '19", "SIGCOMM '20", "ours"


def insert(change: str, flags: str = "PA", *, after: bool = False) -> str:
    """Send a tampered copy before, or after, every packet with these flags."""
    return f"[TCP:flags:{flags}]-duplicate({',' + change if after else change + ','})-|"


def tampers(*changes: str) -> str:
    """Several changes of one packet: "ack:corrupt" means tamper{TCP:ack:corrupt}."""
    text = ""
    for change in reversed(changes):
        layer = "IP" if change.split(":")[0] in {"ttl", "len"} else "TCP"
        text = f"tamper{{{layer}:{change}}}" + (f"({text},)" if text else "")
    return text


def desync() -> Iterator[Strategy]:
    """Payload that the server throws away, before the real one."""
    for name, source, changes in (
        ("data offset 10, bad checksum", CCS, ("dataofs:replace:10", "chksum:corrupt")),
        ("data offset 10, low TTL", CCS, ("dataofs:replace:10", "ttl:replace:10")),
        ("data offset 10, flags FRAPUN", CCS, ("dataofs:replace:10", "flags:replace:FRAPUN")),
        ("data offset 10, wrong ack", CCS, ("dataofs:replace:10", "ack:corrupt")),
        ("data offset 9", CCS, ("dataofs:replace:9",)),
        ("data offset 15, beyond the payload", OURS, ("load:replace:ab", "dataofs:replace:15")),
        ("data offset 4", OURS, ("load:corrupt", "dataofs:replace:4")),
        ("data offset 8, bad window scale", CCS, ("options-wscale:corrupt", "dataofs:replace:8")),
        ("other payload, bad checksum", CCS, ("load:corrupt", "chksum:corrupt")),
        ("other payload, low TTL", CCS, ("load:corrupt", "ttl:replace:8")),
        ("other payload, wrong ack", CCS, ("load:corrupt", "ack:corrupt")),
        ("other payload, ack 1 too high", OURS, ("load:corrupt", "ack:add:1")),
        ("other payload, ack 10 too low", OURS, ("load:corrupt", "ack:add:-10")),
        ("other payload, ack 70000 too low", OURS, ("load:corrupt", "ack:add:-70000")),
        ("other payload, wrong seq", OURS, ("load:corrupt", "seq:corrupt")),
        ("other payload, seq 100000 too high", OURS, ("load:corrupt", "seq:add:100000")),
        ("other payload, seq 64 too low", OURS, ("load:corrupt", "seq:add:-64")),
        ("other payload, seq 1 too low", OURS, ("load:corrupt", "seq:add:-1")),
        ("other payload, old timestamp", OURS, ("load:corrupt", "options-timestamp:corrupt")),
        ("other payload, timestamp 1 older", OURS, ("load:corrupt", "options-timestamp:add:-1")),
        ("other payload, timestamp 5000 older", OURS, ("load:corrupt", "options-timestamp:add:-5000")),
        ("other payload, md5 option", OURS, ("load:corrupt", "options-md5header:corrupt")),
        ("other payload, no flags", OURS, ("load:corrupt", "flags:replace:")),
        ("other payload, flag P only", OURS, ("load:corrupt", "flags:replace:P")),
        ("other payload, flag F only", OURS, ("load:corrupt", "flags:replace:F")),
        ("other payload, flags SPA", OURS, ("load:corrupt", "flags:replace:SPA")),
        ("other payload, flag S", OURS, ("load:corrupt", "flags:replace:S")),
        ("other payload, flags SF", OURS, ("load:corrupt", "flags:replace:SF")),
        ("other payload, flags RPA", OURS, ("load:corrupt", "flags:replace:RPA", "seq:add:1")),
        ("data offset 15", OURS, ("dataofs:replace:15",)),
        ("IP length 64", CCS, ("len:replace:64",)),
        ("IP length 64, other payload", OURS, ("load:corrupt", "len:replace:64")),
        ("IP length 200, beyond the packet", OURS, ("load:corrupt", "len:replace:200")),
        ("IP length 30, inside the TCP header", OURS, ("load:corrupt", "len:replace:30")),
    ):
        yield Strategy(f"Desync: {name}", source, insert(tampers(*changes)))
    split = tampers("load:corrupt", "ttl:replace:8").replace("8}", "8}(duplicate(fragment{tcp:-1:False},),)")
    yield Strategy("Desync: other payload in halves, low TTL", CCS, insert(split))


def teardown() -> Iterator[Strategy]:
    """RST and FIN that the server does not take."""
    for flags, source in (("R", CCS), ("RA", CCS), ("FA", OURS)):
        for name, change in (
            ("bad checksum", "chksum:corrupt"),
            ("low TTL", "ttl:replace:10"),
            ("md5 option", "options-md5header:corrupt"),
            ("wrong ack", "ack:corrupt"),
            ("wrong seq", "seq:corrupt"),
            ("seq 1 too high", "seq:add:1"),
            ("seq 1 too low", "seq:add:-1"),
            ("old timestamp", "options-timestamp:corrupt"),
        ):
            dna = insert(tampers(f"flags:replace:{flags}", change), "A", after=True)
            ours = flags == "FA" or change.startswith(("seq", "options-timestamp"))
            yield Strategy(f"Teardown: {flags}, {name}", OURS if ours else source, dna)
    for name, source, changes in (
        ("FRAPUEN, bad checksum", CCS, ("flags:replace:FRAPUEN", "chksum:corrupt")),
        ("FREACN, low TTL", CCS, ("flags:replace:FREACN", "ttl:replace:10")),
        ("FRAPUN, md5 option", CCS, ("flags:replace:FRAPUN", "options-md5header:corrupt")),
        ("F only", OURS, ("flags:replace:F",)),
        ("FPU (Xmas)", OURS, ("flags:replace:FPU",)),
    ):
        yield Strategy(f"Teardown: {name}", source, insert(tampers(*changes), "A", after=True))
    for flags, change in (("R", "chksum:corrupt"), ("RA", "ttl:replace:10"), ("R", "options-md5header:corrupt")):
        name = {"c": "bad checksum", "t": "low TTL", "o": "md5 option"}[change[0]]
        yield Strategy(
            f"Teardown: {flags} before the ACK, {name}", CCS, insert(tampers(f"flags:replace:{flags}", change), "A")
        )
    dna = "[TCP:flags:A]-tamper{TCP:load:replace:a5z2}(tamper{TCP:flags:replace:CN},)-|"
    yield Strategy("Teardown: ACK becomes CN with payload", CCS, dna)
    yield Strategy("Teardown: R behind the data, at its seq", OURS, insert(tampers("flags:replace:R"), after=True))
    real = tampers("flags:replace:R", f"seq:add:{SIZE}", "load:replace:")
    yield Strategy("Teardown: a real RST behind the data", OURS, insert(real, after=True))


def handshake() -> Iterator[Strategy]:
    """Games of the client with the SYN."""
    for name, source, tree in (
        ("SYN, then SYN with payload", CCS, "duplicate(,tamper{TCP:load:corrupt})"),
        ("SYN with payload, then SYN", OURS, "duplicate(tamper{TCP:load:corrupt},)"),
        ("SYN with payload only", OURS, "tamper{TCP:load:corrupt}"),
        ("SYN/ACK, then SYN", CCS, "duplicate(tamper{TCP:flags:replace:SA},)"),
        ("SYN, then SYN/ACK", OURS, "duplicate(,tamper{TCP:flags:replace:SA})"),
        ("SYN of another seq, then SYN", OURS, "duplicate(tamper{TCP:seq:corrupt},)"),
        ("SYN, then SYN of another seq", OURS, "duplicate(,tamper{TCP:seq:corrupt})"),
        ("SYN of another seq, low TTL, then SYN", OURS, f"duplicate({tampers('seq:corrupt', 'ttl:replace:8')},)"),
        ("SYN, then SYN of another seq, low TTL", OURS, f"duplicate(,{tampers('seq:corrupt', 'ttl:replace:8')})"),
        ("SYN, then RST, low TTL", OURS, f"duplicate(,{tampers('flags:replace:R', 'ttl:replace:8')})"),
        ("SYN, then RST/ACK of wrong ack", OURS, f"duplicate(,{tampers('flags:replace:RA', 'ack:corrupt')})"),
        ("SYN, then SYN of seq 10 higher, low TTL", OURS, f"duplicate(,{tampers('seq:add:10', 'ttl:replace:8')})"),
        ("SYN, then SYN of seq 10 lower, low TTL", OURS, f"duplicate(,{tampers('seq:add:-10', 'ttl:replace:8')})"),
        ("SYN with FIN, then SYN", OURS, "duplicate(tamper{TCP:flags:replace:SF},)"),
        ("SYN with bad window scale, then SYN", OURS, "duplicate(tamper{TCP:options-wscale:replace:255},)"),
    ):
        yield Strategy(f"Handshake: {name}", source, f"[TCP:flags:S]-{tree}-|", patience=1.3)
    dna = insert(tampers("flags:replace:S", "seq:corrupt"), "PA")
    yield Strategy("Handshake: SYN of another seq before the data", OURS, dna)
    again = ("flags:replace:S", "seq:add:-1")
    yield Strategy("Handshake: SYN again, before the data", OURS, insert(tampers(*again, "load:replace:"), "PA:1"))
    yield Strategy("Handshake: SYN again with payload, before the data", OURS, insert(tampers(*again), "PA:1"))


def segmentation() -> Iterator[Strategy]:
    """The real bytes in other pieces."""
    other = "tamper{TCP:load:corrupt}"
    for name, source, tree in (
        ("two segments", CCS, "fragment{tcp:-1:True}"),
        ("two segments, reversed", CCS, "fragment{tcp:8:False}"),
        ("three segments", CCS, "fragment{tcp:8:True}(,fragment{tcp:4:True})"),
        ("three segments, reversed", OURS, "fragment{tcp:8:False}(fragment{tcp:4:False},)"),
        ("overlap of 8", OURS, "fragment{tcp:8:True:8}"),
        ("overlap of 8, reversed", OURS, "fragment{tcp:8:False:8}"),
        ("overlap of 8, first piece other", OURS, f"fragment{{tcp:8:True:8}}({other},)"),
        ("overlap of 8, second piece other", OURS, f"fragment{{tcp:8:True:8}}(,{other})"),
        ("overlap of 8, reversed, first piece other", OURS, f"fragment{{tcp:8:False:8}}({other},)"),
        ("overlap of 8, reversed, second piece other", OURS, f"fragment{{tcp:8:False:8}}(,{other})"),
        ("rest twice with other bytes, then the head", OURS, f"fragment{{tcp:8:False}}(duplicate({other},),)"),
        ("again with other bytes", OURS, f"duplicate(,{other})"),
    ):
        yield Strategy(f"Segmentation: {name}", source, f"[TCP:flags:PA]-{tree}-|")
    dna = "[TCP:flags:PA]-fragment{tcp:8:False}-|[TCP:flags:A]-tamper{TCP:seq:corrupt}-|"
    yield Strategy("Segmentation: reversed, and ACKs of wrong seq", CCS, dna, patience=0.8)
    hybrid = insert(tampers("flags:replace:F", "len:replace:78"))
    yield Strategy("Hybrid: F with IP length 78", CCS, hybrid)
    yield Strategy("Hybrid: FA with IP length 78", OURS, hybrid.replace("replace:F}", "replace:FA}"))


def options() -> Iterator[Strategy]:
    """Options and urgent data."""
    for name, source, rule in (
        ("bad user timeout", CCS, "flags:PA]-tamper{TCP:options-uto:corrupt}"),
        (
            "bad user timeout, everything twice",
            CCS,
            "options-altchksum:]-tamper{TCP:options-uto:corrupt}(duplicate,)",
        ),
        ("md5 option where no MSS is", CCS, "options-mss:]-tamper{TCP:options-md5header:corrupt}"),
        ("md5 option on a copy of everything", OURS, "flags:PA]-duplicate(,tamper{TCP:options-md5header:corrupt})"),
        ("bad alternate checksum", OURS, "flags:PA]-tamper{TCP:options-altchksum:corrupt}"),
        ("bad window scale with data", OURS, "flags:PA]-tamper{TCP:options-wscale:corrupt}"),
        ("timestamp far ahead on an empty ACK", OURS, "flags:A]-duplicate(,tamper{TCP:options-timestamp:add:1000000})"),
        (
            "timestamp far ahead on the second half",
            OURS,
            "flags:PA:1]-fragment{tcp:8:True}(,tamper{TCP:options-timestamp:add:1000000})",
        ),
        ("urgent data", OURS, "flags:PA]-tamper{TCP:flags:replace:PAU}(tamper{TCP:urgptr:replace:10},)"),
        ("urgent pointer without the flag", OURS, "flags:PA]-tamper{TCP:urgptr:replace:10}"),
        ("urgent pointer behind the segment", OURS, "flags:PA]-" + tampers("flags:replace:PAU", "urgptr:replace:200")),
        ("urgent pointer 0", OURS, "flags:PA]-tamper{TCP:flags:replace:PAU}"),
        ("window 10 with the data", OURS, "flags:PA]-tamper{TCP:window:replace:10}"),
        ("window 0 with the data", OURS, "flags:PA]-tamper{TCP:window:replace:0}"),
    ):
        yield Strategy(f"Options: {name}", source, f"[TCP:{rule}-|", patience=0.8)


def server_side() -> Iterator[Strategy]:
    """Games of the server with the SYN/ACK."""
    load, ack = "tamper{TCP:load:corrupt}", "tamper{TCP:ack:corrupt}"
    for name, source, tree in (
        ("RST, then SYN (simultaneous open)", SIGCOMM, "duplicate({R},{S})"),
        ("SYN, then SYN with payload", SIGCOMM, "{S()}(duplicate(,{load}),)"),
        ("SYN/ACK of wrong ack, then SYN", SIGCOMM, "duplicate({ack},{S})"),
        ("SYN/ACK of wrong ack, then SYN/ACK", SIGCOMM, "duplicate({ack},)"),
        ("SYN/ACK of wrong ack, then with payload", SIGCOMM, "duplicate({ack},{load})"),
        ("FIN with payload, wrong ack, SYN/ACK", SIGCOMM, "duplicate(duplicate({F()}({load},),{ack}),)"),
        ("RST, wrong ack, SYN/ACK", SIGCOMM, "duplicate(duplicate({R},{ack}),)"),
        ("window 10, no scale", SIGCOMM, "tamper{TCP:window:replace:10}(tamper{TCP:options-wscale:replace:},)"),
        ("window 98", CCS, "tamper{TCP:window:replace:98}"),
        ("payload three times", SIGCOMM, "{load}(duplicate(duplicate,),)"),
        ("GET twice", SIGCOMM, "tamper{TCP:load:replace:GET / HTTP1.}(duplicate,)"),
        ("no flags, then SYN/ACK", SIGCOMM, "duplicate(tamper{TCP:flags:replace:},)"),
        ("FREC twice, then FSEC", CCS, "duplicate({FREC()}(duplicate,),{FSEC})"),
        ("RST/ACK, low TTL, then SYN/ACK", OURS, "duplicate(tamper{TCP:flags:replace:RA}(tamper{IP:ttl:replace:8},),)"),
        (
            "SYN/ACK of another seq, low TTL, before",
            OURS,
            "duplicate(tamper{TCP:seq:corrupt}(tamper{IP:ttl:replace:8},),)",
        ),
        (
            "SYN/ACK of another seq, low TTL, behind",
            OURS,
            "duplicate(,tamper{TCP:seq:corrupt}(tamper{IP:ttl:replace:8},))",
        ),
        (
            "SYN/ACK of seq 10 higher, low TTL, behind",
            OURS,
            "duplicate(,tamper{TCP:seq:add:10}(tamper{IP:ttl:replace:8},))",
        ),
        ("SYN/ACK of another seq behind", OURS, "duplicate(,tamper{TCP:seq:corrupt})"),
    ):
        text = re.sub(r"\{([FSREC]+)(?:\(\))?\}", r"tamper{TCP:flags:replace:\1}", tree)
        dna = f"[TCP:flags:SA]-{text.replace('{load}', load).replace('{ack}', ack)}-|"
        yield Strategy(f"Server: {name}", source, server=dna, patience=1.6)


STRATEGIES = [*desync(), *teardown(), *handshake(), *segmentation(), *options(), *server_side()]


# ---- the verdict --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One strategy: what the hosts did, and what mos said with bursts of 64 and of 1."""

    strategy: Strategy
    played: Played
    said: Said
    single: Said

    def faults(self) -> list[str]:
        """Give what mos got wrong without an ERROR; nothing is as it should be."""
        found = []
        for burst, said in ((64, self.said), (1, self.single)):
            for side in ("server", "client"):
                real, ours = getattr(self.played, f"{side}_read"), getattr(said, f"{side}_read")
                if real != ours and not said.errors:
                    found.append(f"burst {burst}: the {side} read {real!r}, mos delivered {ours!r} and raised no ERROR")
        return found


def judge(lab: Lab, strategy: Strategy) -> Verdict:
    """Play a strategy, and run mos on its capture."""
    played = lab.play(strategy)
    return Verdict(strategy, played, watch(played.packets, burst=64), watch(played.packets, burst=1))


def describe(data: bytes, whole: bytes) -> str:
    """Bytes in words."""
    if data == whole:
        return "all"
    if not data:
        return "nothing"
    if whole.startswith(data):
        return f"the first {len(data)} bytes"
    return f"{len(data)} bytes, not the real ones"


def host(verdict: Verdict) -> str:
    """Say what the server did."""
    played = verdict.played
    text = f"{played.server}, read {describe(played.server_read, REQUESTS)}"
    if played.client_read != REPLIES:
        text += f"; client {played.client}, read {describe(played.client_read, REPLIES)}"
    return text


def monitored(verdict: Verdict) -> str:
    """Say what mos delivered."""
    parts = []
    for side, whole in (("server", REQUESTS), ("client", REPLIES)):
        real, ours = getattr(verdict.played, f"{side}_read"), getattr(verdict.said, f"{side}_read")
        if real == ours and (side == "server" or real == whole):
            parts += ["the same"] * (side == "server")
        else:
            parts.append(f"{side}: {'the same' if real == ours else 'other' * bool(ours) or 'nothing'}")
            if ours and real != ours:
                parts[-1] = f"{side}: {describe(ours, whole)}" + (" nor those read" if real and real != whole else "")
    return "; ".join(parts)


def ends(verdict: Verdict) -> str:
    """Final states of the flows that mos saw: client's, server's, and why they ended."""
    texts = [f"{client}, {server} ({reason})" for client, server, reason in verdict.said.flows]
    return "; ".join(dict.fromkeys(texts))


def outcome(verdict: Verdict) -> str:
    """Verdict in a word or two."""
    bursts = {fault.split(":")[0] for fault in verdict.faults()}
    if bursts:
        return "**missed**" if len(bursts) > 1 else f"**missed** with {bursts.pop()}"
    same = all(
        getattr(said, f"{side}_read") == getattr(verdict.played, f"{side}_read")
        for said in (verdict.said, verdict.single)
        for side in ("server", "client")
    )
    return "exact" if same else "ERROR"


def table(verdicts: list[Verdict]) -> Iterator[str]:
    """Give docs/evasion.md."""
    yield INTRODUCTION.strip()
    counts = {name: sum(outcome(v).startswith(name) for v in verdicts) for name in ("exact", "ERROR", "**missed**")}
    said = ", ".join(f"{count} {name.strip('*')}" for name, count in counts.items())
    yield f"\n{len(verdicts)} strategies: {said}. Made on Linux {'.'.join(os.uname().release.split('.')[:2])}.\n"
    yield "| strategy | from | the server | mos delivered | final states in mos (end) | ERROR | verdict |"
    yield "|---|---|---|---|---|---|---|"
    for verdict in verdicts:
        errors = ", ".join(f"`{name}`" for name in verdict.said.errors) or "-"
        name, source = verdict.strategy.name, verdict.strategy.source
        cells = [name, source, host(verdict), monitored(verdict), ends(verdict), errors, outcome(verdict)]
        yield f"| {' | '.join(cells)} |"
    yield "\n## The strategies in Geneva's language\n"
    yield 'They change what the client sends; those named "Server" change what the server sends.\n'
    yield "```"
    width = max(len(verdict.strategy.name) for verdict in verdicts)
    yield from (f"{verdict.strategy.name:{width}}  {verdict.strategy.dna}" for verdict in verdicts)
    yield "```"


INTRODUCTION = """
# Evasion

<!-- Made by tests/live/geneva.py --table on a running kernel; do not edit. -->

Whoever wants to hide from a monitor sends packets that the monitor and the server understand
differently. [Geneva](https://geneva.cs.umd.edu/) found such strategies by search. Here they are played
against the TCP of a real Linux kernel, with a real client; mos reads a capture taken between the two, with
`verify_checksums=True`. The client asks twice, 64 bytes each, the server answers each question, then both
close.

- A packet with a TTL below 20 is in the capture and does not reach the other host, as if the rest of the
  path were too long for it.
- "Corrupt" sequence and acknowledgement numbers are far ahead of the true ones, "corrupt" timestamps far behind.
- **exact**: mos delivered to both sides, byte by byte, what the programs there read.
- **ERROR**: it did not, and raised `MOS_ON_ERROR` with the reason given ([the reasons](events.md#error-reasons)).
- **missed**: neither. Both runs count, with bursts of 64 packets and of 1; columns are of the former.

A simultaneous open ("then SYN") goes on or hangs from run to run: Linux refuses the ACK when the timestamp it
echoes is newer than the SYN/ACK's, which depends on the tick of a clock.

"The server" gives how its program saw the connection end, or the kernel's state of the socket when nothing
more moved. From: CCS '19 is Bock et al., *Geneva: Evolving Censorship Evasion Strategies*; SIGCOMM '20 is Bock
et al., *Come as You Are: Helping Unmodified Clients Bypass Censorship with Server-side Evasion*; the others are
variations. `tests/live/test_evasion.py` plays them all; `python tests/live/geneva.py NAME -v` shows the packets
of one.
"""


def show(verdict: Verdict) -> Iterator[str]:
    """Packets of a strategy in lines."""
    isn: dict[str, int] = {}
    for _, data in verdict.played.packets:
        packet = Packet.parse(data)
        base, other = isn.setdefault(packet.src, packet.seq), isn.get(packet.dst, 0)
        seq, ack = ((value + 2**31) % 2**32 - 2**31 for value in (packet.seq - base, packet.ack - other))
        yield (
            f"{'client' if packet.src == CLIENT else 'server'} {packet.letters():6} seq {seq} ack {ack}"
            f" window {packet.window} ttl {packet.ttl} {packet.options} {packet.load[:24]!r} ({len(packet.load)})"
        )


def main() -> int:
    """Play what the command line asks for."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    wanted = [strategy for strategy in STRATEGIES if all(name in strategy.name for name in names)]
    with contextlib.closing(Lab()) as lab:
        verdicts = [judge(lab, strategy) for strategy in wanted]
    if "--table" in sys.argv:
        print(*table(verdicts), sep="\n")
        return 0
    for verdict in verdicts:
        name, errors = verdict.strategy.name, " ".join(verdict.said.errors)
        print(f"{outcome(verdict)}: {name}: {host(verdict)}; mos: {monitored(verdict)}; {ends(verdict)}; {errors}")
        if "-v" in sys.argv:
            print(verdict.strategy.dna, *show(verdict), *verdict.faults(), sep="\n    ")
    return int(any(verdict.faults() for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
