"""Make setuptools compile in parallel, and only what changed.

setuptools compiles one file at a time and, when any header changed, all of them.  install()
replaces that step: an object is made again when its command line, its source or a header it
includes changed.  Used by the Makefile through MOS_BUILD_CACHE; a plain `pip install` never
comes here.
"""

from __future__ import annotations

import os
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import setuptools  # noqa: F401 - makes `distutils` below the copy that setuptools brings and uses

from distutils.ccompiler import CCompiler  # isort: skip


def dependencies(depfile: Path) -> list[Path]:
    """Read the files named in what -MMD wrote."""
    text = depfile.read_text(encoding="utf-8").replace("\\\n", " ")
    return [Path(name) for name in shlex.split(text.partition(":")[2])]


def is_fresh(target: Path, command: str) -> bool:
    """Say whether the object was made by this command from files that did not change since."""
    record, depfile = target.with_suffix(".cmd"), target.with_suffix(".d")
    if not (target.exists() and record.exists() and depfile.exists()):
        return False
    if record.read_text(encoding="utf-8") != command:
        return False
    made = target.stat().st_mtime_ns
    return all(path.exists() and path.stat().st_mtime_ns < made for path in dependencies(depfile))


def object_path(cache: Path, source: str) -> Path:
    """Place the object of a source; generated sources have absolute, changing paths."""
    path = Path(source)
    return cache / Path(path.name if path.is_absolute() or path.parts[0] == "build" else path).with_suffix(".o")


def install(cache: Path) -> None:
    """Replace setuptools' compile step for this process."""

    def compile_changed(self: Any, sources: list[str], **named: Any) -> list[str]:
        return _compile(self, cache, sources, **named)

    CCompiler.compile = compile_changed


def _compile(compiler: Any, cache: Path, sources: list[str], **named: Any) -> list[str]:
    """Compile the stale sources, as many at a time as there are processors.

    The names are those setuptools' build_ext passes to CCompiler.compile.
    """
    macros, include_dirs = named.get("macros"), named.get("include_dirs")
    setup = compiler._setup_compile(str(cache), macros, include_dirs, sources, [], named.get("extra_postargs"))
    extra, pp_opts = setup[2], setup[3]
    cc_args = compiler._get_cc_args(pp_opts, named.get("debug", False), None)

    def one(source: str) -> str:
        target = object_path(cache, source)
        command = shlex.join([*compiler.compiler_so, *cc_args, *extra])
        if not is_fresh(target, command):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.with_suffix(".cmd").unlink(missing_ok=True)
            started = time.time_ns()
            compiler._compile(str(target), source, Path(source).suffix, cc_args, [*extra, "-MMD"], pp_opts)
            os.utime(target, ns=(started, started))  # a file saved during the compilation is newer
            target.with_suffix(".cmd").write_text(command, encoding="utf-8")
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, sources))
