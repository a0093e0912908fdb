"""The packet builders of packets.py agree with scapy, tcpdump's file format and themselves."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the importlib mode of pytest leaves it out
import packets as p

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scapy.packet import Packet

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed")

Ends = tuple[tuple[str, int], tuple[str, int]]

V4 = (("192.0.2.1", 40000), ("198.51.100.1", 80))
V6 = (("2001:db8::1", 40000), ("2001:db8::2", 80))
OPTIONS = p.mss(1400) + p.window_scale(7) + p.SACK_PERMITTED + p.timestamps(5, 6)


def rebuilt(packet: Packet) -> bytes:
    """Let scapy fill in all lengths and checksums anew."""
    packet = packet.copy()
    for layer in packet.iterpayloads():
        for name in ("chksum", "len", "plen", "dataofs", "ihl"):
            if name in layer.fields:
                delattr(layer, name)
    return bytes(packet)


def around(segment: bytes, ends: Ends, protocol: int = p.TCP) -> bytes:
    """Put an IP header of the ends' family before a segment."""
    return p.ip(segment, ends[0][0], ends[1][0], protocol=protocol, ident=77)


@pytest.mark.parametrize("ends", [V4, V6])
@pytest.mark.parametrize("payload", [b"", b"x", b"even", b"odd" * 401])
@pytest.mark.parametrize("vlans", [(), (5,), (100, 7), (1, 2, 3)])
def test_frame_is_what_scapy_reads_and_would_write(ends: Ends, payload: bytes, vlans: Sequence[int]) -> None:
    """Fields come back equal, and scapy's own checksums and lengths are ours."""
    flags = p.PSH | p.ACK
    ours = p.tcp(payload, *ends, seq=0xFFFFFFF0, ack=12, flags=flags, window=512, options=OPTIONS, urgent=3)
    frame = p.ethernet(around(ours, ends), vlans=vlans)
    read = scapy.Ether(frame)
    assert rebuilt(read) == frame
    segment = read[scapy.TCP]
    assert (segment.seq, segment.ack, int(segment.flags)) == (0xFFFFFFF0, 12, flags)
    assert (segment.sport, segment.dport, segment.window, segment.urgptr) == (40000, 80, 512, 3)
    assert bytes(segment.payload) == payload
    network = read[scapy.IPv6 if ":" in ends[0][0] else scapy.IP]
    assert (network.src, network.dst) == (ends[0][0], ends[1][0])
    assert tuple(tag.vlan for tag in read.iterpayloads() if isinstance(tag, scapy.Dot1Q)) == tuple(vlans)


def read_options(options: bytes) -> dict[str, Any]:
    """Let scapy read TCP options."""
    return dict(scapy.TCP(p.tcp(b"", *V4, seq=1, options=options)).options)


def test_tcp_options_are_read_back() -> None:
    """Every option builder, in scapy's words."""
    read = read_options(OPTIONS)
    assert (read["MSS"], read["WScale"], read["Timestamp"]) == (1400, 7, (5, 6))
    assert "SAckOK" in read
    assert read_options(p.sack((1, 2), (0xFFFFFFFF, 0x100000003)))["SAck"] == (1, 2, 0xFFFFFFFF, 3)
    assert read_options(p.fast_open(b"8 bytes!"))["TFO"] == struct.unpack("!II", b"8 bytes!")


def test_too_many_tcp_options_are_refused() -> None:
    """The data offset cannot say more than 60 bytes."""
    with pytest.raises(ValueError, match="44 bytes of TCP options"):
        p.tcp(b"", *V4, seq=1, options=bytes(41))


@pytest.mark.parametrize("ends", [V4, V6])
def test_udp(ends: Ends) -> None:
    """UDP checksum and length."""
    packet = p.ethernet(around(p.udp(b"abc", *ends), ends, p.UDP))
    assert rebuilt(scapy.Ether(packet)) == packet
    assert bytes(scapy.Ether(packet)[scapy.UDP].payload) == b"abc"


def test_wrong_values_are_kept() -> None:
    """A test can ask for a wrong length or checksum."""
    segment = p.tcp(b"", *V4, seq=1, tcp_checksum=0x1234)
    packet = scapy.IP(p.ipv4(segment, "192.0.2.1", "192.0.2.2", total_length=0, header_checksum=1, options=b"\1"))
    assert (packet.len, packet.chksum, packet.ihl, packet[scapy.TCP].chksum) == (0, 1, 6, 0x1234)


def test_ipv6_extension_headers() -> None:
    """A chain of extension headers ends in the TCP segment."""
    chain = [p.extension_options(0), p.extension_routing(), p.extension_options(60, b"\x1e\x07ignored")]
    segment = p.tcp(b"payload", *V6, seq=9)
    packet = p.ipv6(segment, V6[0][0], V6[1][0], extensions=chain, flow_label=3, hop_limit=9)
    read = scapy.IPv6(packet)
    names = [type(layer).__name__ for layer in read.iterpayloads()]
    assert names[:5] == ["IPv6", "IPv6ExtHdrHopByHop", "IPv6ExtHdrRouting", "IPv6ExtHdrDestOpt", "TCP"]
    assert (read.fl, read.hlim, bytes(read[scapy.TCP])) == (3, 9, segment)


def test_fragments_ipv4_are_put_together_by_scapy() -> None:
    """The pieces make the packet again."""
    packet = p.ipv4(p.tcp(bytes(range(200)), *V4, seq=1), V4[0][0], V4[1][0], ident=4, options=b"\1\1\1\0")
    pieces = p.fragments_ipv4(packet, 48)
    assert len(pieces) == 5
    assert all(len(piece) <= 24 + 48 for piece in pieces)
    whole = scapy.defragment([scapy.IP(piece) for piece in pieces])[0]
    assert bytes(whole.payload) == packet[24:]


def test_fragments_ipv6_are_put_together_by_scapy() -> None:
    """The pieces make the packet again."""
    packet = around(p.tcp(bytes(range(200)), *V6, seq=1), V6)
    pieces = p.fragments_ipv6(packet, 48, ident=99)
    whole = scapy.defragment6([scapy.IPv6(piece) for piece in pieces])
    assert bytes(whole[scapy.TCP]) == packet[40:]


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap(*, big_endian: bool, nanoseconds: bool) -> None:
    """Both byte orders and both resolutions come back, and long frames are cut."""
    time_ns = p.EPOCH_NS + 123_456_789
    file = p.pcap([(time_ns, b"a" * 99)], nanoseconds=nanoseconds, big_endian=big_endian, snaplen=60)
    with scapy.RawPcapReader(io.BytesIO(file)) as reader:
        frame, meta = next(reader)
        assert reader.nano == nanoseconds
    assert (frame, meta.wirelen, meta.sec) == (b"a" * 60, 99, p.EPOCH_NS // p.SECOND_NS)
    assert meta.usec == (123_456_789 if nanoseconds else 123_456)


@pytest.mark.parametrize("big_endian", [False, True])
def test_pcapng(*, big_endian: bool) -> None:
    """Several interfaces, each with its own resolution."""
    time_ns = p.EPOCH_NS + 123_456_789
    file = p.Pcapng(big_endian=big_endian)
    units = {}
    for tsresol, per_second in ((None, 10**6), (9, 10**9), (3, 10**3), (0x80 | 20, 2**20)):
        units[file.interface(tsresol=tsresol, name="eth", snaplen=100)] = per_second
    for interface in reversed(units):
        file.add(time_ns, b"frame", interface=interface, wire_len=70 + interface)
    with scapy.RawPcapNgReader(io.BytesIO(bytes(file))) as reader:
        for interface, per_second in reversed(units.items()):
            frame, meta = next(reader)
            assert (frame, meta.wirelen, meta.tsresol) == (b"frame", 70 + interface, per_second)
            assert meta.tshigh << 32 | meta.tslow == time_ns * per_second // p.SECOND_NS


def test_pcapng_simple_packet_block() -> None:
    """A simple packet block holds the frame."""
    file = p.Pcapng()
    file.interface()
    file.add_simple(b"frame")
    with scapy.RawPcapNgReader(io.BytesIO(bytes(file))) as reader:
        assert next(reader)[0] == b"frame"


def segments(talk: p.Conversation) -> list[Any]:
    """Read a conversation back through a capture file."""
    return [packet[scapy.TCP] for packet in scapy.rdpcap(io.BytesIO(p.pcap(talk)))]


def test_conversation_numbers() -> None:
    """A plain connection: sequence and acknowledgement numbers as hosts would choose them."""
    talk = p.Conversation(client_isn=0xFFFFFFFF, server_isn=10)
    talk.handshake(options=p.mss(1460))
    talk.data("client", b"abc")
    talk.data("server", b"de")
    talk.close()
    assert [(s.seq, s.ack, str(s.flags)) for s in segments(talk)] == [
        (0xFFFFFFFF, 0, "S"),
        (10, 0, "SA"),
        (0, 11, "A"),
        (0, 11, "PA"),
        (11, 3, "PA"),
        (3, 13, "FA"),
        (13, 4, "FA"),
        (4, 14, "A"),
    ]


def test_conversation_loss_retransmission_and_disorder() -> None:
    """A segment not captured leaves a hole; a retransmission has the same bytes and another IP id."""
    talk = p.Conversation(*V4, vlans=[9])
    talk.handshake()
    lost = talk.data("client", b"first ", captured=False)
    second = talk.data("client", b"second")
    talk.wait(50)
    talk.ack("server", offset=0, options=p.sack((second.seq, second.seq + 6)))
    again = talk.retransmit(lost)
    talk.data("client", b"4")
    talk.swap_last()
    talk.keep_alive("client")
    talk.rst("server")
    read = segments(talk)[3:]
    assert [(s.seq - 1001, bytes(s.payload)) for s in read if s.sport == V4[0][1]] == [
        (6, b"second"),
        (12, b"4"),
        (0, b"first "),
        (12, b""),
    ]
    assert again.frame != lost.frame
    assert read[1].ack == 1001
    times = [time_ns for time_ns, _ in talk]
    assert times == sorted(set(times))


def test_conversation_with_given_numbers() -> None:
    """An offset or a sequence number puts a segment anywhere, below or beyond what was sent."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"cd", offset=2)
    talk.data("client", b"ab", offset=0)
    talk.data("client", b"e")
    talk.data("server", b"x", seq=4)
    assert [s.seq - 1001 for s in segments(talk)[3:6]] == [2, 0, 4]
    assert segments(talk)[6].seq == 4
