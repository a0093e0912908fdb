"""mos: programmable, stateful TCP flow monitoring for Python at DPDK speed.

The names of the mOS manual (mtcp_*, MOS_*) and the exceptions are here.  They are loaded when
first used, so that `python -m mos doctor` can speak when the compiled core cannot be loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mos._dispatch import Context as Context
    from mos.constants import *  # noqa: F403 - the constants are public by name
    from mos.errors import ConfigError as ConfigError
    from mos.errors import FilterError as FilterError
    from mos.errors import MosError as MosError
    from mos.errors import SourceError as SourceError
    from mos.errors import StaleView as StaleView
    from mos.errors import StreamGap as StreamGap
    from mos.figures import DirectionFigures as DirectionFigures
    from mos.figures import FlowFigures as FlowFigures
    from mos.mtcp import *  # noqa: F403 - the manual's names are public by name
    from mos.packet import LastPacket as LastPacket

    __version__: str


_CLASSES = {
    "Context": "_dispatch",
    "ConfigError": "errors",
    "FilterError": "errors",
    "MosError": "errors",
    "SourceError": "errors",
    "StaleView": "errors",
    "StreamGap": "errors",
    "DirectionFigures": "figures",
    "FlowFigures": "figures",
    "LastPacket": "packet",
}
_PREFIXES = ("mtcp_", "MOS_", "TCP_", "SOL_", "Monitor", "BufferInfo")
_public: dict[str, Any] = {}


def _module(name: str) -> Any:
    return importlib.import_module(f"mos.{name}")


def _load() -> dict[str, Any]:
    if _public:
        return _public
    core = _module("_ffi")
    found: dict[str, Any] = {"__version__": core.text(core.lib.mos_version())}
    for module in ("constants", "mtcp"):
        found.update({name: getattr(_module(module), name) for name in _module(module).__all__})
    found.update({name: getattr(_module(module), name) for name, module in _CLASSES.items()})
    _public.update(found)
    return found


def __getattr__(name: str) -> Any:
    """Load the public names on first use."""
    if name == "__version__" or name.startswith(_PREFIXES) or name in _CLASSES:
        globals().update(_load())
        if name in globals():
            return globals()[name]
    msg = f"module 'mos' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(_load())
