"""Build description of the extension module mos._mos (cffi, API mode).

setuptools runs this file through setup.py and takes the global `ffibuilder`.  The declarations
are csrc/mos_api.h as it is; the sources are every C file below csrc.

Environment:
  MOS_WERROR=1           warnings are errors (the Makefile sets it)
  MOS_LTO=0              no link-time optimisation
  MOS_SANITIZE=a,b       build with gcc's -fsanitize=a,b (and without link-time optimisation)
  MOS_BUILD_CACHE=dir    keep objects in dir, compile only what changed, in parallel
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
SOURCE_DIR = Path("csrc")

# pkg-config name, oldest version that works, Debian package that brings it.
PACKAGES = (
    ("libdpdk", "22.11", "dpdk-dev"),
    ("libpcap", "1.10", "libpcap-dev"),
    ("zlib", "1.2", "zlib1g-dev"),
    ("libzstd", "1.4", "libzstd-dev"),
    ("libcrypto", "3.0", "libssl-dev"),
)

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes"]


def fail(text: str) -> None:
    """End the build with a sentence instead of a traceback."""
    sys.exit(f"\nmos cannot be built: {text}\n")


def pkg_config(*args: str) -> list[str]:
    """Run pkg-config and split its answer as a shell would."""
    done = subprocess.run(["pkg-config", *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fail(f"`pkg-config {shlex.join(args)}` failed: {done.stderr.strip()}")
    return shlex.split(done.stdout)


def check_packages() -> None:
    """Name every library that is missing or too old, and the package to install."""
    if shutil.which("pkg-config") is None:
        fail("pkg-config is not installed. On Debian or Ubuntu: apt-get install pkg-config")
    faults: list[str] = []
    missing: list[str] = []
    for name, oldest, package in PACKAGES:
        known = subprocess.run(["pkg-config", "--modversion", name], capture_output=True, text=True, check=False)
        if known.returncode != 0:
            faults.append(f"{name} is not installed")
            missing.append(package)
        elif subprocess.run(["pkg-config", f"--atleast-version={oldest}", name], check=False).returncode != 0:
            faults.append(f"{name} is version {known.stdout.strip()}, and {oldest} is the oldest that works")
    if missing:
        faults.append(f"on Debian or Ubuntu: apt-get install {' '.join(missing)}")
    if faults:
        fail("; ".join(faults))


def version() -> str:
    """Read the one place where the version is written."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        fail('pyproject.toml has no line `version = "..."`')
        raise AssertionError
    return found.group(1)


def lto_flags() -> list[str]:
    """Give the link-time optimisation flags if the compiler and its linker can do it."""
    if os.environ.get("MOS_LTO") == "0" or sanitizers():
        return []
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = ["-flto=auto"]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("int probe(void);\nint probe(void) { return 0; }\n", encoding="utf-8")
        command = [*compiler, *flags, "-O2", "-fPIC", "-shared", "-o", str(Path(folder, "probe.so")), str(source)]
        works = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return flags if works else []


def sanitizers() -> list[str]:
    """Give the sanitizer flags asked for with MOS_SANITIZE."""
    names = os.environ.get("MOS_SANITIZE", "")
    if not names:
        return []
    return [f"-fsanitize={names}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def compile_flags(lto: list[str]) -> list[str]:
    """Collect the compiler flags; they stand after Python's own, so they win."""
    flags = ["-std=gnu11", "-O2", "-g", "-fvisibility=hidden", *WARNINGS]
    if os.environ.get("MOS_WERROR") == "1":
        flags.append("-Werror")
    names = [name for name, _, _ in PACKAGES]
    return [*flags, *lto, *sanitizers(), *pkg_config("--cflags", *names)]


def link_flags(lto: list[str]) -> list[str]:
    """Collect the linker flags as one ordered list.

    setuptools puts `libraries=` before these, where --as-needed would come too late; and a
    static DPDK would need its --whole-archive bracket kept in order.
    """
    names = [name for name, _, _ in PACKAGES]
    optimise = [*lto, "-O2", "-g"] if lto else []
    return [*optimise, *sanitizers(), "-Wl,--as-needed", *pkg_config("--libs", *names)]


def macros() -> list[tuple[str, str | None]]:
    """Define the version, and the limited API unless this Python is free-threaded."""
    defined: list[tuple[str, str | None]] = [("MOS_VERSION", f'"{version()}"')]
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        defined.append(("Py_LIMITED_API", "0x030A0000"))
    return defined


def files(*patterns: str) -> list[str]:
    """List files below csrc, relative to the project as setuptools wants them, sorted."""
    found = (path for pattern in patterns for path in (ROOT / SOURCE_DIR).rglob(pattern))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def make_builder() -> FFI:
    """Describe the extension module to cffi."""
    check_packages()
    if cache := os.environ.get("MOS_BUILD_CACHE"):
        sys.path.insert(0, str(ROOT / "tools"))
        import incremental_cc

        incremental_cc.install(Path(cache).resolve())
    lto = lto_flags()
    builder = FFI()
    builder.cdef((ROOT / SOURCE_DIR / "mos_api.h").read_text(encoding="utf-8"))
    builder.set_source(
        "mos._mos",
        '#include "mos.h"\n',
        sources=files("*.c"),
        depends=[*files("*.h"), "build_ffi.py", "pyproject.toml"],
        include_dirs=[str(SOURCE_DIR)],
        define_macros=macros(),
        extra_compile_args=compile_flags(lto),
        extra_link_args=link_flags(lto),
    )
    return builder


ffibuilder = make_builder()
