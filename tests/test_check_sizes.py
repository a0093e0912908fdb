"""tools/check_sizes.py finds every function and counts its lines as a reader would."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

C_TEXT = """\
/* not( a function ) { */
#define LOOP(x) do { \\
\tx; } while (0)
struct pair {
\tint a;
};
static const char *names[] = { "}", "{" };

static int
add(int a, int b)
{
\tif (a == '}') {
\t\treturn b;
\t}
\treturn a + b; // }
}

__attribute__((format(printf, 1, 2))) static void say(const char *text)
{
}
"""

PYTHON_TEXT = """\
class Box:
    @property
    def one(self):
        return 1

def two():
    return 2
"""


@pytest.fixture(scope="module")
def check_sizes(root: Path) -> ModuleType:
    """Load the tool, which is no package."""
    spec = importlib.util.spec_from_file_location("check_sizes", root / "tools" / "check_sizes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_c_functions_are_found_and_measured(check_sizes: ModuleType) -> None:
    """Braces in comments, strings, macros, structs and initialisers do not count."""
    assert list(check_sizes.c_functions(C_TEXT)) == [("add", 9, 8), ("say", 18, 3)]


def test_python_functions_are_found_and_measured(check_sizes: ModuleType) -> None:
    """Methods count, decorators do not."""
    assert list(check_sizes.python_functions(PYTHON_TEXT)) == [("two", 6, 2), ("one", 3, 2)]


def test_long_c_function_is_a_fault(check_sizes: ModuleType) -> None:
    """60 lines pass, 61 do not."""
    for extra, expected in ((57, []), (58, ["csrc/a.c:1: long_one has 61 lines, 60 are allowed"])):
        text = "void long_one(void)\n{\n" + "\n" * extra + "}\n"
        assert list(check_sizes.faults(Path("csrc/a.c"), text)) == expected


def test_long_file_is_a_fault_outside_tests(check_sizes: ModuleType) -> None:
    """400 lines pass, 401 do not, tests may."""
    assert not list(check_sizes.faults(Path("mos/a.py"), "\n" * 400))
    assert list(check_sizes.faults(Path("mos/a.py"), "\n" * 401))
    assert not list(check_sizes.faults(Path("tests/a.py"), "\n" * 401))
