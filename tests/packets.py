"""Build packets, captures and scripted TCP connections for tests, without any dependency.

Builders go from the inside out and take and return bytes; lengths and checksums are filled in,
and where a test wants a wrong one it can say so.  Addresses are text; their family decides
between IPv4 and IPv6.  Times are integers in nanoseconds since the epoch.

    talk = Conversation()
    talk.handshake()
    lost = talk.data("client", b"hello ", captured=False)
    talk.data("client", b"world")
    talk.retransmit(lost)
    talk.close()
    path.write_bytes(pcap(talk))
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TCP, UDP = 6, 17
ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, ETHERTYPE_QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
LINK_ETHERNET, LINK_RAW = 1, 101
CLIENT_MAC, SERVER_MAC = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
EPOCH_NS = 1_700_000_000 * 10**9
SECOND_NS = 10**9
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000
SEQ_MODULUS = 1 << 32
MAX_TCP_OPTIONS = 40

Side = Literal["client", "server"]


# ---- bytes of one packet ---------------------------------------------------------------------


def checksum(data: bytes) -> int:
    """Compute the Internet checksum (RFC 1071) of some bytes."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ethernet(
    packet: bytes,
    *,
    src: str = CLIENT_MAC,
    dst: str = SERVER_MAC,
    ethertype: int | None = None,
    vlans: Sequence[int] = (),
) -> bytes:
    """Put an Ethernet header, with 802.1Q tags (outermost first), before an IP packet.

    Of several tags all but the innermost are 802.1ad (QinQ).  Without `ethertype` the IP version
    decides.
    """
    if ethertype is None:
        ethertype = ETHERTYPE_IPV6 if packet[0] >> 4 == 6 else ETHERTYPE_IPV4
    header = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in (dst, src))
    for left, tag in enumerate(vlans, 1 - len(vlans)):
        header += struct.pack("!HH", ETHERTYPE_QINQ if left else ETHERTYPE_VLAN, tag)
    return header + struct.pack("!H", ethertype) + packet


def ipv4(  # noqa: PLR0913 - as many as the header has fields
    payload: bytes,
    src: str,
    dst: str,
    *,
    protocol: int = TCP,
    ttl: int = 64,
    ident: int = 0,
    fragment: int = DONT_FRAGMENT,
    options: bytes = b"",
    total_length: int | None = None,
    header_checksum: int | None = None,
) -> bytes:
    """Put an IPv4 header before a payload.  `fragment` is the whole field: flags and offset / 8."""
    options += b"\0" * (-len(options) % 4)
    size = 20 + len(options)
    total = size + len(payload) if total_length is None else total_length
    addresses = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    fields = [0x40 | size // 4, 0, total & 0xFFFF, ident & 0xFFFF, fragment, ttl, protocol, 0]
    layout = struct.Struct("!BBHHHBBH")
    if header_checksum is None:
        header_checksum = checksum(layout.pack(*fields) + addresses + options)
    return layout.pack(*fields[:-1], header_checksum) + addresses + options + payload


class Extension(NamedTuple):
    """An IPv6 extension header: its protocol number, and its bytes after the next-header field."""

    protocol: int
    body: bytes


def extension_options(protocol: int, options: bytes = b"") -> Extension:
    """Make a hop-by-hop (0) or destination options (60) header, padded with PadN."""
    missing = -(2 + len(options)) % 8
    padding = b"\0" if missing == 1 else bytes([1, missing - 2]) + bytes(missing - 2) if missing else b""
    return Extension(protocol, bytes([(2 + len(options) + missing) // 8 - 1]) + options + padding)


def extension_routing(*, routing_type: int = 0, segments_left: int = 0, data: bytes = bytes(4)) -> Extension:
    """Make a routing header; `data` is what follows the segments-left field (4 bytes + 8 * n)."""
    return Extension(43, bytes([(4 + len(data)) // 8 - 1, routing_type, segments_left]) + data)


def extension_fragment(offset: int, ident: int, *, more: bool) -> Extension:
    """Make a fragment header; `offset` in bytes."""
    return Extension(44, struct.pack("!xHI", offset | more, ident))


def ipv6(  # noqa: PLR0913 - as many as the header has fields
    payload: bytes,
    src: str,
    dst: str,
    *,
    next_header: int = TCP,
    hop_limit: int = 64,
    flow_label: int = 0,
    extensions: Sequence[Extension] = (),
    payload_length: int | None = None,
) -> bytes:
    """Put an IPv6 header and extension headers (in their order on the wire) before a payload."""
    for extension in reversed(extensions):
        payload = bytes([next_header]) + extension.body + payload
        next_header = extension.protocol
    length = len(payload) if payload_length is None else payload_length
    header = struct.pack("!IHBB", 6 << 28 | flow_label, length & 0xFFFF, next_header, hop_limit)
    return header + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed + payload


def pseudo_header(src: str, dst: str, protocol: int, length: int) -> bytes:
    """Give the pseudo header that TCP and UDP checksums cover."""
    addresses = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    return addresses + struct.pack("!HH" if len(addresses) == 8 else "!II", *(protocol, length))


def tcp(  # noqa: PLR0913 - as many as the header has fields
    payload: bytes,
    src: tuple[str, int],
    dst: tuple[str, int],
    *,
    seq: int,
    ack: int = 0,
    flags: int = ACK,
    window: int = 65535,
    options: bytes = b"",
    urgent: int = 0,
    tcp_checksum: int | None = None,
) -> bytes:
    """Make a TCP segment; options are padded with zeros."""
    options += b"\0" * (-len(options) % 4)
    if len(options) > MAX_TCP_OPTIONS:
        raise ValueError(f"{len(options)} bytes of TCP options; the header has room for {MAX_TCP_OPTIONS}")
    offset = (20 + len(options)) // 4 << 4
    fields = [src[1], dst[1], seq % SEQ_MODULUS, ack % SEQ_MODULUS, offset, flags, window, 0, urgent]
    layout = struct.Struct("!HHIIBBHHH")
    if tcp_checksum is None:
        segment = layout.pack(*fields) + options + payload
        tcp_checksum = checksum(pseudo_header(src[0], dst[0], TCP, len(segment)) + segment)
    fields[7] = tcp_checksum
    return layout.pack(*fields) + options + payload


def udp(payload: bytes, src: tuple[str, int], dst: tuple[str, int]) -> bytes:
    """Make a UDP datagram."""
    length = 8 + len(payload)
    datagram = struct.pack("!HHHH", src[1], dst[1], length, 0) + payload
    value = checksum(pseudo_header(src[0], dst[0], UDP, length) + datagram) or 0xFFFF
    return datagram[:6] + struct.pack("!H", value) + payload


def ip(payload: bytes, src: str, dst: str, *, protocol: int = TCP, ident: int = 0) -> bytes:
    """Put an IP header of the addresses' family before a payload."""
    if ":" in src:
        return ipv6(payload, src, dst, next_header=protocol)
    return ipv4(payload, src, dst, protocol=protocol, ident=ident)


def fragments_ipv4(packet: bytes, size: int) -> list[bytes]:
    """Cut an IPv4 packet into fragments of at most `size` (a multiple of 8) payload bytes."""
    header = (packet[0] & 15) * 4
    src, dst = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    pieces = []
    for start in range(0, len(packet) - header, size):
        piece = packet[header + start : header + start + size]
        more = MORE_FRAGMENTS if header + start + size < len(packet) else 0
        pieces.append(
            ipv4(
                piece,
                src,
                dst,
                protocol=packet[9],
                ttl=packet[8],
                ident=int.from_bytes(packet[4:6], "big"),
                fragment=more | start // 8,
                options=packet[20:header] if start == 0 else b"",
            )
        )
    return pieces


def fragments_ipv6(packet: bytes, size: int, ident: int) -> list[bytes]:
    """Cut an IPv6 packet without extension headers into fragments of `size` (a multiple of 8) bytes."""
    src, dst = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
    pieces = []
    for start in range(40, len(packet), size):
        header = extension_fragment(start - 40, ident, more=start + size < len(packet))
        pieces.append(
            ipv6(
                packet[start : start + size],
                src,
                dst,
                next_header=packet[6],
                hop_limit=packet[7],
                extensions=[header],
            )
        )
    return pieces


# ---- TCP options -----------------------------------------------------------------------------

SACK_PERMITTED = b"\4\2"
NOP = b"\1"


def mss(value: int) -> bytes:
    """Make the maximum segment size option."""
    return struct.pack("!BBH", 2, 4, value)


def window_scale(shift: int) -> bytes:
    """Make the window scale option."""
    return bytes([3, 3, shift]) + NOP


def sack(*blocks: tuple[int, int]) -> bytes:
    """Make the SACK option of [start, end) blocks."""
    edges = b"".join(struct.pack("!II", *(edge % SEQ_MODULUS for edge in block)) for block in blocks)
    return NOP * 2 + bytes([5, 2 + len(edges)]) + edges


def timestamps(value: int, echo: int) -> bytes:
    """Make the timestamps option."""
    return NOP * 2 + struct.pack("!BBII", 8, 10, value % SEQ_MODULUS, echo % SEQ_MODULUS)


def fast_open(cookie: bytes = b"") -> bytes:
    """Make the TCP Fast Open option; without a cookie it asks for one."""
    return bytes([34, 2 + len(cookie)]) + cookie


# ---- capture files ---------------------------------------------------------------------------


def pcap(
    packets: Iterable[tuple[int, bytes]],
    *,
    nanoseconds: bool = False,
    big_endian: bool = False,
    link_type: int = LINK_ETHERNET,
    snaplen: int = 262144,
) -> bytes:
    """Make a classic pcap file; frames longer than `snaplen` are cut."""
    order = ">" if big_endian else "<"
    unit = 1 if nanoseconds else 1000
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)]
    for time_ns, frame in packets:
        kept = frame[:snaplen]
        seconds, rest = divmod(time_ns, SECOND_NS)
        parts += [struct.pack(order + "IIII", seconds, rest // unit, len(kept), len(frame)), kept]
    return b"".join(parts)


class Pcapng:
    """Make a pcapng file of one section: add interfaces, then packets, then take bytes()."""

    def __init__(self, *, big_endian: bool = False) -> None:
        self._order = ">" if big_endian else "<"
        self._resolutions: list[int] = []
        self._parts: list[bytes] = []
        self.block(0x0A0D0D0A, self._pack("IHHq", 0x1A2B3C4D, 1, 0, -1))

    def _pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self._order + layout, *values)

    def block(self, block_type: int, body: bytes) -> None:
        """Add any block; the lengths and the padding are made here."""
        body += b"\0" * (-len(body) % 4)
        length = self._pack("I", 12 + len(body))
        self._parts.append(self._pack("I", block_type) + length + body + length)

    def _options(self, *options: tuple[int, bytes]) -> bytes:
        if not options:
            return b""
        made = (self._pack("HH", code, len(value)) + value + b"\0" * (-len(value) % 4) for code, value in options)
        return b"".join(made) + bytes(4)

    def interface(
        self, *, link_type: int = LINK_ETHERNET, snaplen: int = 262144, tsresol: int | None = None, name: str = ""
    ) -> int:
        """Add an interface and give its number.

        `tsresol` is the option's octet: n for 10^-n s, 0x80 | n for 2^-n s; None leaves it out (us).
        Times that the resolution cannot express are rounded down.
        """
        options = [(2, name.encode())] if name else []
        if tsresol is not None:
            options.append((9, bytes([tsresol])))
        self.block(1, self._pack("HHI", link_type, 0, snaplen) + self._options(*options))
        self._resolutions.append(6 if tsresol is None else tsresol)
        return len(self._resolutions) - 1

    def add(self, time_ns: int, frame: bytes, *, interface: int = 0, wire_len: int | None = None) -> None:
        """Add an enhanced packet block."""
        resolution = self._resolutions[interface]
        units = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        ticks = time_ns * units // SECOND_NS
        length = len(frame) if wire_len is None else wire_len
        self.block(6, self._pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), length) + frame)

    def add_simple(self, frame: bytes) -> None:
        """Add a simple packet block: interface 0, no time."""
        self.block(3, self._pack("I", len(frame)) + frame)

    def __bytes__(self) -> bytes:
        """Give the file."""
        return b"".join(self._parts)


# ---- a scripted connection -------------------------------------------------------------------


@dataclass
class Host:
    """One end of a conversation.  `next_seq` follows the highest sequence number it sent."""

    address: str
    port: int
    mac: str
    isn: int
    next_seq: int
    window: int = 65535
    ident: int = 1

    @property
    def endpoint(self) -> tuple[str, int]:
        """Address and port."""
        return self.address, self.port


@dataclass(frozen=True)
class Segment:
    """A segment of a conversation as it was sent."""

    time_ns: int
    frame: bytes
    sender: Side
    seq: int
    ack: int
    flags: int
    payload: bytes
    options: bytes


class Conversation:
    """A TCP connection, segment by segment.  Iterate for (time_ns, frame bytes).

    A segment is sent `step_ns` after the one before; by default with the sender's next sequence
    number, and acknowledging all that the other side ever sent.  `seq` (absolute) or `offset`
    (0 = ISN + 1) puts it elsewhere.  With `captured=False` it is sent, but not in the capture.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        client: tuple[str, int] = ("192.0.2.1", 40000),
        server: tuple[str, int] = ("198.51.100.1", 80),
        *,
        client_isn: int = 1000,
        server_isn: int = 5000,
        start_ns: int = EPOCH_NS,
        step_ns: int = 1_000_000,
        vlans: Sequence[int] = (),
    ) -> None:
        self.hosts: dict[Side, Host] = {
            "client": Host(*client, CLIENT_MAC, client_isn, client_isn),
            "server": Host(*server, SERVER_MAC, server_isn, server_isn),
        }
        self.segments: list[Segment] = []
        self.now_ns = start_ns
        self.step_ns = step_ns
        self.vlans = tuple(vlans)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Give the time and the frame of every captured segment."""
        return ((segment.time_ns, segment.frame) for segment in self.segments)

    def wait(self, duration_ns: int) -> None:
        """Let time pass before the next segment."""
        self.now_ns += duration_ns

    def seq_of(self, sender: Side, offset: int) -> int:
        """Give the sequence number of a stream offset."""
        return (self.hosts[sender].isn + 1 + offset) % SEQ_MODULUS

    def send(  # noqa: PLR0913 - all but the first have defaults
        self,
        sender: Side,
        flags: int,
        payload: bytes = b"",
        *,
        seq: int | None = None,
        ack: int | None = None,
        window: int | None = None,
        options: bytes = b"",
        captured: bool = True,
    ) -> Segment:
        """Send any segment; the methods below call this one."""
        host, peer = self.hosts[sender], self.hosts[other(sender)]
        seq = host.next_seq if seq is None else seq % SEQ_MODULUS
        ack = (peer.next_seq if flags & ACK else 0) if ack is None else ack % SEQ_MODULUS
        window = host.window if window is None else window
        body = tcp(payload, host.endpoint, peer.endpoint, seq=seq, ack=ack, flags=flags, window=window, options=options)
        packet = ip(body, host.address, peer.address, ident=host.ident)
        frame = ethernet(packet, src=host.mac, dst=peer.mac, vlans=self.vlans)
        segment = Segment(self.now_ns, frame, sender, seq, ack, flags, payload, options)
        host.ident += 1
        end = seq + len(payload) + bool(flags & SYN) + bool(flags & FIN)
        if not flags & RST and (end - host.next_seq) % SEQ_MODULUS < SEQ_MODULUS // 2:
            host.next_seq = end % SEQ_MODULUS
        if captured:
            self.segments.append(segment)
        self.now_ns += self.step_ns
        return segment

    def syn(self, payload: bytes = b"", *, options: bytes = b"", captured: bool = True) -> Segment:
        """Send the client's SYN; a payload makes it TCP Fast Open."""
        return self.send("client", SYN, payload, options=options, captured=captured)

    def synack(self, *, options: bytes = b"", captured: bool = True) -> Segment:
        """Send the server's SYN/ACK."""
        return self.send("server", SYN | ACK, options=options, captured=captured)

    def handshake(self, *, options: bytes = b"") -> None:
        """Send SYN, SYN/ACK and ACK; both sides offer the options."""
        self.syn(options=options)
        self.synack(options=options)
        self.ack("client")

    def data(  # noqa: PLR0913 - all but the first have defaults
        self,
        sender: Side,
        payload: bytes,
        *,
        offset: int | None = None,
        seq: int | None = None,
        options: bytes = b"",
        captured: bool = True,
    ) -> Segment:
        """Send payload."""
        if offset is not None:
            seq = self.seq_of(sender, offset)
        return self.send(sender, PSH | ACK, payload, seq=seq, options=options, captured=captured)

    def ack(
        self, sender: Side, *, offset: int | None = None, window: int | None = None, options: bytes = b""
    ) -> Segment:
        """Acknowledge all, or the other side's stream up to `offset`."""
        value = None if offset is None else self.seq_of(other(sender), offset)
        return self.send(sender, ACK, ack=value, window=window, options=options)

    def fin(self, sender: Side, payload: bytes = b"", *, seq: int | None = None, captured: bool = True) -> Segment:
        """Send FIN, alone or behind payload."""
        return self.send(sender, FIN | ACK, payload, seq=seq, captured=captured)

    def rst(self, sender: Side, *, seq: int | None = None, captured: bool = True) -> Segment:
        """Send RST."""
        return self.send(sender, RST | ACK, seq=seq, captured=captured)

    def keep_alive(self, sender: Side) -> Segment:
        """Send a keep-alive without payload: one below the next sequence number."""
        return self.send(sender, ACK, seq=self.hosts[sender].next_seq - 1)

    def retransmit(self, segment: Segment) -> Segment:
        """Send a segment again: same sequence numbers and bytes, ACK of now, another IP id."""
        return self.send(segment.sender, segment.flags, segment.payload, seq=segment.seq, options=segment.options)

    def swap_last(self) -> None:
        """Exchange the last two captured segments, so that they come out of order; times stay."""
        first, second = self.segments[-2:]
        self.segments[-2:] = [_at(second, first.time_ns), _at(first, second.time_ns)]

    def close(self, first: Side = "client") -> None:
        """Send FIN, FIN and the last ACK."""
        self.fin(first)
        self.fin(other(first))
        self.ack(first)


def other(side: Side) -> Side:
    """Give the other side."""
    return "server" if side == "client" else "client"


def _at(segment: Segment, time_ns: int) -> Segment:
    return Segment(**{**vars(segment), "time_ns": time_ns})
