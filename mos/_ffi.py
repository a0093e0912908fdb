"""The only import of the compiled module; what goes wrong here becomes advice."""

from __future__ import annotations

import importlib
from typing import Any

try:
    _mos: Any = importlib.import_module("mos._mos")
except ImportError as error:
    message = (
        f"the compiled core of mos cannot be loaded: {error}\n"
        "  From a source tree: make build.  For what is missing and how to mend it: python -m mos doctor"
    )
    raise ImportError(message) from error

ffi: Any = _mos.ffi
lib: Any = _mos.lib


def text(pointer: Any) -> str:
    """Turn a C string of the core into a str."""
    return ffi.string(pointer).decode("utf-8", "replace") if pointer else ""
