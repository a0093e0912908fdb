"""Fail when a function or a file is too long to read in one sitting.

C functions at most 60 lines, Python functions 50, files 400; tests may be longer files.  A
function counts from its first line to its last.  C is read by matching braces, which is enough
for this project's style.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("csrc", "mos", "tests", "tools", "examples", "benchmarks")
C_FUNCTION = 60
PYTHON_FUNCTION = 50
FILE = 400
# The contract is one list of declarations, read by cffi as one text.
LONG_FILES = {Path("csrc/mos_api.h")}

# What has braces without meaning, in the order in which it can begin.
NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


class Function(NamedTuple):
    """A function, the line it begins on, and how many it has."""

    name: str
    line: int
    length: int


def without_noise(text: str) -> str:
    """Blank comments, strings and preprocessor lines, keeping every line end."""
    return NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def c_functions(text: str) -> Iterator[Function]:
    """Find the function definitions of a C file."""
    text = without_noise(text)
    depth = begin = start = 0
    name = ""
    for match in re.finditer(r"[{};]", text):
        mark, at = match.group(), match.start()
        if mark == "{":
            if depth == 0:
                name = defined_name(text[begin:at])
                start = begin + len(text[begin:at]) - len(text[begin:at].lstrip())
            depth += 1
            continue
        depth -= mark == "}"
        if depth > 0:
            continue
        if mark == "}" and name:
            yield Function(name, text.count("\n", 0, start) + 1, text.count("\n", start, at) + 1)
        name, begin = "", at + 1


def defined_name(head: str) -> str:
    """Give the name of the function whose body follows, or nothing for other braces."""
    if "=" in head or not head.rstrip().endswith(")"):
        return ""
    plain = re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", head, flags=re.DOTALL)
    found = re.search(r"(\w+)\s*\(", plain)
    return found.group(1) if found else ""


def python_functions(text: str) -> Iterator[Function]:
    """Find the functions and methods of a Python file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)


def faults(path: Path, text: str) -> Iterator[str]:
    """Give one line for everything in the file that is too long."""
    is_python = path.suffix == ".py"
    limit = PYTHON_FUNCTION if is_python else C_FUNCTION
    for function in python_functions(text) if is_python else c_functions(text):
        if function.length > limit:
            yield f"{path}:{function.line}: {function.name} has {function.length} lines, {limit} are allowed"
    lines = text.count("\n")
    if lines > FILE and path.parts[0] != "tests" and path not in LONG_FILES:
        yield f"{path}:1: the file has {lines} lines, {FILE} are allowed"


def project_files() -> Iterator[Path]:
    """List the files to check, relative to the project."""
    yield from (path.relative_to(ROOT) for path in ROOT.glob("*.py"))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".py"):
                yield path.relative_to(ROOT)


def main() -> int:
    """Print every fault; 1 if there is one."""
    found = [fault for path in project_files() for fault in faults(path, (ROOT / path).read_text(encoding="utf-8"))]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
