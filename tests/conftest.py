"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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
        from mos import _mos  # noqa: PLC0415 - may be missing
    except ImportError as error:
        return [f"extension: cannot be imported: {error}"]
    sanitized = " (sanitizers)" if os.environ.get("MOS_TEST_SANITIZED") else ""
    return [f"extension: {os.path.relpath(_mos.__file__, ROOT)}{sanitized}"]
