"""The context object and its loop: short slices of C, signals and exceptions in between.

The core runs callbacks itself (csrc/python/dispatch.c).  What a callback raises is parked in a
list and comes out of the call that runs the loop, with its traceback.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mos._ffi import ffi, lib, text
from mos.errors import ConfigError, SourceError, check

_SLICE_NS = 20_000_000
_ERROR_TEXT = 512
_log = logging.getLogger("mos")


class Context:
    """One monitor loop with its flow table, sockets and input; made by mtcp_create_context().

    Belongs to the thread that made it: calls from another thread raise OSError(EPERM).
    """

    def __init__(self, config: Any, core: int = 0) -> None:
        """Make the context; `config` is a `struct mos_config`."""
        self.core = core
        self.parked: list[BaseException] = []
        self.finished = False
        err = ffi.new("char[]", _ERROR_TEXT)
        self.pointer: Any = lib.mos_context_create(
            config, ffi.cast("void *", id(self)), ffi.cast("void *", id(self.parked)), err, _ERROR_TEXT
        )
        self.last_counters: dict[str, int] = {}
        if not self.pointer:
            raise ConfigError(text(err))

    def __repr__(self) -> str:
        """Say which core, and whether it is still usable."""
        return f"<mos.Context core={self.core} {'open' if self.pointer else 'destroyed'}>"

    def __del__(self) -> None:
        """Give the memory back without events when the context was forgotten."""
        pointer, self.pointer = getattr(self, "pointer", None), ffi.NULL
        if pointer:
            lib.mos_context_destroy(pointer)

    def open_source(self, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        """Open captures (one path or several, "-" is standard input) or a network interface."""
        several = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        names = [os.fsencode(path) for path in several]
        if any(b"\0" in name for name in names):
            msg = f"source={source!r}: a name holds a NUL character"
            raise ConfigError(msg)
        if not names:
            msg = "source is an empty list: name a capture file or an interface"
            raise ConfigError(msg)
        if len(names) == 1 and not Path(os.fsdecode(names[0])).exists() and lib.mos_is_interface(names[0]):
            rc = lib.mos_source_interface(self.pointer, names[0])
        else:
            buffers = [ffi.new("char[]", name) for name in names]
            rc = lib.mos_source_files(self.pointer, ffi.new("char *[]", buffers), len(buffers))
        if rc < 0:
            sentence = text(lib.mos_error_text(self.pointer))
            if rc == -errno.ENOENT and len(names) == 1:
                sentence += "; there is no network interface of that name either"
            raise _source_failure(rc, sentence)

    def run(self, each_slice: Callable[[], object] | None = None) -> None:
        """Run to the end of the input; raise what a callback raised.

        `each_slice` is called every 20 ms or so, between slices of the loop.
        """
        check(lib.mos_check(self.pointer, 1), self.pointer)
        self._each_slice = each_slice
        while not self.finished:
            rc = lib.mos_run(self.pointer, _SLICE_NS)
            self._raise_parked()
            if each_slice is not None:
                each_slice()
            if rc == lib.MOS_RUN_ERROR:
                self._broken = SourceError(errno.EIO, text(lib.mos_error_text(self.pointer)))
            if rc == lib.MOS_RUN_STOPPED:
                return
            if rc in (lib.MOS_RUN_END, lib.MOS_RUN_ERROR):
                self.finish(lib.MOS_END_EOF)
        if self._broken is not None:
            error, self._broken = self._broken, None
            raise error

    def rows_on(self, *, as_json: bool = True, hashes: bool = False) -> None:
        """Have one row rendered per flow, as it leaves the table; before the loop runs.

        JSON lines as docs/flows.md describes them, or lines of text for people.  `hashes` adds the
        SHA-256 of each direction's delivered stream; every stream is then reassembled.
        """
        check(lib.mos_rows_enable(self.pointer, as_json, hashes), self.pointer)

    def rows(self) -> bytes:
        """Take the rows rendered since the last call."""
        if not self.pointer:
            return b""
        length = ffi.new("size_t *")
        start = lib.mos_rows(self.pointer, length)
        return bytes(ffi.buffer(start, length[0]))

    def progress(self) -> tuple[int, int]:
        """Give the bytes of input consumed, and the total (0 = unknown)."""
        return lib.mos_source_position(self.pointer), lib.mos_source_size(self.pointer)

    def finish(self, reason: int) -> None:
        """End the flows that are left, with their CONN_END callbacks."""
        check(lib.mos_check(self.pointer, 1), self.pointer)
        while not self.finished:
            self.finished = lib.mos_finish(self.pointer, reason) == lib.MOS_RUN_END
            self._raise_parked()
            if self._each_slice is not None:
                self._each_slice()

    def _raise_parked(self) -> None:
        if not self.parked:
            return
        first, *others = self.parked
        stops = next((e for e in self.parked if isinstance(e, (KeyboardInterrupt, SystemExit))), None)
        logged = self.log_only and stops is None
        self.parked.clear()
        for error in [first, *others] if logged else others:
            if error is not stops:
                _log.error("callback raised", exc_info=error)
        if not logged:
            raise stops or first

    log_only = False
    _broken: SourceError | None = None
    _each_slice: Callable[[], object] | None = None

    def counters(self) -> dict[str, int]:
        """Give every counter by name; after the context was destroyed, as they were then."""
        if not self.pointer:
            return dict(self.last_counters)
        return {text(lib.mos_counter_name(i)): lib.mos_counter(self.pointer, i) for i in range(lib.MOS_CNT_COUNTERS)}

    def _finish_all(self) -> None:
        """Run every CONN_END that is left, also when some raise; then raise the first exception."""
        first: BaseException | None = None
        while not self.finished:
            try:
                self.finish(lib.MOS_END_SHUTDOWN)
            except BaseException as error:  # noqa: BLE001, PERF203 - raised again below
                if first is not None:
                    _log.error("callback raised", exc_info=error)
                first = first or error
        if first is not None:
            raise first

    def destroy(self) -> None:
        """End what runs (callbacks included), and free everything."""
        check(lib.mos_check(self.pointer, 1), self.pointer)
        try:
            self._finish_all()
        finally:
            self.last_counters = self.counters()
            notice = text(lib.mos_source_notice(self.pointer))
            if notice:
                _log.warning("%s", notice)
            pointer, self.pointer = self.pointer, ffi.NULL
            lib.mos_context_destroy(pointer)


def _source_failure(rc: int, sentence: str) -> OSError:
    """ENOENT and the like are Python's own subclasses; what is not a capture is a SourceError."""
    if -rc in (errno.EINVAL, errno.EIO):
        return SourceError(-rc, sentence)
    return OSError(-rc, sentence)
