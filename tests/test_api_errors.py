"""Calls that fail: the errno of the manual page, a sentence, and never a crash, whatever the arguments are."""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import resource
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import packets as p
import pytest
from support import DATA, EVENT_NUMBERS, HOOK_NAMES, RAW_EVENTS, ROOT, STREAM_EVENTS, monitor, write

import mos

DEMO = DATA / "demo.pcap"
Call = Callable[[mos.Context, int], object]
# Every call that takes a context and a socket, with arguments that are otherwise right.
SOCKET_CALLS: dict[str, Call] = {
    "close": mos.mtcp_close,
    "bind": lambda m, s: mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(stream_syn_filter="tcp")),
    "unbind": lambda m, s: mos.mtcp_bind_monitor_filter(m, s, None),
    "register": lambda m, s: mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, print),
    "deregister": lambda m, s: mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, None),
    "getpeername": lambda m, s: mos.mtcp_getpeername(m, s, mos.MOS_SIDE_CLI),
    "getpeername both": lambda m, s: mos.mtcp_getpeername(m, s, mos.MOS_SIDE_BOTH),
    "getsockopt": lambda m, s: mos.mtcp_getsockopt(m, s, mos.SOL_MONSOCKET, mos.MOS_TCP_STATE_CLI),
    "setsockopt": lambda m, s: mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, mos.MOS_CLIBUF, 1),
    "peek": lambda m, s: mos.mtcp_peek(m, s, mos.MOS_SIDE_CLI, 1),
    "ppeek": lambda m, s: mos.mtcp_ppeek(m, s, mos.MOS_SIDE_CLI, 1, 0),
    "getlastpkt": lambda m, s: mos.mtcp_getlastpkt(m, s, mos.MOS_SIDE_CLI),
    "getfigures": mos.mtcp_getfigures,
}
CONTEXT_CALLS: dict[str, Call] = {
    "socket": lambda m, _s: mos.mtcp_socket(m, socket.AF_INET, mos.MOS_SOCK_MONITOR_STREAM, 0),
    "join": lambda m, _s: mos.mtcp_app_join(m),
    "getlasterror": lambda m, _s: mos.mtcp_getlasterror(m),
    "destroy_context": lambda m, _s: mos.mtcp_destroy_context(m),
}
every_socket_call = pytest.mark.parametrize("call", SOCKET_CALLS.values(), ids=SOCKET_CALLS)
every_call = pytest.mark.parametrize(
    "call", [*SOCKET_CALLS.values(), *CONTEXT_CALLS.values()], ids=[*SOCKET_CALLS, *CONTEXT_CALLS]
)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Destroy what a test left behind, also when it failed."""
    yield
    mos.mtcp_destroy()


@pytest.fixture
def m() -> Iterator[mos.Context]:
    """A context that does not run yet."""
    with monitor(DEMO) as context:
        yield context


def fails(number: int, call: Callable[..., object], *args: object) -> str:
    """Check the errno; gives the sentence."""
    with pytest.raises(OSError, match=r".") as caught:
        call(*args)
    assert caught.value.errno == number, caught.value
    assert caught.value.strerror
    return str(caught.value.strerror)


def inside(event: int, hook: int, action: Call, path: Path = DEMO) -> None:
    """Call action(m, sock) once in a callback."""
    done = []

    def callback(m: mos.Context, sock: int, _side: int, _event: int) -> None:
        if not done:
            done.append(sock)
            action(m, sock)

    with monitor(path) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, event, hook, callback)
        mos.mtcp_app_join(m)
    assert done


# ---- bad sockets and contexts -------------------------------------------------------------------


@every_socket_call
@pytest.mark.parametrize("sock", [0, -1, 2, 63, 64, 65, 2**31, 2**34, 2**34 + 1, 2**62, 2**63 - 1, 2**64, -(2**70)])
def test_ebadf(m: mos.Context, call: Call, sock: int) -> None:
    """EBADF for numbers that are no socket; the sentence has the number."""
    mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    assert str(sock) in fails(errno.EBADF, call, m, sock)


@every_socket_call
def test_ebadf_after_close(m: mos.Context, call: Call) -> None:
    """EBADF for a closed socket."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    mos.mtcp_close(m, s)
    fails(errno.EBADF, call, m, s)


@every_socket_call
def test_ebadf_after_conn_end(call: Call) -> None:
    """EBADF for a flow's socket once its CONN_END is over."""
    ids: list[int] = []
    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        note = lambda _m, sock, _side, _event: ids.append(sock)  # noqa: E731
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_END, mos.MOS_HK_SND, note)
        mos.mtcp_app_join(m)
        for sock in ids:
            fails(errno.EBADF, call, m, sock)
    assert len(set(ids)) == 16


@every_call
@pytest.mark.parametrize("bad", [None, 0, "context", object(), mos], ids=repr)
def test_eacces_without_context(call: Call, bad: object) -> None:
    """EACCES for what is no context."""
    fails(errno.EACCES, call, bad, 1)


@every_call
def test_eacces_after_destroy(call: Call) -> None:
    """EACCES for a context that was destroyed."""
    with monitor(DEMO) as m:
        pass
    fails(errno.EACCES, call, m, 1)


def test_eacces_before_init() -> None:
    """mtcp_create_context() needs mtcp_init()."""
    mos.mtcp_destroy()
    assert "mtcp_init" in fails(errno.EACCES, mos.mtcp_create_context, 0)


@every_call
def test_eperm_from_another_thread(m: mos.Context, call: Call) -> None:
    """EPERM from a thread that did not make the context, which is unharmed."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    found: list[object] = []

    def work() -> None:
        try:
            found.append(call(m, s))
        except OSError as error:
            found.append(error.errno)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [errno.EPERM]
    assert mos.mtcp_app_join(m) == 0
    assert mos.mtcp_getcounters(m)["received"] == 689


# ---- mtcp_socket and contexts -------------------------------------------------------------------


def test_enfile(m: mos.Context) -> None:
    """ENFILE at the limit, which the sentence names."""
    for _ in range(64):
        mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    assert "64" in fails(errno.ENFILE, mos.mtcp_socket, m, 0, mos.MOS_SOCK_MONITOR_STREAM)


def test_closed_sockets_are_no_limit(m: mos.Context) -> None:
    """Sockets that were closed do not count for ENFILE, and their ids are not used again."""
    ids = []
    for _ in range(200):
        ids.append(mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM))
        mos.mtcp_close(m, ids[-1])
    assert len(set(ids)) == 200


@pytest.mark.parametrize("domain", [1, 3, -1, 17, 2**31 - 1])
def test_eafnosupport(m: mos.Context, domain: int) -> None:
    """EAFNOSUPPORT for other domains."""
    assert str(domain) in fails(errno.EAFNOSUPPORT, mos.mtcp_socket, m, domain, mos.MOS_SOCK_MONITOR_STREAM)


@pytest.mark.parametrize("kind", [0, 1, 2, mos.MOS_SOCK_UNUSED, mos.MOS_SOCK_MONITOR_STREAM_ACTIVE, 8, -1, 2**40])
def test_bad_socket_type(m: mos.Context, kind: int) -> None:
    """EINVAL for what is no type of a listening monitor socket."""
    fails(errno.EINVAL, mos.mtcp_socket, m, socket.AF_INET, kind)


@pytest.mark.parametrize("core", [-1, 10**6, 2**70])
def test_bad_core(core: int) -> None:
    """EINVAL for a core that this machine does not have."""
    mos.mtcp_init()
    assert str(core) in fails(errno.EINVAL, mos.mtcp_create_context, core)
    mos.mtcp_destroy()


def test_join_without_source() -> None:
    """A context without input says what to do."""
    mos.mtcp_init()
    with pytest.raises(OSError, match=r"source="):
        mos.mtcp_app_join(mos.mtcp_create_context(0))
    mos.mtcp_destroy()


# ---- mtcp_register_callback: the table of the specification ---------------------------------------

EVENT_WORDS = sorted(EVENT_NUMBERS)
HOOKS = sorted(HOOK_NAMES)


def allowed(kind: str, event: str, hook: int) -> bool:
    """Section 2 of the specification."""
    if kind == "raw":
        return event in RAW_EVENTS.get(hook, ())
    if event == "ORPHAN":
        return kind == "stream with orphan filter" and hook == mos.MOS_NULL
    return event in STREAM_EVENTS[hook]


@pytest.mark.parametrize("kind", ["stream", "stream with orphan filter", "raw"])
@pytest.mark.parametrize(("event", "hook"), list(itertools.product(EVENT_WORDS, HOOKS)), ids=str)
def test_matrix(m: mos.Context, kind: str, event: str, hook: int) -> None:
    """Every event at every hook of every kind of listening socket: accepted, or EINVAL with a reason."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW if kind == "raw" else mos.MOS_SOCK_MONITOR_STREAM)
    if "orphan" in kind:
        mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(stream_orphan_filter="tcp"))
    for callback in (print, None):
        if allowed(kind, event, hook):
            assert mos.mtcp_register_callback(m, s, EVENT_NUMBERS[event], hook, callback) == 0
        else:
            fails(errno.EINVAL, mos.mtcp_register_callback, m, s, EVENT_NUMBERS[event], hook, callback)


def test_matrix_of_a_flow() -> None:
    """The same on a flow's socket."""

    def check(m: mos.Context, sock: int) -> None:
        for event, hook in itertools.product(EVENT_WORDS, HOOKS):
            if allowed("stream", event, hook):
                assert mos.mtcp_register_callback(m, sock, EVENT_NUMBERS[event], hook, None) == 0
            else:
                fails(errno.EINVAL, mos.mtcp_register_callback, m, sock, EVENT_NUMBERS[event], hook, print)

    inside(mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check)


@pytest.mark.parametrize("event", [0, 2, 8, 3, 0x5, 0x40, 0x7FF, 1 << 20, 2**62, 2**63 - 1, 2**64, -1])
def test_bad_event(m: mos.Context, event: int) -> None:
    """EINVAL for what is not one event."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    fails(errno.EINVAL, mos.mtcp_register_callback, m, s, event, mos.MOS_HK_RCV, print)


@pytest.mark.parametrize("hook", [0, 1, mos.MOS_HK_RCV | mos.MOS_HK_SND, mos.MOS_NULL | 1, -1, -(2**31), 2**32, 2**64])
def test_bad_hook(m: mos.Context, hook: int) -> None:
    """EINVAL for what is not one hook."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    fails(errno.EINVAL, mos.mtcp_register_callback, m, s, mos.MOS_ON_PKT_IN, hook, print)


@pytest.mark.parametrize("callback", [1, "print", object(), [print]], ids=repr)
def test_callback_must_be_callable(m: mos.Context, callback: object) -> None:
    """TypeError at once, not when the event comes."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    with pytest.raises(TypeError, match="callable"):
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, callback)


# ---- filters --------------------------------------------------------------------------------------

BAD_FILTERS = {
    "dst port 80 and and port 3": "and port 3",
    "tcp portt 80": "portt",
    "port 99999": "99999",
    "net 300.1": "300.1",
    "tcp and": "and",
    "(tcp": "tcp",
}


@pytest.mark.parametrize("text", BAD_FILTERS)
@pytest.mark.parametrize("kind", ["stream_syn_filter", "stream_orphan_filter", "raw_pkt_filter"])
def test_bad_filter(m: mos.Context, kind: str, text: str) -> None:
    """FilterError at once: EINVAL and a ValueError; the sentence has the text, the position and what is there."""
    raw = kind == "raw_pkt_filter"
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW if raw else mos.MOS_SOCK_MONITOR_STREAM)
    with pytest.raises(mos.FilterError) as caught:
        mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(**{kind: text}))
    assert isinstance(caught.value, (OSError, ValueError, mos.MosError))
    assert caught.value.errno == errno.EINVAL
    said = str(caught.value)
    assert text in said
    position = re.search(r'column (\d+) \("(.*?)"\)', said)
    assert position
    assert text[int(position[1]) - 1 :].startswith(position[2])
    assert BAD_FILTERS[text] in position[2]


def test_long_bad_filter(m: mos.Context) -> None:
    """The position is not lost behind a long text."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    text = " or ".join(f"port {number}" for number in range(1, 80)) + " or portt 3"
    with pytest.raises(mos.FilterError, match=f"column {text.index('or portt') + 1} "):
        mos.mtcp_bind_monitor_filter(m, s, mos.MonitorFilter(stream_syn_filter=text))


@pytest.mark.parametrize("word", ["vlan 3", "ether host 0:0:5e:0:53:1", "mpls", "pppoes"])
def test_link_words_in_syn_filters(m: mos.Context, word: str) -> None:
    """SYN and orphan filters see the IP packet: words about the link are an error; raw filters may use them."""
    stream = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    raw = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW)
    for kind in ("stream_syn_filter", "stream_orphan_filter"):
        with pytest.raises(mos.FilterError):
            mos.mtcp_bind_monitor_filter(m, stream, mos.MonitorFilter(**{kind: word}))
    assert mos.mtcp_bind_monitor_filter(m, raw, mos.MonitorFilter(raw_pkt_filter=word)) == 0


def test_enoprotoopt(m: mos.Context) -> None:
    """A filter of the other socket type."""
    stream = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    raw = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW)
    bind = mos.mtcp_bind_monitor_filter
    fails(errno.ENOPROTOOPT, bind, m, stream, mos.MonitorFilter(raw_pkt_filter="tcp"))
    fails(errno.ENOPROTOOPT, bind, m, raw, mos.MonitorFilter(stream_syn_filter="tcp"))
    fails(errno.ENOPROTOOPT, bind, m, raw, mos.MonitorFilter(stream_orphan_filter="tcp"))
    fails(errno.ENOPROTOOPT, bind, m, raw, mos.MonitorFilter(raw_pkt_filter="tcp", stream_syn_filter="tcp"))


def test_filter_of_a_flow_socket() -> None:
    """A flow's socket takes no filter."""

    def check(m: mos.Context, sock: int) -> None:
        fails(errno.EBADF, mos.mtcp_bind_monitor_filter, m, sock, mos.MonitorFilter(stream_syn_filter="tcp"))

    inside(mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check)


def test_empty_filter_of_a_raw_socket(tmp_path: Path) -> None:
    """MonitorFilter() means all packets, on raw sockets too: it removes the filter."""
    talk = p.Conversation()
    talk.handshake()
    frames = []
    with monitor(write(tmp_path / "a.pcap", talk)) as m:
        raw = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_RAW)
        mos.mtcp_bind_monitor_filter(m, raw, mos.MonitorFilter(raw_pkt_filter="udp"))
        mos.mtcp_bind_monitor_filter(m, raw, mos.MonitorFilter())
        mos.mtcp_register_callback(m, raw, mos.MOS_ON_PKT_IN, mos.MOS_NULL, lambda *args: frames.append(args))
        mos.mtcp_app_join(m)
    assert len(frames) == 3


@pytest.mark.parametrize(
    "bad",
    [
        mos.MonitorFilter(stream_syn_filter="dst port 1", stream_orphan_filter="no such word"),
        mos.MonitorFilter(stream_syn_filter="dst port 1", raw_pkt_filter="tcp"),
        mos.MonitorFilter(stream_syn_filter="no such word"),
    ],
    ids=["bad orphan filter", "with raw filter", "bad SYN filter"],
)
def test_failed_bind_changes_nothing(tmp_path: Path, bad: mos.MonitorFilter) -> None:
    """A call that fails leaves the socket as it was."""
    talk = p.Conversation()
    talk.handshake()
    with monitor(write(tmp_path / "a.pcap", talk)) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        with pytest.raises(OSError, match=r"."):
            mos.mtcp_bind_monitor_filter(m, s, bad)
        mos.mtcp_app_join(m)
        assert mos.mtcp_getcounters(m)["flows_created"] == 1


# ---- options, bytes, packet -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [mos.MOS_SOCK_MONITOR_STREAM, mos.MOS_SOCK_MONITOR_RAW])
def test_listening_sockets_have_no_flow(m: mos.Context, kind: int) -> None:
    """Questions about a flow on a listening socket."""
    s = mos.mtcp_socket(m, 0, kind)
    fails(errno.ENOTCONN, mos.mtcp_getpeername, m, s, mos.MOS_SIDE_CLI)
    fails(errno.ENOTCONN, mos.mtcp_getfigures, m, s)
    fails(errno.ENOTSOCK, mos.mtcp_getsockopt, m, s, mos.SOL_MONSOCKET, mos.MOS_TCP_STATE_CLI)
    fails(errno.EBADF, mos.mtcp_peek, m, s, mos.MOS_SIDE_CLI)
    fails(errno.EBADF, mos.mtcp_ppeek, m, s, mos.MOS_SIDE_CLI, 1, 0)
    fails(errno.EACCES, mos.mtcp_getlastpkt, m, s, mos.MOS_SIDE_CLI)
    fails(errno.EACCES, mos.mtcp_getlasterror, m)


@pytest.mark.parametrize("flow", [False, True])
def test_bad_options(flow: bool) -> None:  # noqa: FBT001
    """ENOSYS for unknown levels and options, EINVAL for values out of range; both kinds of socket."""

    def check(m: mos.Context, sock: int) -> None:
        level, put = mos.SOL_MONSOCKET, mos.mtcp_setsockopt
        for bad in (0, 1, 0xFFFF, -1):
            fails(errno.ENOSYS, put, m, sock, bad, mos.MOS_CLIBUF, 1)
        for bad in (0, 0x99, -1, mos.MOS_TCP_STATE_CLI, mos.MOS_TIMESTAMP):
            fails(errno.ENOSYS, put, m, sock, level, bad, 1)
        for option, values in {
            mos.MOS_CLIBUF: (-1, 2**31, 2**62),
            mos.MOS_SVRBUF: (-1, 2**64),
            mos.MOS_CLIOVERLAP: (-1, 99, 256),
            mos.MOS_SVROVERLAP: (-1, 99, 2**32),
            mos.MOS_STOP_MON: (-1, 3, 2**32, 2**32 + 1),
        }.items():
            for value in values:
                fails(errno.EINVAL, put, m, sock, level, option, value)

    if flow:
        inside(mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check)
        return
    with monitor(DEMO) as m:
        check(m, mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM))


def test_bad_questions_about_a_flow() -> None:
    """Sides, levels and options that do not exist; numbers that are negative."""

    def check(m: mos.Context, sock: int) -> None:
        for side in (-1, 3, 2**31 - 1):
            fails(errno.EINVAL, mos.mtcp_getpeername, m, sock, side)
        for side in (-1, 2, 3):
            fails(errno.EINVAL, mos.mtcp_peek, m, sock, side)
            fails(errno.EINVAL, mos.mtcp_ppeek, m, sock, side, 1, 0)
        fails(errno.ENOSYS, mos.mtcp_getsockopt, m, sock, 1, mos.MOS_TCP_STATE_CLI)
        fails(errno.ENOSYS, mos.mtcp_getsockopt, m, sock, mos.SOL_MONSOCKET, 0x77)
        for n, offset in ((-1, 0), (1, -1), (2**70, 0), (1, 2**70)):
            fails(errno.EINVAL, mos.mtcp_ppeek, m, sock, mos.MOS_SIDE_SVR, n, offset)

    inside(mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, check)


def test_eacces_where_nobody_reads() -> None:
    """A side that is not read: EACCES, and how to switch it on."""

    def check(m: mos.Context, sock: int) -> None:
        for side, option in ((mos.MOS_SIDE_CLI, "MOS_CLIBUF"), (mos.MOS_SIDE_SVR, "MOS_SVRBUF")):
            for call in (mos.mtcp_peek, lambda m, s, side: mos.mtcp_ppeek(m, s, side, 1, 0)):
                said = fails(errno.EACCES, call, m, sock, side)
                assert option in said
                assert "MOS_ON_CONN_NEW_DATA" in said

    inside(mos.MOS_ON_CONN_START, mos.MOS_HK_SND, check)


@pytest.mark.parametrize(
    ("event", "hook"), [(mos.MOS_ON_CONN_END, mos.MOS_HK_RCV), (mos.MOS_ON_CONN_NEW_DATA, mos.MOS_NULL)]
)
def test_no_packet_at_hand(event: int, hook: int) -> None:
    """EACCES in CONN_END and NEW_DATA at MOS_NULL; no error at hand either."""

    def check(m: mos.Context, sock: int) -> None:
        fails(errno.EACCES, mos.mtcp_getlastpkt, m, sock, mos.MOS_SIDE_CLI)
        fails(errno.EACCES, mos.mtcp_getlasterror, m)

    inside(event, hook, check)


def test_huge_requests_are_cheap() -> None:
    """Asking for more bytes than there can be costs no memory."""

    def check(m: mos.Context, sock: int) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert mos.mtcp_ppeek(m, sock, mos.MOS_SIDE_SVR, 2**62, 0)
        assert mos.mtcp_peek(m, sock, mos.MOS_SIDE_SVR, 2**62)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000

    inside(mos.MOS_ON_CONN_NEW_DATA, mos.MOS_HK_RCV, check)


# ---- configuration --------------------------------------------------------------------------------


def context(*args: object, **options: object) -> mos.Context:
    """Set the options and make a context, which opens the source."""
    mos.mtcp_init(*args, **options)
    return mos.mtcp_create_context(0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"idle_timeot": 3}, ["idle_timeot", "did you mean idle_timeout?"]),
        ({"max_flow": 3}, ["did you mean max_flows?"]),
        ({"xyz": 3}, ["xyz", "the options are", "midstream"]),
        ({"idle_timeout": -1}, ["idle_timeout=-1", "seconds"]),
        ({"idle_timeout": "3"}, ["idle_timeout='3'"]),
        ({"idle_timeout": float("nan")}, ["idle_timeout=nan"]),
        ({"idle_timeout": float("inf")}, ["idle_timeout=inf"]),
        ({"burst": 1.5}, ["burst=1.5", "whole number"]),
        ({"burst": True}, ["burst=True"]),
        ({"max_flows": 2**32}, ["max_flows="]),
        ({"rmem_size": -1}, ["rmem_size=-1"]),
        ({"hash_seed": 2**64}, ["hash_seed="]),
        ({"midstream": 1}, ["midstream=1", "True or False"]),
        ({"midstream": "yes"}, ["midstream='yes'"]),
        ({"on_error": "ignore"}, ["on_error='ignore'", "raise", "log"]),
        ({"on_error": ["log"]}, ["on_error="]),
    ],
    ids=str,
)
def test_bad_options_of_init(options: dict[str, object], words: list[str]) -> None:
    """ConfigError (a ValueError) in mtcp_init(): name, value, what to give."""
    with pytest.raises(mos.ConfigError) as caught:
        mos.mtcp_init(source=DEMO, **options)
    assert isinstance(caught.value, ValueError)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "options", [{"burst": 0}, {"burst": 65}, {"max_flows": 0}, {"rmem_size": 0}, {"max_ranges": 0}]
)
def test_options_out_of_range(options: dict[str, int]) -> None:
    """What only the core can judge is a ConfigError too, at the latest in mtcp_create_context()."""
    with pytest.raises(mos.ConfigError, match=next(iter(options))):
        context(source=DEMO, **options)


def test_failed_init_keeps_the_old_setting() -> None:
    """A call that fails changes nothing."""
    mos.mtcp_init(source=DEMO)
    with pytest.raises(mos.ConfigError):
        mos.mtcp_init(nonsense=1)
    m = mos.mtcp_create_context(0)
    mos.mtcp_app_join(m)
    mos.mtcp_destroy()
    assert mos.mtcp_getcounters(m)["received"] == 689


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("idle_timeot = 3", ["did you mean idle_timeout?"]),
        ("burst = ", ["bad.toml", "Invalid value"]),
        ("source = 5", ["source=5"]),
        ("burst = [1]", ["burst=[1]"]),
        ("[section]\nburst = 1", ["section"]),
        ("source = []", ["source", "empty"]),
        ("idle_timeout = 1979-05-27", ["idle_timeout="]),
    ],
)
def test_bad_configuration_file(tmp_path: Path, text: str, words: list[str]) -> None:
    """A TOML file is checked like keywords; syntax errors name file and line."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises((mos.ConfigError, TypeError)) as caught:
        context(path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_configuration_file_that_is_not_there(tmp_path: Path) -> None:
    """OSError with the name; bytes that are no text are a ConfigError."""
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        mos.mtcp_init(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(mos.ConfigError, match=r"binary\.toml"):
        mos.mtcp_init(tmp_path / "binary.toml")


def test_configuration_is_no_descriptor() -> None:
    """A number is not a path: it must not be read, and closed, as a file descriptor."""
    reader, writer = os.pipe()
    os.write(writer, b"burst = 1\n")
    os.close(writer)
    try:
        with pytest.raises(TypeError):
            mos.mtcp_init(reader)
        os.fstat(reader)
    finally:
        os.close(reader)


@pytest.mark.parametrize("source", ["lo\0x", f"{DEMO}\0x", [f"{DEMO}\0"]])
def test_nul_in_source(source: object) -> None:
    """A name with a NUL character names nothing; what stands before it must not be opened."""
    with pytest.raises((ValueError, OSError), match=r"."):
        context(source=source)


# ---- anything at all ------------------------------------------------------------------------------


class Odd:
    """An object that misbehaves when it is compared or turned into a number."""

    def __index__(self) -> int:
        """Not a number."""
        raise ZeroDivisionError("odd")

    def __eq__(self, other: object) -> bool:
        """Equal to everything."""
        return True

    def __hash__(self) -> int:
        """With a hash."""
        return 1


ANYTHING = (
    *(None, True, 0, 1, -1, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**40),
    *(0.0, 1.5, float("nan"), float("inf"), 1j, "", "tcp", "\0", "\ud800", b"1", bytearray(2), [], [1], {}, set()),
    *(print, object(), int, mos, Odd(), mos.MonitorFilter("tcp"), mos.MonitorFilter(3), mos.MonitorFilter(b"", {}, 1)),
)
FUZZED: dict[str, int] = {
    "mtcp_socket": 3,
    "mtcp_close": 1,
    "mtcp_bind_monitor_filter": 2,
    "mtcp_register_callback": 4,
    "mtcp_getpeername": 2,
    "mtcp_getsockopt": 3,
    "mtcp_setsockopt": 4,
    "mtcp_peek": 3,
    "mtcp_ppeek": 4,
    "mtcp_getlastpkt": 2,
    "mtcp_getlasterror": 0,
    "mtcp_getfigures": 1,
    "mtcp_getcounters": 0,
}
FINE = (TypeError, OSError, ValueError, ZeroDivisionError)


def any_call(rng: random.Random, m: mos.Context, known: list[object]) -> None:
    """One call with arguments of any kind; half of them are such as the calls want."""
    name = rng.choice(list(FUZZED))
    values = [rng.choice(ANYTHING if rng.random() < 0.5 else known) for _ in range(FUZZED[name])]
    try:
        getattr(mos, name)(m if rng.random() < 0.9 else rng.choice(ANYTHING), *values)
    except FINE as error:
        said = str(error)
    except Exception as error:  # noqa: BLE001 - shown with the arguments
        pytest.fail(f"{name}{tuple(values)} raised {error!r}")
    else:
        return
    assert said, (name, values)


@pytest.mark.parametrize("seed", range(4))
def test_anything(m: mos.Context, seed: int) -> None:
    """Calls with arbitrary arguments before the loop: a clear exception or success."""
    rng = random.Random(seed)
    known: list[object] = [
        1,
        2,
        3,
        4,
        mos.SOL_MONSOCKET,
        *EVENT_NUMBERS.values(),
        *HOOK_NAMES,
        *range(0x11),
        print,
        None,
    ]
    for kind in (mos.MOS_SOCK_MONITOR_STREAM, mos.MOS_SOCK_MONITOR_RAW):
        mos.mtcp_socket(m, 0, kind)
    for _ in range(3000):
        any_call(rng, m, known)


@pytest.mark.parametrize("seed", range(4))
def test_anything_inside_callbacks(seed: int) -> None:
    """The same inside callbacks, on sockets of flows that live and that have ended."""
    rng = random.Random(seed)
    known: list[object] = [1, 2, mos.SOL_MONSOCKET, *EVENT_NUMBERS.values(), *HOOK_NAMES, *range(0x11), None]

    def wild(m: mos.Context, sock: int, side: int, _event: int) -> None:
        for _ in range(3):
            any_call(rng, m, [*known, sock, sock, sock, side, sock + rng.randrange(70), wild])

    for path in (DEMO, DATA / "simultaneous.pcap"):
        with monitor(path, midstream=True) as m:
            for hook, names in STREAM_EVENTS.items():
                s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
                for name in names:
                    mos.mtcp_register_callback(m, s, EVENT_NUMBERS[name], hook, wild)
            mos.mtcp_app_join(m)


@pytest.mark.parametrize(
    "value", [v for v in ANYTHING if not isinstance(v, int)], ids=lambda value: type(value).__name__
)
def test_integers_are_integers(m: mos.Context, value: object) -> None:
    """Where a number is wanted, nothing else is accepted."""
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    wrong = (TypeError, ZeroDivisionError)
    stream = mos.MOS_SOCK_MONITOR_STREAM
    for call in (
        lambda: mos.mtcp_socket(m, value, stream),
        lambda: mos.mtcp_socket(m, 0, value),
        lambda: mos.mtcp_socket(m, 0, stream, value),
        lambda: mos.mtcp_close(m, value),
        lambda: mos.mtcp_register_callback(m, value, 1, mos.MOS_HK_RCV, print),
        lambda: mos.mtcp_register_callback(m, s, value, mos.MOS_HK_RCV, print),
        lambda: mos.mtcp_register_callback(m, s, 1, value, print),
        lambda: mos.mtcp_setsockopt(m, s, value, mos.MOS_CLIBUF, 1),
        lambda: mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, value, 1),
        lambda: mos.mtcp_setsockopt(m, s, mos.SOL_MONSOCKET, mos.MOS_CLIBUF, value),
        lambda: mos.mtcp_getfigures(m, value),
    ):
        with pytest.raises(wrong):
            call()


# ---- what must not be done inside a callback --------------------------------------------------------

SCRIPT = """
    import os, threading
    import mos
    mos.mtcp_init(source={source!r}, burst=8)
    m = mos.mtcp_create_context(0)
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    calls = said = 0
    def in_thread(call):
        thread = threading.Thread(target=lambda: attempt(call))
        thread.start()
        thread.join()
    def attempt(call):
        global said
        try:
            call()
        except OSError as error:
            said = error.errno
    def callback(m, sock, side, event):
        global calls
        calls += 1
        if calls == 50:
            attempt(lambda: {action})
    for event in (mos.MOS_ON_PKT_IN, mos.MOS_ON_CONN_END):
        mos.mtcp_register_callback(m, s, event, mos.MOS_HK_RCV, callback)
    attempt(lambda: mos.mtcp_app_join(m))
    print(calls, said)
"""


@pytest.mark.parametrize(
    "action",
    [
        "mos.mtcp_destroy_context(m)",
        "mos.mtcp_destroy()",
        "mos.mtcp_app_join(m)",
        "in_thread(lambda: mos.mtcp_destroy_context(m))",
        "in_thread(lambda: mos.mtcp_destroy())",
        "in_thread(lambda: mos.mtcp_app_join(m))",
    ],
)
def test_ending_the_loop_from_inside(action: str) -> None:
    """Destroying or joining the context that runs is refused with an error; the loop goes on and loses nothing."""
    script = textwrap.dedent(SCRIPT.format(source=str(DEMO), action=action))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, f"{action}: exit code {done.returncode} {done.stderr}"
    calls, said = done.stdout.split()
    assert int(calls) == 673 + 2 * 16 - len(late_frames())
    assert int(said) > 0, f"{action} was accepted"


def late_frames() -> list[int]:
    """Frames of the demo that come after the end of their flow."""
    with monitor(DEMO) as m:
        mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_app_join(m)
        return [0] * mos.mtcp_getcounters(m)["delivered_late"]
