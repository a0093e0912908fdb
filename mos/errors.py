"""The exceptions of mos.

    MosError
    +-- FilterError   (OSError EINVAL, ValueError)  a filter text that does not compile
    +-- ConfigError   (ValueError)                  an option or a configuration file
    +-- SourceError   (OSError)                     the input is broken, or ended in the middle
    +-- StreamGap     (OSError ENODATA)             bytes of a stream were lost; `.missed` says how many
    +-- StaleView     (RuntimeError)                a packet used after its callback returned

Every other failure of a call is an OSError with the errno of the manual page.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from mos._ffi import ffi, lib, text


class MosError(Exception):
    """Base of the exceptions that mos makes itself."""


class FilterError(MosError, OSError, ValueError):
    """A filter text that does not compile; the sentence names the place."""


class ConfigError(MosError, ValueError):
    """An option or a configuration file that makes no sense."""


class SourceError(MosError, OSError):
    """The input is not a capture, is broken, or failed while it was read."""


class StaleView(MosError, RuntimeError):
    """A view of a packet was used after the callback it belonged to returned."""


class StreamGap(MosError, OSError):
    """Bytes before this point of the stream were lost; the next call goes on behind them.

    `missed` is their number.
    """

    def __init__(self, missed: int) -> None:
        """Make the exception for `missed` lost bytes."""
        super().__init__(errno.ENODATA, f"{missed} bytes were lost before this point of the stream")
        self.missed = missed


def failure(rc: int, pointer: Any) -> OSError:
    """Make the exception for a negative return code of the core."""
    number = -int(rc)
    return OSError(number, text(lib.mos_error_text(pointer or ffi.NULL)) or os.strerror(number))


def check(rc: int, pointer: Any) -> int:
    """Return a result of the core that is not negative; raise OSError for the others."""
    if rc < 0:
        raise failure(rc, pointer)
    return rc
