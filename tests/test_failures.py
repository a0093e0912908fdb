"""When something goes wrong: bad inputs, callbacks that raise, Ctrl-C; the accounts stay right and nothing leaks."""

from __future__ import annotations

import functools
import gc
import gzip
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import packets as p
import pytest
from support import DATA, ROOT, Log, check_counters, merged, monitor, objects_alive, run, write

import mos

DEMO = DATA / "demo.pcap"
DEMO_PACKETS = 689
EXAMPLE = ROOT / "examples" / "rexmit_monitor.py"
STOP_WITHIN = 0.3  # seconds: the specification's 100 ms, the end of the interpreter, and a busy machine


def join(
    path: Path, callback: Callable[..., object], event: int = 0, hook: int = 0, **options: object
) -> dict[str, int]:
    """Run a capture with one callback; gives the counters."""
    with monitor(path, **options) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, event or mos.MOS_ON_PKT_IN, hook or mos.MOS_HK_RCV, callback)
        mos.mtcp_app_join(m)
    return mos.mtcp_getcounters(m)


# ---- inputs ---------------------------------------------------------------------------------------


def opening(source: object) -> BaseException:
    """What opening a source raises."""
    mos.mtcp_init(source=source)
    try:
        with pytest.raises(OSError, match=r".") as caught:
            mos.mtcp_create_context(0)
    finally:
        mos.mtcp_destroy()
    assert "\n" not in str(caught.value)
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    """FileNotFoundError with the name."""
    error = opening(tmp_path / "none.pcap")
    assert isinstance(error, FileNotFoundError)
    assert "none.pcap" in str(error)


def test_directory(tmp_path: Path) -> None:
    """A folder is no capture."""
    error = opening(tmp_path)
    assert isinstance(error, (IsADirectoryError, mos.SourceError))
    assert str(tmp_path) in str(error)


def test_unreadable(tmp_path: Path) -> None:
    """PermissionError with the name."""
    path = write(tmp_path / "secret.pcap", [])
    path.chmod(0)
    root = os.geteuid() == 0  # may read everything
    if root:
        os.seteuid(65534)
    try:
        error = opening(path)
    finally:
        if root:
            os.seteuid(0)
    assert isinstance(error, PermissionError)
    assert "secret.pcap" in str(error)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xd4", b"\xd4\xc3\xb2\xa1", b"hello, this is no capture at all" * 10, bytes(100), b"\n\r\r\n" + bytes(20)],
    ids=["empty", "one byte", "magic", "text", "zeros", "section"],
)
def test_not_a_capture(tmp_path: Path, content: bytes) -> None:
    """SourceError, when it is opened or at once when it runs; the sentence has the name."""
    path = tmp_path / "odd.pcap"
    path.write_bytes(content)
    with pytest.raises(mos.SourceError, match=r"odd\.pcap") as caught:
        run(path)
    assert caught.value.errno
    mos.mtcp_destroy()


def test_second_of_several_is_bad(tmp_path: Path) -> None:
    """One bad file of a list: nothing is opened, and it is named."""
    (tmp_path / "bad.pcap").write_bytes(b"no capture, really no capture at all")
    error = opening([DEMO, tmp_path / "bad.pcap", DEMO])
    assert "bad.pcap" in str(error)


def test_empty_capture(tmp_path: Path) -> None:
    """A capture without packets is fine."""
    result = run(write(tmp_path / "empty.pcap", []))
    assert not result.events
    assert not any(result.counters.values())


@pytest.mark.parametrize("cut", [1, 10, 16, 17, 40, 69])
def test_truncated(tmp_path: Path, cut: int) -> None:
    """What was before the break is delivered, flows end, then SourceError; joining again says the same."""
    talk = p.Conversation()
    talk.handshake()
    talk.data("client", b"last")
    whole = run(write(tmp_path / "whole.pcap", list(talk)[:3]))
    path = tmp_path / "cut.pcap"
    path.write_bytes(p.pcap(talk, nanoseconds=True)[:-cut])
    with monitor(path) as m:
        log = Log(m)
        log.listen()
        if cut == 16 + len(talk.segments[-1].frame):
            mos.mtcp_app_join(m)
        else:
            with pytest.raises(mos.SourceError, match=r"cut\.pcap"):
                mos.mtcp_app_join(m)
        counters = mos.mtcp_getcounters(m)
    assert log.events == whole.events
    assert counters["received"] == 3
    assert counters["flows_eof"] == 1
    check_counters(counters)


def test_broken_gz(tmp_path: Path) -> None:
    """A compressed file that breaks off: what could be read is delivered, then SourceError."""
    packed = gzip.compress(DEMO.read_bytes())
    path = tmp_path / "broken.pcap.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with monitor(path) as m:
        mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        with pytest.raises(mos.SourceError, match=r"broken\.pcap\.gz"):
            mos.mtcp_app_join(m)
        received = mos.mtcp_getcounters(m)["received"]
    assert 0 < received < DEMO_PACKETS


def test_source_error_in_conn_end(tmp_path: Path) -> None:
    """An exception in a CONN_END that the broken input causes does not hide the SourceError for good."""
    path = tmp_path / "cut.pcap"
    talk = p.Conversation()
    talk.handshake()
    path.write_bytes(p.pcap(talk, nanoseconds=True)[:-3])
    seen = []
    with monitor(path) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_END, mos.MOS_HK_RCV, lambda *_args: 1 / 0)
        for _ in range(2):
            with pytest.raises((ZeroDivisionError, mos.SourceError)) as caught:
                mos.mtcp_app_join(m)
            seen.append(caught.type)
        assert mos.mtcp_app_join(m) == 0
    assert seen == [ZeroDivisionError, mos.SourceError]


# ---- callbacks that raise ---------------------------------------------------------------------------


class OddError(Exception):
    """An exception of the test."""


def test_exception_comes_out() -> None:
    """The original object, with a traceback that ends in the callback's line."""
    error = OddError("from the callback")

    def deep() -> None:
        raise error

    def callback(*_args: object) -> None:
        deep()

    with pytest.raises(OddError) as caught:
        join(DEMO, callback)
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["callback", "deep"]
    assert "mtcp_app_join" in names


def test_exception_keeps_cause_and_context() -> None:
    """raise ... from ... comes out as it was raised."""

    def callback(*_args: object) -> None:
        try:
            _ = {}["inner"]
        except KeyError as inner:
            raise OddError("outer") from inner

    with pytest.raises(OddError) as caught:
        join(DEMO, callback)
    assert isinstance(caught.value.__cause__, KeyError)


def test_join_again_goes_on() -> None:
    """The loop stops with the packet of the exception; joining again goes on with the next one."""
    numbers: list[int] = []

    def callback(m: mos.Context, sock: int, side: int, _event: int) -> None:
        numbers.append(mos.mtcp_getlastpkt(m, sock, side).number)
        if len(numbers) in (1, 100, 101, 500):
            raise OddError(len(numbers))

    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, callback)
        for wanted in (1, 100, 101, 500):
            with pytest.raises(OddError, match=rf"^{wanted}$"):
                mos.mtcp_app_join(m)
            assert mos.mtcp_getcounters(m)["received"] == numbers[-1]
        mos.mtcp_app_join(m)
        assert mos.mtcp_getcounters(m)["callback_errors"] == 4
    assert numbers == sorted(set(numbers))
    assert len(numbers) == mos.mtcp_getcounters(m)["delivered_flow"]


@pytest.mark.parametrize("when", ["eof", "destroy"])
def test_exception_in_conn_end(tmp_path: Path, when: str) -> None:
    """Every CONN_END is delivered although each one raises, at end of file and in mtcp_destroy_context()."""
    talks = [p.Conversation(("192.0.2.1", 40000 + n), start_ns=p.EPOCH_NS + n) for n in range(5)]
    for talk in talks:
        talk.handshake()
    ended: list[int] = []

    def callback(m: mos.Context, sock: int, _side: int, _event: int) -> None:
        ended.append(mos.mtcp_getfigures(m, sock).flow_id)
        raise OddError(len(ended))

    with monitor(write(tmp_path / "a.pcap", merged(*talks)), burst=1) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_END, mos.MOS_HK_RCV, callback)
        if when == "eof":
            while not m.finished:
                with pytest.raises(OddError):
                    mos.mtcp_app_join(m)
        else:
            mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, lambda *args: mos.mtcp_stop(args[0]))
            for _ in range(15):
                mos.mtcp_app_join(m)
            with pytest.raises(OddError):
                mos.mtcp_destroy_context(m)
    assert ended == [flow for flow in range(1, 6) for _ in range(2)]
    check_counters(mos.mtcp_getcounters(m))
    assert mos.mtcp_getcounters(m)["flows_live"] == 0


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("on_error", ["raise", "log"])
def test_exceptions_that_stop(error: BaseException, on_error: str) -> None:
    """SystemExit and KeyboardInterrupt come out with on_error="log" too."""
    if on_error == "log" and isinstance(error, GeneratorExit):
        pytest.skip("an ordinary exception")

    def callback(*_args: object) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        join(DEMO, callback, on_error=on_error)
    assert caught.value is error


def test_on_error_log(caplog: pytest.LogCaptureFixture) -> None:
    """Logged with the traceback to "mos", counted; the loop goes on."""
    calls = 0

    def callback(*_args: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 100 == 0:
            raise OddError(calls)

    with caplog.at_level(logging.ERROR, "mos"):
        counters = join(DEMO, callback, on_error="log")
    assert calls == counters["delivered_flow"]
    assert counters["callback_errors"] == calls // 100 == len(caplog.records)
    for number, record in enumerate(caplog.records, 1):
        assert record.exc_info is not None
        assert str(record.exc_info[1]) == str(100 * number)
        assert "in callback" in caplog.text


def test_all_exceptions_of_a_packet(caplog: pytest.LogCaptureFixture) -> None:
    """Several callbacks of one packet raise: the first comes out, the others are logged, none is swallowed."""
    with monitor(DEMO) as m:
        for number in range(3):
            s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)

            def callback(*_args: object, number: int = number) -> None:
                raise OddError(number)

            mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, callback)
        with caplog.at_level(logging.ERROR, "mos"), pytest.raises(OddError, match=r"^0$"):
            mos.mtcp_app_join(m)
        assert mos.mtcp_getcounters(m)["callback_errors"] == 3
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["1", "2"]


class Callee:
    """Callable in several ways."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __call__(self, *args: object) -> None:
        """Note the arguments."""
        self.calls.append(args)

    method = __call__


@pytest.mark.parametrize("kind", ["object", "method", "partial", "class", "built-in"])
def test_unusual_callables(kind: str) -> None:
    """Whatever Python can call, and a reference to nothing else is needed."""
    callee = Callee()
    made: dict[str, Callable[..., object]] = {
        "object": callee,
        "method": callee.method,
        "partial": functools.partial(callee, "first"),
        "class": type("Made", (), {"__init__": lambda _self, *args: callee(*args)}),
        "built-in": callee.calls.append,
    }
    if kind == "built-in":  # takes one argument
        with pytest.raises(TypeError, match="one argument"):
            join(DEMO, made[kind])
        return
    counters = join(DEMO, made[kind])
    assert len(callee.calls) == counters["delivered_flow"]
    assert {len(args) for args in callee.calls} == {5 if kind == "partial" else 4}


@pytest.mark.parametrize("callback", [lambda: None, lambda *, sock: sock, int], ids=["none", "keyword", "int"])
def test_wrong_signature(callback: Callable[..., object]) -> None:
    """Python's own TypeError comes out."""
    with pytest.raises(TypeError, match="argument"):
        join(DEMO, callback)


# ---- Ctrl-C -----------------------------------------------------------------------------------------


def endless() -> Iterator[bytes]:
    """A capture without end: retransmissions of one segment."""
    talk = p.Conversation()
    talk.handshake()
    segment = talk.data("client", b"again")
    yield p.pcap(talk)
    while True:
        again = p.pcap([(talk.now_ns + n * 1000, segment.frame) for n in range(500)])[24:]
        talk.now_ns += 500_000
        yield again


def stopped(process: subprocess.Popen[bytes]) -> tuple[float, bytes, bytes]:
    """Send SIGINT; gives the time until the process has ended, and what it said."""
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    out: list[bytes] = []
    drain = threading.Thread(target=lambda: out.append(process.stdout.read() if process.stdout else b""))
    drain.start()
    process.wait(10)
    took = time.monotonic() - begin
    print(f"ended {took * 1000:.0f} ms after SIGINT")
    drain.join(10)
    assert process.stderr is not None
    return took, out[0], process.stderr.read()


def check_stop(took: float, out: bytes, code: int, err: bytes) -> dict[str, int]:
    """In time, exit code 130, a summary at the end, quiet."""
    assert code == 130, err
    assert err == b""
    summary: dict[str, int] = json.loads(out.splitlines()[-1])
    assert summary.pop("type") == "summary"
    assert took < STOP_WITHIN, f"{took:.3f} s"
    return summary


def start(*args: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
    """Start Python with unbuffered output."""
    return subprocess.Popen([sys.executable, "-u", *args], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_interrupt_endless_pipe() -> None:
    """SIGINT while packets come in without end."""
    with start(str(EXAMPLE), "--json", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feeding = threading.Thread(target=feed, args=(process.stdin,), daemon=True)
        feeding.start()
        seen = [process.stdout.readline() for _ in range(1000)]
        assert json.loads(seen[-1])["type"] == "rexmit"
        took, out, err = stopped(process)
        feeding.join(10)
    summary = check_stop(took, out, process.returncode, err)
    assert summary["rexmits"] >= 1000
    assert summary["packets"] - summary["rexmits"] in (4, 5), "one callback may have been cut short"


def feed(pipe: io.BufferedWriter) -> None:
    """Write packets until the other end is closed."""
    with suppress(OSError):
        pipe.writelines(endless())
    with suppress(OSError):
        pipe.close()


def test_interrupt_silent_pipe() -> None:
    """SIGINT while the pipe is silent after some packets."""
    with start(str(EXAMPLE), "--json", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        some = endless()
        process.stdin.write(next(some) + next(some))
        process.stdin.flush()
        first = [process.stdout.readline() for _ in range(500)]
        assert json.loads(first[-1])["type"] == "rexmit"
        time.sleep(0.2)
        took, out, err = stopped(process)
    assert check_stop(took, out, process.returncode, err) == {"packets": 504, "flows": 1, "rexmits": 500}


SLOW = """
import sys, time
sys.path.insert(0, {folder!r})
import rexmit_monitor
plain = rexmit_monitor.RexmitMonitor.on_rexmit
def slow(self, *args):
    time.sleep(0.01)
    plain(self, *args)
rexmit_monitor.RexmitMonitor.on_rexmit = slow
sys.argv[1:] = ["--json", {capture!r}]
sys.exit(rexmit_monitor.main())
"""
BUSY = SLOW.replace("time.sleep(0.01)", "end = time.monotonic() + 0.01\n    while time.monotonic() < end: pass")
NO_CALLBACKS = """
import sys, mos
print("running")
while True:
    mos.mtcp_init(source={capture!r})
    m = mos.mtcp_create_context(0)
    mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
    try:
        mos.mtcp_app_join(m)
    except KeyboardInterrupt:
        sys.exit(130)
    mos.mtcp_destroy()
"""


@pytest.mark.parametrize("script", [SLOW, BUSY], ids=["sleeping", "busy"])
def test_interrupt_capture_with_slow_callback(tmp_path: Path, script: str) -> None:
    """SIGINT on a large capture whose callback takes 10 ms: a whole burst of them must not be waited for."""
    path = tmp_path / "large.pcap"
    some = endless()
    path.write_bytes(b"".join(next(some) for _ in range(400)))
    code = script.format(folder=str(EXAMPLE.parent), capture=str(path))
    with start("-c", code) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        took, out, err = stopped(process)
    summary = check_stop(took, out, process.returncode, err)
    assert 10 <= summary["rexmits"] < 200
    assert summary["packets"] - summary["rexmits"] in (4, 5), "one callback may have been cut short"


def test_interrupt_without_callbacks(tmp_path: Path) -> None:
    """SIGINT while the core runs through a capture and nothing calls Python."""
    path, some = tmp_path / "large.pcap", endless()
    chunk = b"".join(next(some) for _ in range(100))
    path.write_bytes(chunk)
    with start("-c", NO_CALLBACKS.format(capture=str(path))) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        took, _out, _err = stopped(process)
    assert process.returncode in (130, -signal.SIGINT, 1)
    assert took < STOP_WITHIN


def test_interrupt_loses_nothing() -> None:
    """After a KeyboardInterrupt the loop can be joined again."""
    wanted = run(DEMO)
    with monitor(DEMO) as m:
        log = Log(m)

        def interrupt(_event: object, _sock: int) -> None:
            if len(log.events) in (10, 1000):
                os.kill(os.getpid(), signal.SIGINT)

        log.reaction = interrupt
        log.listen()
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                mos.mtcp_app_join(m)
        mos.mtcp_app_join(m)
    assert log.events == wanted.events


def test_signal_handlers_run() -> None:
    """Python's own handlers run while the loop runs, and stay installed."""
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))
    try:
        join(DEMO, lambda *_args: None if seen else os.kill(os.getpid(), signal.SIGUSR1))
        assert seen == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGUSR1, before)


# ---- accounts and leaks -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(DATA.glob("*.pcap")), ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options",
    [{}, {"midstream": True}, {"max_flows": 2}, {"verify_checksums": True}, {"linger": 0}, {"idle_timeout": 0.02}],
)
def test_accounts(path: Path, options: dict[str, object]) -> None:
    """received = delivered + ignored + dropped, created = live + ended, for every capture and many options."""
    counters = run(path, **options).counters
    check_counters(counters)
    assert counters["flows_live"] == 0
    assert counters["received"] == json.loads(path.with_suffix(".json").read_text())["packets"]


def test_callbacks_are_given_back() -> None:
    """References to callbacks are as many as before: after replacing, de-registering, closing, destroying."""

    def callback(*_args: object) -> None:
        pass

    def change(m: mos.Context, sock: int, _side: int, _event: int) -> None:
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, callback)
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_REXMIT, mos.MOS_HK_RCV, callback)
        mos.mtcp_register_callback(m, sock, mos.MOS_ON_PKT_IN, mos.MOS_HK_SND, None)

    before = sys.getrefcount(callback), sys.getrefcount(change)
    with monitor(DEMO) as m:
        for kind, hook in ((mos.MOS_SOCK_MONITOR_STREAM, mos.MOS_HK_SND), (mos.MOS_SOCK_MONITOR_RAW, mos.MOS_NULL)):
            s = mos.mtcp_socket(m, 0, kind)
            for _ in range(10):
                mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, hook, callback)
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, change)
        assert sys.getrefcount(callback) == before[0] + 2
        mos.mtcp_app_join(m)
        mos.mtcp_close(m, s)
    assert (sys.getrefcount(callback), sys.getrefcount(change)) == before


def test_callback_is_held() -> None:
    """The core holds its own reference: a callback that nobody else holds works, and goes with the context."""
    calls: list[int] = []

    class Counter:
        def __call__(self, *_args: object) -> None:
            calls.append(1)

    counter = Counter()
    alive = weakref.ref(counter)
    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, counter)
        del counter
        gc.collect()
        assert alive() is not None
        mos.mtcp_app_join(m)
    assert len(calls) == 16
    assert alive() is None


def test_callback_that_removes_itself() -> None:
    """The callable that runs stays alive until it returns, although it took the last reference away."""

    class Once:
        def __init__(self) -> None:
            self.word = "alive"

        def __call__(self, m: mos.Context, sock: int, _side: int, event: int) -> None:
            mos.mtcp_register_callback(m, sock, event, mos.MOS_HK_SND, None)
            mos.mtcp_register_callback(m, 1, event, mos.MOS_HK_SND, None)
            gc.collect()
            words.append(self.word)

    words: list[str] = []
    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, Once())
        mos.mtcp_app_join(m)
    assert words == ["alive"]


def test_cycle_through_a_callback() -> None:
    """A callback that refers to its context does not keep it alive once it was destroyed."""
    mos.mtcp_init(source=DEMO)
    m = mos.mtcp_create_context(0)
    s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)

    class Holder:
        def __init__(self, context: mos.Context) -> None:
            self.context = context

        def __call__(self, *_args: object) -> None:
            pass

    holder = Holder(m)
    gone = weakref.ref(holder)
    mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, holder)
    mos.mtcp_app_join(m)
    mos.mtcp_destroy()
    del m, holder
    gc.collect()
    assert gone() is None
    assert not any(objects_alive().values())


def test_exceptions_are_not_kept() -> None:
    """An exception that came out is not held by the context."""

    def callback(*_args: object) -> None:
        raise OddError

    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_CONN_START, mos.MOS_HK_SND, callback)
        try:
            mos.mtcp_app_join(m)
        except OddError as error:
            gone = weakref.ref(error)
        gc.collect()
        assert gone() is None


def test_stale_view() -> None:
    """A packet used after its callback: bytes raise StaleView, numbers stay."""
    kept: list[mos.LastPacket] = []
    stale = 0

    def callback(m: mos.Context, sock: int, side: int, _event: int) -> None:
        nonlocal stale
        for old in kept[-2:]:
            with pytest.raises(mos.StaleView, match=f"packet {old.number} "):
                _ = old.frame
            stale += 1
        kept.append(mos.mtcp_getlastpkt(m, sock, side))
        assert len(kept[-1].frame) == kept[-1].frame_len

    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, callback)
        mos.mtcp_app_join(m)
        with pytest.raises(mos.StaleView):
            _ = kept[-1].frame
    assert stale > 1000
    for old in (kept[0], kept[-1]):
        with pytest.raises(mos.StaleView):
            _ = old.frame
        assert (old.number > 0, repr(old).startswith("<LastPacket ")) == (True, True)


def test_stale_view_without_payload() -> None:
    """The payload of a packet without one goes stale too."""
    kept: list[mos.LastPacket] = []
    join(DEMO, lambda m, sock, side, _event: kept.append(mos.mtcp_getlastpkt(m, sock, side)))
    with pytest.raises(mos.StaleView):
        _ = kept[0].payload


def test_stale_view_after_stop() -> None:
    """A stopped loop leaves no packet at hand."""
    kept: list[mos.LastPacket] = []

    def callback(m: mos.Context, sock: int, side: int, _event: int) -> None:
        kept.append(mos.mtcp_getlastpkt(m, sock, side))
        raise OddError

    with monitor(DEMO) as m:
        s = mos.mtcp_socket(m, 0, mos.MOS_SOCK_MONITOR_STREAM)
        mos.mtcp_register_callback(m, s, mos.MOS_ON_PKT_IN, mos.MOS_HK_RCV, callback)
        with pytest.raises(OddError):
            mos.mtcp_app_join(m)
        with pytest.raises(mos.StaleView):
            _ = kept[0].frame


def test_stale_view_of_another_context() -> None:
    """A packet with the same number in another context is another packet."""
    kept: list[mos.LastPacket] = []

    def first(m: mos.Context, sock: int, side: int, _event: int) -> None:
        if not kept:
            kept.append(mos.mtcp_getlastpkt(m, sock, side))

    join(DEMO, first)

    def second(*_args: object) -> None:
        with pytest.raises(mos.StaleView):
            _ = kept[0].frame

    join(DEMO, second, mos.MOS_ON_CONN_START, mos.MOS_HK_SND)
