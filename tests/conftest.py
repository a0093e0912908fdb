"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # for support.py and packets.py; the importlib mode of pytest leaves it out


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Nothing of the core is alive after a test: contexts, flows, pages, ranges, tables, buffers."""
    before = alive()
    yield
    if alive() != before:
        gc.collect()  # contexts that were only forgotten
    after = {name: count for name, count in alive().items() if count > before.get(name, 0)}
    assert not after, f"still alive after this test: {after}"


def alive() -> dict[str, int]:
    """Objects of the core, by kind; nothing when it is not loaded."""
    if "mos._mos" not in sys.modules:
        return {}
    from support import objects_alive

    return {name: count for name, count in objects_alive().items() if count}


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the captures."""
    return ROOT / "tests" / "data"


def pytest_report_header() -> list[str]:
    """Say which extension is under test; the C unit programs run without one."""
    try:
        from mos import _mos
    except ImportError as error:
        return [f"extension: cannot be imported: {error}"]
    sanitized = " (sanitizers)" if os.environ.get("MOS_TEST_SANITIZED") else ""
    return [f"extension: {os.path.relpath(_mos.__file__, ROOT)}{sanitized}"]
