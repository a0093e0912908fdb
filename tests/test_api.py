"""Calls that work: the manual's fragments, options, addresses, bytes, figures, contexts side by side, configuration."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import packets as p
import pytest
from support import DATA, END_REASONS, Log, check_counters, merged, monitor, objects_alive, run, write

import mos

Check = Callable[[mos.Context, int, int], object]


@pytest.fixture
def talk() -> p.Conversation:
    """A connection with an exchange, by 172.16/12 clients with a 216.58 server."""
    made = p.Conversation(("172.16.1.1", 50000), ("216.58.1.2", 80))
    made.handshake(options=p.mss(1400) + p.window_scale(7) + p.SACK_PERMITTED + p.timestamps(5, 0))
    made.data("client", b"0123456789")
    made.data("server", b"abcdefghij")
    made.retransmit(made.data("client", b"more"))
    made.ack("server")
    made.close()
    return made


@pytest.fixture
def capture(tmp_path: Path, talk: p.Conversation) -> Path:
    """That connection as a file."""
    return write(tmp_path / "talk.pcap", talk)


def at(path: Path, event: int, hook: int, check: Check, **options: object) -> int:
    """Call check(m, sock, side) in every callback of an event; gives how many there were."""
    calls = 0

    def callback(m: mos.Context, sock: int, side: int, _event: int) -> None:
        nonlocal calls
        calls += 1
        check(m, sock, side)

    with monitor(path, **options) as m:
        s = mos.mtcp_socket(m, socket.AF_INET, mos.MOS_SOCK_MONITOR_STREAM, 0)
        mos.mtcp_register_callback(m, s, event, hook, callback)
        mos.mtcp_app_join(m)
    return calls


def test_fragment_of_the_manual(capture: Path) -> None:
    """The lines that the issue shows, as written."""
    seen = []

    def on_rexmit(mctx: mos.Context, sock: int, side: int, event: int) -> None:
        seen.append((mos.mtcp_getlastpkt(mctx, sock, side).payload, side, event))

    mos.mtcp_init(source=capture)
    m = mos.mtcp_create_context(0)
    s = mos.mtcp_socket(m, socket.AF_INET, mos.MOS_SOCK_MONITOR_STREAM, 0)
    mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(stream_syn_filter="dst net 216.58 and dst port 80"))
    mos.mtcp_register_callback(m, s, mos.MOS_ON_REXMIT, mos.MOS_HK_RCV, on_rexmit)
    mos.mtcp_app_join(m)
    mos.mtcp_destroy()
    assert seen == [(b"more", mos.MOS_SIDE_SVR, mos.MOS_ON_REXMIT)]


def test_results_are_zero(capture: Path) -> None:
    """Calls that only do something return 0."""
    assert mos.mtcp_init(source=capture) == 0
    m = mos.mtcp_create_context(0)
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    assert s > 0
    assert mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter()) == 0
    assert mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, print) == 0
    assert mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, None) == 0
    assert mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, mos.MOS_CLIBUF, 0) == 0
    assert mos.mtcp_app_join(m) == 0
    assert mos.mtcp_stop(m) == 0
    assert mos.mtcp_close(m, s) == 0
    assert mos.mtcp_destroy_context(m) == 0
    assert mos.mtcp_destroy() == 0
    assert mos.mtcp_destroy() == 0


def test_getpeername(capture: Path) -> None:
    """Address and port of a side, or of both."""
    client, server = ("172.16.1.1", 50000), ("216.58.1.2", 80)

    def check(m: mos.Context, sock: int, _side: int) -> None:
        assert mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_CLI) == client
        assert mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_SVR) == server
        assert mos.mtcp_getpeername(m, sock, mos.MOS_SIDE_BOTH) == (client, server)

    assert at(capture, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check) == 1
    assert at(capture, mos.MOS_ON_CONN_END, mos.MOS_HK_SND, check) == 2


def test_options_of_a_flow(talk: p.Conversation, capture: Path) -> None:
    """States, time of the last packet, buffers and policies."""

    def get(m: mos.Context, sock: int, option: int) -> int:
        return mos.mtcp_getsockopt(m, sock, mos.SOL_MONSOCKET, option)

    def check(m: mos.Context, sock: int, _side: int) -> None:
        assert get(m, sock, mos.MOS_TCP_STATE_CLI) == mos.TCP_SYN_SENT
        assert get(m, sock, mos.MOS_TCP_STATE_SVR) == mos.TCP_LISTEN
        assert get(m, sock, mos.MOS_TIMESTAMP) == talk.segments[0].time_ns
        assert get(m, sock, mos.MOS_CLIBUF) == 0, "nobody reads"
        mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, mos.MOS_SVRBUF, 1000)
        assert (get(m, sock, mos.MOS_CLIBUF), get(m, sock, mos.MOS_SVRBUF)) == (0, 1000)
        for option in (mos.MOS_CLIOVERLAP, mos.MOS_SVROVERLAP):
            assert get(m, sock, option) == mos.MOS_OVERLAP_POLICY_FIRST
            mos.mtcp_setsockopt(m, sock, mos.SOL_MONSOCKET, option, mos.MOS_OVERLAP_POLICY_LAST)
            assert get(m, sock, option) == mos.MOS_OVERLAP_POLICY_LAST

    assert at(capture, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check) == 1


def test_flows_inherit_options(capture: Path) -> None:
    """A flow's socket has the buffers and policies of its listening socket."""
    found = []
    options = (mos.MOS_CLIBUF, mos.MOS_SVRBUF, mos.MOS_CLIOVERLAP, mos.MOS_SVROVERLAP)

    def check(m: mos.Context, sock: int, _side: int, _event: int) -> None:
        found.append([mos.mtcp_getsockopt(m, sock, mos.SOL_MONSOCKET, option) for option in options])

    with monitor(capture) as m:
        s = mos.mtcp_socket(m, socket.AF_INET, mos.MOS_SOCK_MONITOR_STREAM)
        for option, value in zip(options, (5000, 6000, 1, 0), strict=True):
            mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, option, value)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check)
        mos.mtcp_app_join(m)
    assert found == [[5000, 6000, 1, 0]]


def test_last_packet(talk: p.Conversation, capture: Path) -> None:
    """Every field of the packet at hand."""
    found = []

    def check(m: mos.Context, sock: int, side: int) -> None:
        found.append(packet := mos.mtcp_getlastpkt(m, sock, side))
        segment = talk.segments[packet.number - 1]
        assert packet.frame == segment.frame
        assert packet.payload == segment.payload
        assert (packet.time_ns, packet.flags) == (segment.time_ns, segment.flags)
        assert (packet.seq, packet.ack) == (segment.seq, segment.ack)
        assert packet.frame_len == packet.wire_len == len(segment.frame)
        assert packet.payload_len == packet.payload_captured == len(segment.payload)
        assert (packet.eth_offset, packet.ip_offset, packet.tcp_offset) == (0, 14, 34)
        assert packet.window == 65535
        if segment.payload:
            assert packet.offset == (segment.seq - talk.hosts[segment.sender].isn - 1) % 2**32
        else:
            assert packet.offset is None
        assert f"number={packet.number} " in repr(packet)
        with pytest.raises(AttributeError):
            _ = packet.nonsense

    assert at(capture, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, check) == len(talk.segments) == len(found)
    assert [packet.number for packet in found] == list(range(1, len(talk.segments) + 1))
    assert [packet.kind for packet in found].count("normal") == len(talk.segments) - 1


@pytest.mark.parametrize(("n", "pieces"), [(-1, [b"0123456789"]), (4, [b"0123", b"4567", b"89"]), (0, [])])
def test_peek(capture: Path, n: int, pieces: list[bytes]) -> None:
    """At most n bytes, all with n < 0, none with 0; then b""."""
    found: list[list[bytes]] = []

    def check(m: mos.Context, sock: int, side: int) -> None:
        got = []
        while data := mos.mtcp_peek(m, sock, side, n):
            got.append(data)
        found.append(got)

    at(capture, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, check)
    assert found[0] == pieces


def test_ppeek(capture: Path) -> None:
    """Reads at any stored offset and moves nothing."""
    done = []

    def check(m: mos.Context, sock: int, side: int) -> None:
        if done:
            return
        done.append(1)
        assert mos.mtcp_ppeek(m, sock, side, 100, 0) == b"0123456789"
        assert mos.mtcp_ppeek(m, sock, side, 3, 5) == b"567"
        assert mos.mtcp_ppeek(m, sock, side, 0, 5) == b""
        assert mos.mtcp_ppeek(m, sock, side, 1 << 62, 9) == b"9"
        for offset in (10, 11, 2**32, 2**62):
            with pytest.raises(OSError, match="offset") as caught:
                mos.mtcp_ppeek(m, sock, side, 1, offset)
            assert caught.value.errno == 61  # ENODATA
        assert mos.mtcp_peek(m, sock, side) == b"0123456789"

    at(capture, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, check)
    assert done


def test_ppeek_beyond_a_hole(tmp_path: Path) -> None:
    """Bytes beyond a hole can be read before it is filled."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"first")
    talk.data("client", b"third", offset=10)
    found = []

    def check(m: mos.Context, sock: int, _side: int) -> None:
        if mos.mtcp_getlastpkt(m, sock).number == 5:
            found.append(mos.mtcp_ppeek(m, sock, mos.MOS_SIDE_SVR, 100, 10))

    def on_packet(m: mos.Context, sock: int, side: int, _event: int) -> None:
        check(m, sock, side)

    with monitor(write(tmp_path / "a.pcap", talk)) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, mos.MOS_SVRBUF, 4096)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, on_packet)
        mos.mtcp_app_join(m)
    assert found == [b"third"]


def test_figures(talk: p.Conversation, capture: Path) -> None:
    """Figures at CONN_END of a small connection."""
    found: list[mos.FlowFigures] = []
    at(capture, mos.MOS_ON_CONN_END, mos.MOS_HK_RCV, lambda m, sock, _side: found.append(mos.mtcp_getfigures(m, sock)))
    assert found[0] == found[1]
    flow = found[0]
    assert (flow.client, flow.client_port, flow.server, flow.server_port) == ("172.16.1.1", 50000, "216.58.1.2", 80)
    assert (flow.start_ns, flow.end_ns) == (talk.segments[0].time_ns, talk.segments[-1].time_ns)
    assert (flow.end_reason, flow.client_state, flow.server_state) == ("fin", "TIME_WAIT", "CLOSED")
    assert flow.handshake_rtt_ns == 2 * talk.step_ns
    assert not flow.midstream
    for sender, figures in (("client", flow.c2s), ("server", flow.s2c)):
        sent = [segment for segment in talk.segments if segment.sender == sender]
        assert figures.packets == len(sent)
        assert figures.wire_bytes == sum(len(segment.frame) for segment in sent)
        assert figures.payload_bytes == sum(len(segment.payload) for segment in sent)
        assert (figures.syn, figures.fin, figures.rst) == (1, 1, 0)
        assert (figures.mss, figures.window_scale) == (1400, 7)
        assert (figures.sack_permitted, figures.timestamps) == (True, True)
        assert figures.rtt_min_ns is not None
    assert (flow.c2s.stream_bytes, flow.s2c.stream_bytes) == (14, 10)
    assert (flow.c2s.retransmission, flow.s2c.retransmission) == (1, 0)


def test_not_measured_is_none(tmp_path: Path) -> None:
    """What was not seen is None, not 0."""
    talk = p.Conversation()
    talk.syn()
    found: list[mos.FlowFigures] = []
    path = write(tmp_path / "a.pcap", talk)
    at(path, mos.MOS_ON_CONN_END, mos.MOS_HK_RCV, lambda m, sock, _side: found.append(mos.mtcp_getfigures(m, sock)))
    flow = found[0]
    assert flow.handshake_rtt_ns is None
    unknown = ("rtt_min_ns", "rtt_mean_ns", "rtt_max_ns", "max_window", "mss", "window_scale")
    assert [getattr(flow.s2c, name) for name in unknown] == [None] * 6
    assert flow.s2c.packets == 0


# ---- contexts ---------------------------------------------------------------------------------


def test_contexts_one_after_the_other(capture: Path) -> None:
    """A second context starts anew, with the same numbers."""
    assert run(capture) == run(capture)


def test_two_contexts_at_once(capture: Path) -> None:
    """Contexts share nothing: different sources and options, run in any order, destroyed in any order."""
    wanted = {path: run(path) for path in (capture, DATA / "demo.pcap")}
    logs = {}
    for path in wanted:
        mos.mtcp_init(source=path)
        logs[path] = Log(mos.mtcp_create_context(0))
        logs[path].listen()
    assert objects_alive()["contexts"] == 2
    for path in reversed(wanted):
        mos.mtcp_app_join(logs[path].m)
    mos.mtcp_destroy_context(logs[capture].m)
    mos.mtcp_destroy()
    assert objects_alive()["contexts"] == 0
    for path, result in wanted.items():
        assert logs[path].events == result.events
        assert mos.mtcp_getcounters(logs[path].m) == result.counters


def test_context_inside_a_callback(capture: Path) -> None:
    """Another context may be made, run and destroyed inside a callback."""
    wanted, inner = run(DATA / "rst.pcap"), []

    def nested(_m: mos.Context, _sock: int, _side: int) -> None:
        mos.mtcp_init(source=DATA / "rst.pcap")
        other = mos.mtcp_create_context(0)
        log = Log(other)
        log.listen()
        mos.mtcp_app_join(other)
        mos.mtcp_destroy_context(other)
        inner.append(log.events)

    assert at(capture, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, nested) == 1
    assert inner == [wanted.events]


def test_contexts_in_threads() -> None:
    """Two threads run a context each at the same time."""
    import threading

    wanted, found = run(DATA / "demo.pcap"), {}
    lock = threading.Lock()

    def work(number: int) -> None:
        with lock:  # what mtcp_init() sets is the process's
            mos.mtcp_init(source=DATA / "demo.pcap")
            m = mos.mtcp_create_context(0)
        log = Log(m)
        log.listen()
        mos.mtcp_app_join(m)
        mos.mtcp_destroy_context(m)
        found[number] = log.events

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    mos.mtcp_destroy()
    assert found == dict.fromkeys(range(4), wanted.events)


def test_forgotten_context_is_freed(capture: Path) -> None:
    """A context that nobody holds any more gives its memory back, without events."""
    mos.mtcp_init(source=capture)
    m = mos.mtcp_create_context(0)
    log = Log(m)
    log.listen()
    from mos.mtcp import _Process

    _Process.contexts.clear()
    del m, log.m
    mos.mtcp_destroy()
    assert not log.events


def test_stop_and_go_on(capture: Path) -> None:
    """mtcp_stop() makes join return; joining again goes on with the next packet; a third does nothing."""
    wanted, joins = run(capture, burst=1), 0
    with monitor(capture, burst=1) as m:
        log = Log(m, lambda event, _sock: mos.mtcp_stop(m) if event.name == "PKT_IN" else None)
        log.listen()
        while not m.finished:
            mos.mtcp_app_join(m)
            joins += 1
        assert mos.mtcp_app_join(m) == 0
    assert log.events == wanted.events
    assert joins > 5


def test_counters_after_destroy(capture: Path) -> None:
    """The counters stay readable."""
    with monitor(capture) as m:
        Log(m).listen()
        mos.mtcp_app_join(m)
        before = mos.mtcp_getcounters(m)
    after = mos.mtcp_getcounters(m)
    assert after == before
    check_counters(after)
    assert sum(after[f"flows_{reason}"] for reason in END_REASONS) == 1
    after["received"] = -1
    assert mos.mtcp_getcounters(m) == before, "a copy"
    assert "destroyed" in repr(m)


# ---- sources and configuration ------------------------------------------------------------------


def test_several_files_are_merged_by_time(tmp_path: Path) -> None:
    """A list of files is one input, by time."""
    talks = [p.Conversation(("192.0.2.1", 40000 + n), start_ns=p.EPOCH_NS + n * 300_000) for n in range(3)]
    for talk in talks:
        talk.handshake()
        talk.close()
    paths = [write(tmp_path / f"{n}.pcap", talk) for n, talk in enumerate(talks)]
    whole = run(write(tmp_path / "all.pcap", merged(*talks)))
    with monitor(paths) as m:
        log = Log(m)
        log.listen()
        mos.mtcp_app_join(m)
    assert log.events == whole.events


def test_configuration_file(tmp_path: Path, capture: Path) -> None:
    """A TOML file has the options and the source; keywords win."""
    config = tmp_path / "mos.toml"
    config.write_text(f'source = "{capture}"\nburst = 1\nidle_timeout = 5\nmidstream = true\nlinger = 0.5\n')
    mos.mtcp_init(config)
    Log(m := mos.mtcp_create_context(0)).listen()
    mos.mtcp_app_join(m)
    mos.mtcp_destroy()
    assert mos.mtcp_getcounters(m)["flows_fin"] == 1
    mos.mtcp_init(str(config), source=DATA / "rst.pcap", midstream=False)
    Log(m := mos.mtcp_create_context(0)).listen()
    mos.mtcp_app_join(m)
    mos.mtcp_destroy()
    assert mos.mtcp_getcounters(m)["received"] == 54


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "eof"), ({"idle_timeout": 5}, "timeout"), ({"tcp_timeout": 5}, "timeout"), ({"idle_timeout": 20.0}, "eof")],
)
def test_idle_timeout(tmp_path: Path, options: dict[str, float], reason: str) -> None:
    """Times are seconds of packet time."""
    talk, other = p.Conversation(), p.Conversation(("192.0.2.9", 9), start_ns=p.EPOCH_NS + 10 * p.SECOND_NS)
    talk.handshake()
    other.syn()
    counters = run(write(tmp_path / "a.pcap", merged(talk, other)), **options).counters
    assert counters[f"flows_{reason}"] >= 1
    assert counters["flows_timeout"] == (reason == "timeout")


def test_handshake_timeout(tmp_path: Path) -> None:
    """A connection that is not established has its own timeout."""
    talk, other = p.Conversation(), p.Conversation(("192.0.2.9", 9), start_ns=p.EPOCH_NS + 10 * p.SECOND_NS)
    talk.syn()
    other.syn()
    path = write(tmp_path / "a.pcap", merged(talk, other))
    assert run(path, handshake_timeout=5).counters["flows_timeout"] == 1
    assert run(path).counters["flows_timeout"] == 0


def test_time_wait_is_waited_for(tmp_path: Path) -> None:
    """tcp_tw_interval: CONN_END comes when TIME_WAIT is over."""
    talk = p.Conversation()
    talk.handshake()
    talk.close()
    other = p.Conversation(("192.0.2.9", 9), start_ns=p.EPOCH_NS + 10 * p.SECOND_NS)
    other.syn()
    path = write(tmp_path / "a.pcap", merged(talk, other))
    for options, position in (({}, 1), ({"tcp_tw_interval": 5}, 1), ({"time_wait": 60}, 2)):
        names = [e.text for e in run(path, burst=1, **options).events if e.name in ("CONN_START", "CONN_END")]
        starts = [n for n, text in enumerate(names) if text == "SND CLI CONN_START"]
        assert (
            names.index("RCV CLI CONN_END") < starts[1]
            if position == 1
            else names.index("RCV CLI CONN_END") > starts[1]
        )


def test_max_flows(tmp_path: Path) -> None:
    """At the cap a new connection is refused or an old one evicted; it is counted and told, and the accounts hold."""
    talks = [p.Conversation(("192.0.2.1", 40000 + n), start_ns=p.EPOCH_NS + n) for n in range(5)]
    for talk in talks:
        talk.handshake()
    result = run(write(tmp_path / "a.pcap", merged(*talks)), max_flows=3)
    counters = result.counters
    assert counters["dropped_table_full"] + counters["flows_evicted"] >= 2
    assert "NULL - ERROR" in result.texts() or counters["flows_evicted"]


def test_verify_checksums(tmp_path: Path) -> None:
    """Off by default; when on, packets with a bad checksum are ignored and counted."""
    ends = (("192.0.2.1", 1), ("192.0.2.2", 2))
    bad = p.ethernet(p.ip(p.tcp(b"", *ends, seq=1, flags=p.SYN, tcp_checksum=0x1234), "192.0.2.1", "192.0.2.2"))
    path = write(tmp_path / "a.pcap", [(p.EPOCH_NS, bad)])
    assert run(path).counters["flows_created"] == 1
    counters = run(path, verify_checksums=True).counters
    assert (counters["flows_created"], counters["ignored_bad_checksum"]) == (0, 1)


def test_history(tmp_path: Path) -> None:
    """history=True keeps bytes that were read."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"old ")
    talk.data("client", b"new")
    found: dict[bool, object] = {}

    def last(m: mos.Context, sock: int, side: int, *, keep: bool) -> None:
        mos.mtcp_peek(m, sock, side)
        if mos.mtcp_getlastpkt(m, sock).number == 5:
            try:
                found[keep] = mos.mtcp_ppeek(m, sock, side, 100, 0)
            except OSError as error:
                found[keep] = error.errno

    path = write(tmp_path / "a.pcap", talk)
    for keep in (False, True):
        check: Check = lambda m, sock, side, keep=keep: last(m, sock, side, keep=keep)  # noqa: E731
        at(path, mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, check, history=keep, burst=1)
    assert found == {False: 61, True: b"old new"}
