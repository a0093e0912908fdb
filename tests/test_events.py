"""Which callbacks run, in which order, with which side: sections 1 and 2 of the specification on built captures."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import packets as p
import pytest
from support import (
    CONN_END_ORDER,
    DATA,
    STREAM_EVENTS,
    Event,
    Log,
    Packets,
    Run,
    check_counters,
    merged,
    monitor,
    packet_number,
    run,
    write,
)

import mos

V4 = (("192.0.2.1", 40000), ("198.51.100.1", 80))
V6 = (("2001:db8::1", 40000), ("2001:db8::2", 80))
EVENT_ORDER = ("PKT_IN", "CONN_START", "STATE_CHANGE", "REXMIT", "NEW_DATA")
PKT_IN_SND = {mos.MOS_HK_SND: ["PKT_IN"]}


def simple(client: tuple[str, int] = V4[0], server: tuple[str, int] = V4[1], **options: int) -> p.Conversation:
    """Open, request, answer, close: 9 packets."""
    talk = p.Conversation(client, server, **options)
    talk.handshake()
    talk.data("client", b"request")
    talk.data("server", b"answer")
    talk.ack("client")
    talk.close()
    return talk


def everything() -> p.Conversation:
    """A conversation in which every event of a flow happens."""
    talk = p.Conversation()
    talk.handshake()
    first = talk.data("client", b"hello ")
    talk.retransmit(first)
    talk.data("client", b"late", offset=10)
    talk.data("client", b"hole", offset=6)
    talk.send("client", p.ACK, b"far", seq=talk.seq_of("client", 10_000_000))
    talk.hosts["client"].next_seq = talk.seq_of("client", 14)
    talk.data("server", b"x" * 1000)
    talk.ack("client")
    talk.close()
    return talk


def run_frames(tmp_path: Path, frames: Packets, setup: Callable[[Log], object] = Log.listen, **options: object) -> Run:
    """Run a built capture."""
    return run(write(tmp_path / "built.pcap", frames), setup, **options)


def react(
    path: Path, reaction: Callable[[mos.Context, Event, int], object], sockets: int = 1, **options: object
) -> Run:
    """Run a capture; `reaction` is called in every callback and may call the interface."""
    with monitor(path, **options) as m:
        log = Log(m, lambda event, sock: reaction(m, event, sock))
        for _ in range(sockets):
            log.listen()
        mos.mtcp_app_join(m)
    counters = mos.mtcp_getcounters(m)
    check_counters(counters)
    return Run(log.events, counters)


# ---- one packet ------------------------------------------------------------------------------


def test_simple_connection(tmp_path: Path) -> None:
    """The whole log of a small connection: both hooks, sides, order."""
    result = run_frames(tmp_path, simple(), burst=1)
    assert result.texts(packet=1) == [
        "SND CLI PKT_IN",
        "SND CLI CONN_START",
        "SND CLI STATE_CHANGE",
        "RCV SVR PKT_IN",
        "RCV SVR CONN_START",
        "RCV SVR STATE_CHANGE",
    ]
    assert result.texts(packet=4) == ["SND CLI PKT_IN", "RCV SVR PKT_IN", "RCV SVR NEW_DATA"]
    assert result.texts(packet=5) == ["SND SVR PKT_IN", "RCV CLI PKT_IN", "RCV CLI NEW_DATA"]
    assert result.texts(packet=0) == ["NULL SVR NEW_DATA", "NULL CLI NEW_DATA", *CONN_END_ORDER]
    assert result.texts()[-4:] == list(CONN_END_ORDER)


def test_every_event_in_order(tmp_path: Path) -> None:
    """SND before RCV, and in each dispatch PKT_IN, CONN_START, STATE_CHANGE, REXMIT, NEW_DATA."""
    result = run_frames(tmp_path, everything())
    assert {event.name for event in result.events} == {*EVENT_ORDER, "ERROR", "CONN_END"}
    by_packet: dict[int, list[Event]] = defaultdict(list)
    for event in result.events:
        if event.packet:
            by_packet[event.packet].append(event)
    for events in by_packet.values():
        hooks = [event.hook for event in events if event.name != "ERROR"]
        assert hooks == sorted(hooks, reverse=True)
        for hook in ("SND", "RCV"):
            order = [EVENT_ORDER.index(e.name) for e in events if e.hook == hook and e.name != "ERROR"]
            assert order == sorted(set(order))
        assert [e.text[4:] for e in events if e.name == "PKT_IN"] in (
            ["CLI PKT_IN", "SVR PKT_IN"],
            ["SVR PKT_IN", "CLI PKT_IN"],
        )


def test_packet_numbers_grow(tmp_path: Path) -> None:
    """Callbacks come in the order of the packets; numbers count frames from 1."""
    result = run_frames(tmp_path, everything())
    numbers = [event.packet for event in result.events if event.packet]
    assert all(before <= after for before, after in pairwise(numbers))
    assert sorted(set(numbers)) == list(range(1, len(everything().segments) + 1))


def test_error_at_both_hooks(tmp_path: Path) -> None:
    """ERROR comes at MOS_NULL, then HK_RCV, side = receiver, before PKT_IN of HK_RCV."""
    result = run_frames(tmp_path, everything())
    [packet] = {event.packet for event in result.events if event.name == "ERROR"}
    assert result.texts(packet=packet) == [
        "SND CLI PKT_IN",
        "NULL SVR ERROR",
        "RCV SVR ERROR",
        "RCV SVR PKT_IN",
    ]


def test_rexmit_classes_and_offset(tmp_path: Path) -> None:
    """REXMIT only for bytes seen before; class and stream offset are readable in the callback."""
    talk, found = everything(), []

    def note(m: mos.Context, event: Event, sock: int) -> None:
        if event.name == "REXMIT":
            packet = mos.mtcp_getlastpkt(m, sock)
            found.append((event.text, packet.is_rexmit, packet.kind, packet.offset, packet.payload))

    react(write(tmp_path / "a.pcap", talk), note)
    row = (True, "retransmission", 0, b"hello ")
    assert found == [("SND CLI REXMIT", *row), ("RCV SVR REXMIT", *row)]


def test_rexmit_of_syn_synack_and_fin(tmp_path: Path) -> None:
    """SYN, SYN/ACK and FIN sent again are retransmissions; a keep-alive and a pure ACK are none."""
    talk = p.Conversation()
    talk.retransmit(talk.syn())
    talk.retransmit(talk.synack())
    talk.ack("client")
    talk.ack("client")
    talk.keep_alive("client")
    talk.retransmit(talk.fin("client"))
    found = [event.packet for event in run_frames(tmp_path, talk).events if event.text.endswith("REXMIT")]
    assert found == [2, 2, 4, 4, 9, 9]


def test_states_are_readable(tmp_path: Path) -> None:
    """STATE_CHANGE comes exactly when a state differs from the last one seen; both sides are readable."""
    states: list[tuple[str, int, int]] = []

    def note(m: mos.Context, event: Event, sock: int) -> None:
        if event.name == "STATE_CHANGE":
            options = (mos.MOS_TCP_STATE_CLI, mos.MOS_TCP_STATE_SVR)
            states.append((event.text, *(mos.mtcp_getsockopt(m, sock, mos.SOL_MONSOCKET, o) for o in options)))

    react(write(tmp_path / "a.pcap", simple()), note)
    assert states == [
        ("SND CLI STATE_CHANGE", mos.TCP_SYN_SENT, mos.TCP_LISTEN),
        ("RCV SVR STATE_CHANGE", mos.TCP_SYN_SENT, mos.TCP_SYN_RCVD),
        ("RCV CLI STATE_CHANGE", mos.TCP_ESTABLISHED, mos.TCP_SYN_RCVD),
        ("RCV SVR STATE_CHANGE", mos.TCP_ESTABLISHED, mos.TCP_ESTABLISHED),
        ("SND CLI STATE_CHANGE", mos.TCP_FIN_WAIT_1, mos.TCP_ESTABLISHED),
        ("RCV SVR STATE_CHANGE", mos.TCP_FIN_WAIT_1, mos.TCP_CLOSE_WAIT),
        ("SND SVR STATE_CHANGE", mos.TCP_FIN_WAIT_1, mos.TCP_LAST_ACK),
        ("RCV CLI STATE_CHANGE", mos.TCP_TIME_WAIT, mos.TCP_LAST_ACK),
        ("RCV SVR STATE_CHANGE", mos.TCP_TIME_WAIT, mos.TCP_CLOSED),
    ]


def test_callback_arguments(tmp_path: Path) -> None:
    """cb(mctx, sock, side, event): the context itself, plain ints."""
    seen = []
    with monitor(write(tmp_path / "a.pcap", simple())) as m:
        s = mos.mtcp_socket(m, socket.AF_INET, mos.MOS_SOCK_MONITOR_STREAM, 0)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_RCV, lambda *args: seen.append(args))
        mos.mtcp_app_join(m)
        [(context, flow, side, event)] = seen
        assert context is m
    assert (side, event) == (mos.MOS_SIDE_SVR, mos.MOS_ON_CONN_START)
    assert all(type(value) is int for value in (flow, side, event))
    assert flow > 0
    assert flow != s


# ---- several sockets --------------------------------------------------------------------------


def test_sockets_are_chained(tmp_path: Path) -> None:
    """Client packets run through sockets in creation order, server packets in reverse; CONN_END in creation order."""
    result = run_frames(tmp_path, simple(), lambda log: [log.listen() for _ in range(3)])
    for packet, segment in enumerate(simple().segments, 1):
        for name in ("PKT_IN", "NEW_DATA"):
            for hook in ("SND", "RCV"):
                order = [e.socket for e in result.events if (e.packet, e.name, e.hook) == (packet, name, hook)]
                assert order in ([], [1, 2, 3] if segment.sender == "client" else [3, 2, 1])
    ends = [event.socket for event in result.events if event.name == "CONN_END"]
    assert ends == [1, 2, 3] * 4
    assert [event.socket for event in result.events if event.text == "NULL SVR NEW_DATA"] == [1, 2, 3]
    assert [event.socket for event in result.events if event.text == "NULL CLI NEW_DATA"] == [3, 2, 1]


def test_syn_filters_attach(tmp_path: Path) -> None:
    """Exactly the sockets whose filter accepts the first SYN are attached, for the whole flow."""
    flows = [simple(("192.0.2.1", 40000 + port), ("198.51.100.1", port)) for port in (80, 443, 8080)]
    filters = ["dst port 80", "dst port 443 or dst port 80", "tcp[tcpflags] == tcp-syn", "udp", None]
    result = run_frames(tmp_path, merged(*flows), lambda log: [log.listen(text) for text in filters])
    attached = {(e.socket, e.flow) for e in result.events}
    assert attached == {(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (5, 1), (5, 2), (5, 3)}
    per_socket = Counter(e.socket for e in result.events)
    assert per_socket[2] == 2 * per_socket[1]
    assert per_socket[3] == per_socket[5] == 3 * per_socket[1]


def test_no_socket_no_flow(tmp_path: Path) -> None:
    """A SYN that no filter accepts opens nothing."""
    result = run_frames(tmp_path, simple(), lambda log: log.listen("dst port 81"))
    assert not result.events
    assert result.counters["flows_created"] == 0
    assert result.counters["ignored_filtered"] == len(simple().segments)


@pytest.mark.parametrize("vlans", [(), (7,), (7, 8)])
def test_syn_filter_sees_the_ip_packet(tmp_path: Path, vlans: tuple[int, ...]) -> None:
    """VLAN tags do not disturb a SYN filter."""
    talk = p.Conversation(vlans=vlans)
    talk.handshake()
    result = run_frames(tmp_path, talk, lambda log: log.listen("dst host 198.51.100.1 and dst port 80"))
    assert result.counters["flows_created"] == 1


@pytest.mark.parametrize(
    ("domain", "flows"),
    [
        (socket.AF_INET, ["192.0.2.1"]),
        (socket.AF_INET6, ["2001:db8::1"]),
        (socket.AF_UNSPEC, ["192.0.2.1", "2001:db8::1"]),
    ],
)
def test_domains(tmp_path: Path, domain: int, flows: list[str]) -> None:
    """AF_INET watches IPv4, AF_INET6 IPv6, AF_UNSPEC both, for stream and raw sockets."""
    frames = merged(simple(*V4), simple(*V6, start_ns=p.EPOCH_NS + 100))
    clients: list[str] = []
    with monitor(write(tmp_path / "a.pcap", frames)) as m:
        log = Log(
            m, lambda event, sock: event.name == "CONN_START" and clients.append(mos.mtcp_getpeername(m, sock, 0)[0])
        )
        log.listen(domain=domain, wanted={mos.MOS_HK_SND: ["CONN_START"]})
        raw = log.listen_raw(domain=domain, wanted=["PKT_IN"])
        mos.mtcp_app_join(m)
    assert clients == flows
    assert len(log.texts(socket=raw)) == 9 * len(flows)


# ---- CONN_END ---------------------------------------------------------------------------------


def pairing(result: Run) -> None:
    """One CONN_END per side and hook for each flow that had CONN_START at that side, in order, and nothing after it."""
    begun = {(e.socket, e.flow) for e in result.events if e.name == "CONN_START"}
    ends: dict[tuple[int, int], list[str]] = defaultdict(list)
    for event in result.events:
        key = (event.socket, event.flow)
        if event.name == "CONN_END":
            ends[key].append(event.text)
        else:
            assert not event.flow or key not in ends, f"{event} after CONN_END"
    assert ends == {key: list(CONN_END_ORDER) for key in begun}


def open_flows(count: int) -> list[tuple[int, bytes]]:
    """Several connections that do not end."""
    talks = [p.Conversation(("192.0.2.1", 40000 + n), start_ns=p.EPOCH_NS + n * 1000) for n in range(count)]
    for talk in talks:
        talk.handshake()
        talk.data("client", b"left open")
    return merged(*talks)


@pytest.mark.parametrize("midstream", [False, True])
@pytest.mark.parametrize("path", sorted(DATA.glob("*.pcap")), ids=lambda path: path.stem)
def test_end_for_each_start(path: Path, *, midstream: bool) -> None:
    """Real captures: exactly one CONN_END per side and hook for each CONN_START."""
    result = run(path, lambda log: [log.listen(), log.listen("ip6"), log.listen_raw()], midstream=midstream)
    pairing(result)
    assert (
        sum(e.text == "SND CLI CONN_START" and e.socket == 1 for e in result.events)
        == (result.counters["flows_created"])
    )


def test_end_of_file(tmp_path: Path) -> None:
    """Flows that are open at the end of the file end in the order of their creation, reason eof."""
    result = run_frames(tmp_path, open_flows(5))
    pairing(result)
    assert [e.flow for e in result.events if e.name == "CONN_END"] == [n for n in range(1, 6) for _ in range(4)]
    assert result.counters["flows_eof"] == 5


def test_destroy_before_the_end(tmp_path: Path) -> None:
    """Destroying a context that was stopped ends its flows with CONN_END, reason shutdown."""
    reasons = []

    def stop(m: mos.Context, event: Event, sock: int) -> None:
        if event.packet == 12:
            mos.mtcp_stop(m)
        if event.name == "CONN_END":
            reasons.append(mos.mtcp_getfigures(m, sock).end_reason)

    result = react(write(tmp_path / "a.pcap", open_flows(5)), stop, burst=1)
    pairing(result)
    assert result.counters["received"] == 12
    assert result.counters["flows_shutdown"] == 5
    assert reasons == ["shutdown"] * 20


def test_destroy_without_join(tmp_path: Path) -> None:
    """A context that never ran has nothing to tell."""
    with monitor(write(tmp_path / "a.pcap", open_flows(2))) as m:
        log = Log(m)
        log.listen()
        mos.mtcp_destroy_context(m)
    assert not log.events


@pytest.mark.parametrize("every", [1, 3, 7])
def test_exceptions_lose_nothing(tmp_path: Path, every: int) -> None:
    """With a callback that raises again and again every event is still delivered once, in the same order."""
    path = write(tmp_path / "a.pcap", merged(everything(), open_flows(3)))
    wanted = run(path)
    with monitor(path) as m:
        log = Log(m)

        def fail(_event: Event, _sock: int) -> None:
            if len(log.events) % every == 0:
                raise LookupError(len(log.events))

        log.reaction = fail
        log.listen()
        while not m.finished:
            with suppress(LookupError):
                mos.mtcp_app_join(m)
    assert log.events == wanted.events
    assert mos.mtcp_getcounters(m)["callback_errors"] == len(log.events) // every


# ---- raw sockets and orphans --------------------------------------------------------------------


def mixed() -> list[tuple[int, bytes]]:
    """A flow, UDP, ARP and TCP of no flow: frames 1-9 the flow, 10 UDP, 11 ARP, 12 orphan, 13 IPv6 orphan."""
    frames = list(simple())
    end = frames[-1][0] + 20 * p.SECOND_NS
    packets = [
        p.ip(p.udp(b"dns", ("192.0.2.1", 53), ("192.0.2.2", 53)), "192.0.2.1", "192.0.2.2", protocol=p.UDP),
        p.ip(p.tcp(b"?", ("192.0.2.9", 9), ("192.0.2.8", 8), seq=1), "192.0.2.9", "192.0.2.8"),
        p.ip(p.tcp(b"?", ("2001:db8::9", 9), ("2001:db8::8", 8), seq=1), "2001:db8::9", "2001:db8::8"),
    ]
    made = [p.ethernet(packet) for packet in packets]
    made.insert(1, p.ethernet(bytes(46), ethertype=0x0806))
    return frames + [(end + n, frame) for n, frame in enumerate(made)]


def test_raw_packets(tmp_path: Path) -> None:
    """PKT_IN of a raw socket comes once for every frame, side MOS_NULL; a filter sees the frame as tcpdump does."""
    filters = [None, "tcp", "arp", "udp port 53", "ether host 00:00:5e:00:53:01", "not ip"]
    setup = lambda log: [log.listen_raw(text, wanted=["PKT_IN"]) for text in filters]  # noqa: E731
    result = run_frames(tmp_path, mixed(), setup)
    assert {event.text for event in result.events} == {"NULL - PKT_IN"}
    everyone = list(range(1, 14))
    wanted = [everyone, [*range(1, 10), 12, 13], [11], [10], everyone, [11, 13]]
    found = [[e.packet for e in result.events if e.socket == n + 1] for n in range(len(filters))]
    assert found == wanted


def test_raw_before_stream(tmp_path: Path) -> None:
    """With a stream socket beside it, a raw socket still gets each packet once, before the flow's callbacks."""
    result = run_frames(tmp_path, simple(), lambda log: [log.listen(), log.listen_raw()])
    for packet in range(1, 10):
        assert result.texts(packet=packet)[0] == "NULL - PKT_IN"
        assert result.texts(packet=packet).count("NULL - PKT_IN") == 1
    assert not [event for event in result.events if event.name == "ORPHAN"]


def test_orphans(tmp_path: Path) -> None:
    """ORPHAN: what matches and belongs to no monitored flow, or is not TCP."""
    setup = lambda log: [log.listen(wanted=PKT_IN_SND), log.listen_raw(wanted=["ORPHAN"])]  # noqa: E731
    result = run_frames(tmp_path, mixed(), setup)
    assert [event.packet for event in result.events if event.name == "ORPHAN"] == [10, 11, 12, 13]
    assert {event.text for event in result.events if event.name == "ORPHAN"} == {"NULL - ORPHAN"}


def test_without_stream_socket_all_are_orphans(tmp_path: Path) -> None:
    """No stream socket, no flow: every TCP packet that matches is an orphan."""
    result = run_frames(tmp_path, mixed(), lambda log: log.listen_raw("tcp", wanted=["ORPHAN"]))
    assert [event.packet for event in result.events] == [*range(1, 10), 12, 13]
    assert result.counters["delivered_orphan_tcp"] == 11


def test_stream_orphan_filter(tmp_path: Path) -> None:
    """A stream socket with an orphan filter gets the matching orphans, by its domain, and its flows as before."""
    found: list[tuple[int, int]] = []
    with monitor(write(tmp_path / "a.pcap", mixed())) as m:
        for domain, text in ((0, "tcp"), (socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp"), (0, "udp"), (0, "port 1")):
            s = mos.mtcp_socket(m, domain, mos.MOS_SOCK_MONITOR_STREAM, 0)
            with pytest.raises(OSError, match="orphan_filter"):
                mos.mtcp_register_callback(m, s, mos.MOS_ON_ORPHAN, mos.MOS_NULL, print)
            mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(stream_orphan_filter=text))
            note = lambda m, sock, side, _event: found.append((sock, packet_number(m, sock, side)))  # noqa: E731
            mos.mtcp_register_callback(m, s, mos.MOS_ON_ORPHAN, mos.MOS_NULL, note)
        mos.mtcp_app_join(m)
        assert mos.mtcp_getcounters(m)["flows_created"] == 1
    assert sorted(found) == [(1, 12), (1, 13), (2, 12), (3, 13), (4, 10)]


def test_late_segments_are_silent(tmp_path: Path) -> None:
    """A segment of a record that lingers fires no flow event and is no orphan; after the linger time it is one."""
    talk = simple()
    talk.data("client", b"late")
    talk.wait(11 * p.SECOND_NS)
    talk.data("client", b"later")
    result = run_frames(tmp_path, talk, lambda log: [log.listen(), log.listen_raw()])
    assert result.texts(packet=9) == ["NULL - PKT_IN", *result.texts(packet=9)[1:]]
    assert result.texts(packet=10) == ["NULL - PKT_IN"]
    assert result.texts(packet=11) == ["NULL - PKT_IN", "NULL - ORPHAN"]
    assert result.counters["delivered_late"] == 1


# ---- registration while it runs ---------------------------------------------------------------


def test_register_on_flow_takes_the_next_dispatch(tmp_path: Path) -> None:
    """A callback registered on a flow's socket at HK_SND runs from HK_RCV on, for this flow only."""
    frames = merged(simple(), simple(("192.0.2.1", 40001), start_ns=p.EPOCH_NS + 100))
    extra: list[tuple[int, str]] = []

    def more(m: mos.Context, event: Event, sock: int) -> None:
        if event.text == "SND CLI CONN_START" and event.flow == 1:
            for hook in (mos.MOS_HK_SND, mos.MOS_HK_RCV):
                note = lambda *args, hook=hook: extra.append((packet_number(args[0], args[1]), hook, args[1] == sock))  # noqa: E731
                mos.mtcp_register_callback(m, sock, mos.MOS_ON_REXMIT, hook, note)
                mos.mtcp_register_callback(m, sock, mos.MOS_ON_PKT_IN, hook, note)

    path = write(tmp_path / "a.pcap", frames)
    with monitor(path) as m:
        log = Log(m, lambda event, sock: more(m, event, sock))
        log.listen(wanted={mos.MOS_HK_SND: ["CONN_START"]})
        mos.mtcp_app_join(m)
    numbers = [2 * n + 1 for n in range(9)]
    both = [(n, hook, True) for n in numbers for hook in (mos.MOS_HK_SND, mos.MOS_HK_RCV)]
    assert extra == both[1:]


def test_register_on_listening_socket_is_for_later_flows(tmp_path: Path) -> None:
    """What is registered on the listening socket inside a callback holds for flows opened afterwards."""
    starts = (0, 1_500_000, 50_000_000)
    talks = [simple(("192.0.2.1", 40000 + n), start_ns=p.EPOCH_NS + start) for n, start in enumerate(starts)]
    late: list[int] = []

    def more(m: mos.Context, event: Event, _sock: int) -> None:
        if event.text == "SND CLI CONN_START" and event.flow == 2:
            note = lambda m, sock, _side, _event: late.append(mos.mtcp_getfigures(m, sock).flow_id)  # noqa: E731
            mos.mtcp_register_callback(m, 1, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, note)

    with monitor(write(tmp_path / "a.pcap", merged(*talks))) as m:
        log = Log(m, lambda event, sock: more(m, event, sock))
        log.listen(wanted={mos.MOS_HK_SND: ["CONN_START"], mos.MOS_HK_RCV: ["PKT_IN"]})
        mos.mtcp_app_join(m)
    assert late == [3] * 9
    assert Counter(e.flow for e in log.events if e.name == "PKT_IN") == {1: 9, 2: 9, 3: 9}


@pytest.mark.parametrize("target", ["flow", "listening"])
def test_deregister_inside(tmp_path: Path, target: str) -> None:
    """None removes a callback: on a flow's socket from its next dispatch, on the listening one for later flows."""
    frames = merged(simple(), simple(("192.0.2.1", 40001), start_ns=p.EPOCH_NS + p.SECOND_NS))

    def less(m: mos.Context, event: Event, sock: int) -> None:
        if event.text == "SND CLI PKT_IN" and event.packet == 4:
            for hook in (mos.MOS_HK_SND, mos.MOS_HK_RCV):
                chosen = sock if target == "flow" else 1
                assert mos.mtcp_register_callback(m, chosen, mos.MOS_ON_PKT_IN, hook, None) == 0

    result = react(write(tmp_path / "a.pcap", frames), less)
    first = [event.packet for event in result.events if event.name == "PKT_IN" and event.flow == 1]
    second = [event.packet for event in result.events if event.name == "PKT_IN" and event.flow == 2]
    if target == "flow":
        assert first == [1, 1, 2, 2, 3, 3, 4]
        assert len(second) == 18
    else:
        assert len(first) == 18
        assert not second
    pairing(result)


def test_replace(tmp_path: Path) -> None:
    """A second callback for the same socket, hook and event replaces the first, also while the first runs."""
    calls: list[str] = []

    def first(m: mos.Context, sock: int, _side: int, event: int) -> None:
        calls.append("first")
        mos.mtcp_register_callback(m, sock, event, mos.MOS_HK_SND, second)

    def second(*_args: object) -> None:
        calls.append("second")

    with monitor(write(tmp_path / "a.pcap", simple())) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, print)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, first)
        mos.mtcp_app_join(m)
    assert calls == ["first"] + ["second"] * 8


def test_close_flow_socket_inside(tmp_path: Path) -> None:
    """A closed flow socket gets no more events, its id is invalid at once; other sockets and flows go on."""
    frames = merged(simple(), simple(("192.0.2.1", 40001), start_ns=p.EPOCH_NS + p.SECOND_NS))

    def close(m: mos.Context, event: Event, sock: int) -> None:
        if (event.socket, event.flow, event.packet, event.hook) == (1, 1, 4, "RCV") and event.name == "NEW_DATA":
            assert mos.mtcp_close(m, sock) == 0
            with pytest.raises(OSError, match=r"not a socket") as caught:
                mos.mtcp_getfigures(m, sock)
            assert caught.value.errno == 9

    result = react(write(tmp_path / "a.pcap", frames), close, sockets=2)
    mine = [event for event in result.events if (event.socket, event.flow) == (1, 1)]
    assert (mine[-1].packet, mine[-1].name) == (4, "NEW_DATA")
    assert len([e for e in result.events if (e.socket, e.flow) == (2, 1)]) == (
        len([e for e in result.events if (e.socket, e.flow) == (2, 2)])
    )


def test_close_flow_socket_early_in_a_dispatch(tmp_path: Path) -> None:
    """No event comes with an id that was closed, not even in the same dispatch."""

    def close(m: mos.Context, event: Event, sock: int) -> None:
        if event.text == "SND CLI PKT_IN":
            mos.mtcp_close(m, sock)

    result = react(write(tmp_path / "a.pcap", simple()), close)
    assert result.texts() == ["SND CLI PKT_IN"]


def test_close_listening_socket_inside(tmp_path: Path) -> None:
    """No new flows for a closed listening socket; its flows live on with what they inherited."""
    frames = merged(simple(), simple(("192.0.2.1", 40001), start_ns=p.EPOCH_NS + p.SECOND_NS))

    def close(m: mos.Context, event: Event, _sock: int) -> None:
        if (event.socket, event.packet, event.text) == (1, 4, "SND CLI PKT_IN"):
            mos.mtcp_close(m, 1)
            with pytest.raises(OSError, match="socket") as caught:
                mos.mtcp_close(m, 1)
            assert caught.value.errno == 9

    result = react(write(tmp_path / "a.pcap", frames), close, sockets=2)
    assert {event.flow for event in result.events if event.socket == 1} == {1}
    assert result.texts(socket=1) == result.texts(socket=2, flow=1)
    assert result.texts(socket=2, flow=2) == result.texts(socket=2, flow=1)
    pairing(result)


@pytest.mark.parametrize(("value", "gone"), [(0, ("CLI",)), (1, ("SVR",)), (2, ("CLI", "SVR"))])
def test_stop_monitoring_inside(tmp_path: Path, value: int, gone: tuple[str, ...]) -> None:
    """MOS_STOP_MON on a flow: no more events of that side, CONN_END included; the other side goes on."""

    def stop(m: mos.Context, event: Event, sock: int) -> None:
        if (event.packet, event.text) == (4, "RCV SVR NEW_DATA"):
            mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, mos.MOS_STOP_MON, value)

    path = write(tmp_path / "a.pcap", simple())
    whole, result = run(path), react(path, stop)
    cut = whole.events.index(next(e for e in whole.events if (e.packet, e.name) == (4, "NEW_DATA"))) + 1
    kept = [e for e in whole.events[cut:] if e.side not in gone]
    assert result.events == whole.events[:cut] + kept


@pytest.mark.parametrize("value", [0, 1, 2])
def test_stop_monitoring_on_listening_socket(tmp_path: Path, value: int) -> None:
    """The same on the listening socket holds for all later flows."""
    with monitor(write(tmp_path / "a.pcap", simple())) as m:
        log = Log(m)
        s = log.listen()
        mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, mos.MOS_STOP_MON, value)
        mos.mtcp_app_join(m)
    sides = {0: {"SVR"}, 1: {"CLI"}, 2: set()}[value]
    assert {event.side for event in log.events} == sides


def test_bind_filter_inside(tmp_path: Path) -> None:
    """A SYN filter set inside a callback is for later flows."""
    frames = merged(simple(), simple(("192.0.2.1", 40001), start_ns=p.EPOCH_NS + p.SECOND_NS))

    def bind(m: mos.Context, event: Event, _sock: int) -> None:
        if event.packet == 4:
            mos.mtcp_bind_monitor_filter(m, 1, mos.MonitorFilter(stream_syn_filter="dst port 1"))

    result = react(write(tmp_path / "a.pcap", frames), bind)
    assert {event.flow for event in result.events} == {1}
    pairing(result)


def test_socket_made_inside(tmp_path: Path) -> None:
    """A socket opened inside a callback watches later flows."""
    frames = merged(simple(), simple(("192.0.2.1", 40001), start_ns=p.EPOCH_NS + p.SECOND_NS))
    with monitor(write(tmp_path / "a.pcap", frames)) as m:
        log = Log(m, lambda event, _sock: log.listen() if event == (4, 1, 1, "SND", "CLI", "PKT_IN") else None)
        log.listen()
        mos.mtcp_app_join(m)
    assert {(event.socket, event.flow) for event in log.events} == {(1, 1), (1, 2), (2, 2)}


# ---- socket ids -------------------------------------------------------------------------------


def test_ids_are_not_reused(tmp_path: Path) -> None:
    """Ids of flows are positive, unique while the context lives, valid in CONN_END and EBADF afterwards."""
    talks = [simple(start_ns=p.EPOCH_NS + n * 60 * p.SECOND_NS, client_isn=1000 * n) for n in range(300)]
    ids: list[int] = []

    def check(m: mos.Context, event: Event, sock: int) -> None:
        if event.text == "SND CLI CONN_START":
            for old in ids[-3:]:
                with pytest.raises(OSError, match="not a socket") as caught:
                    mos.mtcp_getsockopt(m, old, mos.SOL_MONSOCKET, mos.MOS_TCP_STATE_CLI)
                assert caught.value.errno == 9
            ids.append(sock)
        elif event.name == "CONN_END":
            assert mos.mtcp_getfigures(m, sock).end_reason == "fin"
            assert mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_CLI) == V4[0]

    react(write(tmp_path / "a.pcap", merged(*talks)), check, burst=1)
    assert len(set(ids)) == len(ids) == 300
    assert min(ids) > 0


# ---- data -------------------------------------------------------------------------------------


def shuffled(seed: int) -> tuple[p.Conversation, dict[int, bytes]]:
    """A conversation with loss, repetition and reordering of which every byte is captured; and its streams."""
    import random

    rng = random.Random(seed)
    talk = p.Conversation(client_isn=2**32 - 500, server_isn=2**31 - 300)
    talk.handshake()
    streams = {1: rng.randbytes(rng.randrange(1, 6000)), 0: rng.randbytes(rng.randrange(1, 6000))}
    pieces = []
    for side, sender in ((1, "client"), (0, "server")):
        starts = range(0, len(streams[side]), 100)
        pieces += [(sender, start, streams[side][start : start + rng.choice((100, 100, 250))]) for start in starts]
    pieces.sort(key=lambda piece: piece[1] + rng.randrange(1500))
    for sender, start, payload in pieces:
        talk.data(sender, payload, offset=start)
    for sender, side in (("client", 1), ("server", 0)):
        talk.hosts[sender].next_seq = talk.seq_of(sender, len(streams[side]))
    talk.ack("client")
    talk.ack("server")
    talk.close()
    return talk, streams


def read_all(path: Path, hook: int, **options: object) -> dict[tuple[int, int], bytes]:
    """Peek everything whenever NEW_DATA comes at a hook: {(flow, side): bytes}."""
    found: dict[tuple[int, int], bytes] = defaultdict(bytes)

    def take(m: mos.Context, sock: int, side: int, _event: int) -> None:
        key = (mos.mtcp_getfigures(m, sock).flow_id, side)
        data = mos.mtcp_peek(m, sock, side, 1 << 20)
        assert data, "NEW_DATA without new data"
        assert mos.mtcp_peek(m, sock, side, 1 << 20) == b""
        found[key] += data

    with monitor(path, **options) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_NEW_DATA, hook, take)
        mos.mtcp_app_join(m)
    return dict(found)


@pytest.mark.parametrize("hook", [mos.MOS_HK_RCV, mos.MOS_NULL])
@pytest.mark.parametrize("seed", range(8))
def test_peek_gives_the_stream(tmp_path: Path, seed: int, hook: int) -> None:
    """At HK_RCV and at MOS_NULL, peek gives exactly the bytes that were sent, whatever the order of the segments."""
    talk, streams = shuffled(seed)
    path = write(tmp_path / "a.pcap", talk)
    for burst in (1, 2, 7, 64):
        assert read_all(path, hook, burst=burst) == {(1, side): data for side, data in streams.items()}


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_peek_in_pieces(tmp_path: Path, chunk: int) -> None:
    """What was not peeked stays for the next time; two sockets read independently."""
    talk, streams = shuffled(3)
    found: dict[int, bytes] = defaultdict(bytes)

    def lazily(m: mos.Context, event: Event, sock: int) -> None:
        if event.text == "RCV SVR NEW_DATA" and event.socket == 1:
            found[1] += mos.mtcp_peek(m, sock, mos.MOS_SIDE_SVR, chunk)
        elif event.text == "RCV CLI CONN_END":
            while data := mos.mtcp_peek(m, sock, mos.MOS_SIDE_SVR, chunk):
                found[event.socket] += data

    react(write(tmp_path / "a.pcap", talk), lazily, sockets=2)
    assert found == {1: streams[1], 2: streams[1]}


def test_new_data_has_packet_at_hand_only_at_rcv(tmp_path: Path) -> None:
    """At HK_RCV the packet is at hand; at MOS_NULL there is none: EACCES."""
    result = run_frames(tmp_path, simple())
    assert all(event.packet for event in result.events if event.text.startswith("RCV") and event.name == "NEW_DATA")
    assert not any(event.packet for event in result.events if event.hook == "NULL" and event.name == "NEW_DATA")


def test_new_data_once_a_burst(tmp_path: Path) -> None:
    """At MOS_NULL NEW_DATA comes once per flow, side and burst."""
    talk = p.Conversation()
    talk.handshake()
    for _ in range(61):
        talk.data("client", b"x")
    for burst, times in ((64, 1), (32, 2), (1, 61)):
        result = run_frames(tmp_path, talk, burst=burst)
        assert result.texts().count("NULL SVR NEW_DATA") == times
        assert result.texts().count("RCV SVR NEW_DATA") == 61


def test_gap_is_reported_once(tmp_path: Path) -> None:
    """A hole that the receiver acknowledged: ERROR hole_skipped, StreamGap once, then the stream goes on."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"before")
    talk.data("client", b"lost", captured=False)
    for _ in range(3):
        talk.data("client", b"after")
        talk.ack("server")
        talk.wait(p.SECOND_NS)
    found: list[object] = []

    def take(m: mos.Context, event: Event, sock: int) -> None:
        if event.name == "ERROR" and event.hook == "RCV":
            error = mos.mtcp_getlasterror(m)
            found.append((error.name, error.offset, error.length))
        if event.text == "RCV SVR NEW_DATA":
            try:
                found.append(mos.mtcp_peek(m, sock, mos.MOS_SIDE_SVR))
            except mos.StreamGap as gap:
                found.extend((gap.missed, gap.errno, mos.mtcp_peek(m, sock, mos.MOS_SIDE_SVR)))

    react(write(tmp_path / "a.pcap", talk), take)
    assert found[:2] == [b"before", ("hole_skipped", 6, 4)]
    assert found[2:4] == [4, 61]
    assert b"".join(data for data in found[4:] if isinstance(data, bytes)) == b"after" * 3


# ---- determinism ------------------------------------------------------------------------------


def captures(tmp_path: Path) -> Iterator[Path]:
    """Built and recorded captures with many flows."""
    yield write(tmp_path / "a.pcap", merged(everything(), open_flows(40), mixed()))
    yield DATA / "demo.pcap"
    yield DATA / "simultaneous.pcap"
    yield DATA / "rst.pcap"


def grouped(events: list[Event]) -> tuple[list[Event], set[tuple[object, ...]]]:
    """The log without NEW_DATA at MOS_NULL, and the flows, sockets and sides that had such."""
    null_data = {event[1:] for event in events if (event.hook, event.name) == ("NULL", "NEW_DATA")}
    return [event for event in events if (event.hook, event.name) != ("NULL", "NEW_DATA")], null_data


@pytest.mark.parametrize("options", [{}, {"midstream": True}, {"idle_timeout": 0.05, "handshake_timeout": 0.01}])
def test_same_events_every_time(tmp_path: Path, options: dict[str, object]) -> None:
    """Burst size and hash seed change nothing, but how NEW_DATA at MOS_NULL is grouped."""
    setup = lambda log: [log.listen(), log.listen("dst port 80"), log.listen_raw()]  # noqa: E731
    for path in captures(tmp_path):
        wanted = run(path, setup, burst=64, **options)
        assert run(path, setup, burst=64, hash_seed=1, **options) == wanted
        for burst, seed in ((1, 0), (2, 7), (7, 2**64 - 1)):
            result = run(path, setup, burst=burst, hash_seed=seed, **options)
            assert grouped(result.events) == grouped(wanted.events)
            calls = {"callbacks": 0, "stream_pages": 0}
            assert {**result.counters, **calls} == {**wanted.counters, **calls}


def test_stream_events_cover_the_table() -> None:
    """The sockets of these tests register everything that a stream socket may."""
    assert sum(len(names) for names in STREAM_EVENTS.values()) == 14
