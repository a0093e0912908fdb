"""A source distribution holds all it takes to build, and what it builds works elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **extra: str) -> str:
    """Run a command that has to succeed and give its output."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_PRELOAD")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def sdist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    # egg_info goes elsewhere too: its list of files must come from MANIFEST.in, not from an older run.
    run(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder, "sdist", "--dist-dir", folder, cwd=root)
    (archive,) = folder.glob("mos-*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from nothing but the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    arguments = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *arguments, "--wheel-dir", folder, sdist, cwd=folder, MOS_LTO="0")
    (made,) = folder.glob("mos-*.whl")
    return made


def test_sdist_holds_sources_and_tests_and_nothing_built(sdist: Path) -> None:
    """Headers and build_ffi.py are the ones setuptools forgets."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("build_ffi.py", "csrc/mos_api.h", "csrc/mos.h", "LICENSE", "Makefile", "tests/test_build.py"):
        assert wanted in names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc")) or name.startswith((".venv", "build/"))]


def test_wheel_holds_the_package_and_no_sources(wheel: Path) -> None:
    """One stable-ABI module, the type marker, no C."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"mos/__init__.py", "mos/py.typed"} <= names
    assert [name for name in names if name.startswith("mos/_mos.") and name.endswith(".so")]
    assert not [name for name in names if name.endswith((".c", ".h")) or name.startswith(("tests", "csrc"))]


def test_wheel_from_sdist_imports(wheel: Path, tmp_path: Path) -> None:
    """The installed copy, not the one in the tree, says its version."""
    target = tmp_path / "site"
    arguments = ("--no-deps", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "install", "-q", *arguments, "--target", target, wheel, cwd=tmp_path)
    script = "import mos, mos._mos; print(mos.__version__); print(mos._mos.__file__)"
    version, path = run(sys.executable, "-c", script, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert version == wheel.name.split("-")[1]
    assert Path(path).is_relative_to(target)
