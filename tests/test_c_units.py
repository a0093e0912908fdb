"""Every C unit program (tests/c/test_*.c) builds without a warning and passes under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "c"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("test_*.c"))
TIMEOUT_S = 120


def plain_environment() -> dict[str, str]:
    """Drop what would steer the tools: an outer make, or a preloaded sanitizer."""
    unwanted = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "LD_PRELOAD", "ASAN_OPTIONS")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def make(*args: str) -> subprocess.CompletedProcess[str]:
    """Run tests/c/Makefile and keep what it prints."""
    command = ["make", "-s", "-C", str(FOLDER), *args]
    return subprocess.run(
        command, env=plain_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


@pytest.fixture(scope="session")
def built() -> None:
    """Build all programs in parallel; one that fails is built again, and shown, by its own test."""
    make("-k", f"-j{os.cpu_count() or 1}")


def is_driven_by_pytest(program: str) -> bool:
    """Say whether another test runs this program with arguments of its own."""
    return "\n// args-from: pytest" in "\n" + (FOLDER / f"{program}.c").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.usefixtures("built")
def test_c_unit_program_passes(program: str) -> None:
    """Build is clean; run ends with 0 within the time."""
    compiled = make(program)
    assert compiled.returncode == 0, f"{program} does not build:\n{compiled.stdout}"
    if is_driven_by_pytest(program):
        return
    binary = ROOT / "build" / "ctests" / program
    done = subprocess.run(
        [str(binary)],
        cwd=ROOT,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}:\n{done.stdout}"


def test_there_are_c_unit_programs() -> None:
    """An empty glob must not pass for success."""
    assert PROGRAMS
