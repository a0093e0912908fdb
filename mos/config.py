"""Options: keyword arguments of mtcp_init(), or the same names in a TOML file.

Times are seconds (int or float), sizes are bytes.  The defaults live in the C core.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from typing import Any

from mos._ffi import ffi, lib
from mos.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SECONDS = {
    "idle_timeout": "idle_timeout_ns",
    "tcp_timeout": "idle_timeout_ns",
    "handshake_timeout": "handshake_timeout_ns",
    "time_wait": "time_wait_ns",
    "tcp_tw_interval": "time_wait_ns",
    "linger": "linger_ns",
    "fragment_timeout": "fragment_timeout_ns",
}
_SIZES = ("max_stream_bytes", "max_fragment_bytes", "max_flows", "max_ranges", "rmem_size", "burst", "hash_seed")
_SWITCHES = ("midstream", "verify_checksums", "history")

_MAX_SECONDS = 10**9

OPTIONS = frozenset({*_SECONDS, *_SIZES, *_SWITCHES, "on_error"})


def _seconds(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_SECONDS:
        msg = f"{name}={value!r}: give seconds, 0 or more"
        raise ConfigError(msg)
    return round(value * 1e9)


def _size(name: str, value: Any, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        msg = f"{name}={value!r}: give a whole number from 0 to {limit}"
        raise ConfigError(msg)
    return value


def _set(config: Any, name: str, value: Any) -> None:
    if name in _SECONDS:
        setattr(config, _SECONDS[name], _seconds(name, value))
    elif name in _SIZES:
        bits = 8 * ffi.sizeof(dict(ffi.typeof("struct mos_config").fields)[name].type)
        setattr(config, name, _size(name, value, 2**bits - 1))
        config.has_hash_seed |= name == "hash_seed"
    elif name in _SWITCHES:
        if not isinstance(value, bool):
            msg = f"{name}={value!r}: give True or False"
            raise ConfigError(msg)
        setattr(config, name, value)
    elif name == "on_error":
        if value not in ("raise", "log"):
            msg = f'on_error={value!r}: give "raise" or "log"'
            raise ConfigError(msg)
        config.on_error_log = value == "log"
    else:
        close = difflib.get_close_matches(name, OPTIONS, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        msg = f"unknown option {name!r}{hint}; the options are {', '.join(sorted(OPTIONS))}"
        raise ConfigError(msg)


def make(options: Mapping[str, Any]) -> Any:
    """Make a `struct mos_config` from options; raises ConfigError for what makes no sense."""
    config = ffi.new("struct mos_config *")
    lib.mos_config_defaults(config)
    for name, value in options.items():
        _set(config, name, value)
    return config


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read options from a TOML file: one key per option, at the top level; `source` may be there too."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        msg = f"config={path!r}: give the path of a TOML file"
        raise TypeError(msg)
    with open(path, "rb") as file:  # noqa: PTH123 - takes what open() takes
        try:
            found: dict[str, Any] = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{os.fsdecode(path)}: {error}"
            raise ConfigError(msg) from None
    return found
