"""The documents say what the code does: names, defaults, links, and the code blocks in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import mos
from mos import config
from mos._ffi import ffi, lib, text

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DEMO = ROOT / "tests" / "data" / "demo.pcap"
FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def missing(words: list[str], page: str) -> list[str]:
    """The words that stand in no `code` of the page."""
    code = set(re.findall(r"`([^`\n]+)`", read(page)))
    return [word for word in words if word not in code]


# ---- names and defaults -------------------------------------------------------------------------


def names(enum: str, function: object) -> list[str]:
    """The names that the core gives to the constants of an enum."""
    count = len(ffi.typeof(f"enum {enum}").relements) - 1  # the last one is the number of the others
    return [text(function(number)) for number in range(count)]  # type: ignore[operator]


def test_every_event_is_described() -> None:
    """In the tables, and with a paragraph of its own."""
    events = [name for name in dir(mos) if name.startswith("MOS_ON_")]
    assert len(events) == 8
    assert not missing(events, "events.md")
    assert all(f"**`{event}`**" in read("events.md") for event in events)


def test_every_error_reason_is_described() -> None:
    """Name, constant and the sentence that the error itself gives."""
    found = names("mos_error_reason", lib.mos_error_name)
    constants = [f"MOS_ERR_{name.upper()}" for name in found]
    assert all(hasattr(mos, constant) for constant in constants)
    assert not missing(found + constants, "events.md")
    sentences = [text(lib.mos_error_sentence(number)) for number in range(len(found))]
    assert [sentence for sentence in sentences if f"| {sentence} |" not in read("events.md")] == []


def test_every_end_reason_is_described() -> None:
    """As mtcp_getfigures() names them."""
    assert not missing(names("mos_end_reason", lib.mos_end_reason_name), "events.md")


def test_every_segment_class_is_described() -> None:
    """As LastPacket.kind names them."""
    assert not missing(names("mos_segment_class", lib.mos_segment_class_name), "events.md")


def test_every_counter_is_described() -> None:
    """One row each, with the sentence that the core has for it."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", read("counters.md"), re.MULTILINE))
    found = names("mos_counter", lib.mos_counter_name)
    assert sorted(rows) == sorted(found)
    sentences = {name: text(lib.mos_counter_text(number)) for number, name in enumerate(found)}
    assert [name for name in found if not rows[name].startswith(sentences[name])] == []


def option_rows() -> dict[str, tuple[str, str]]:
    """(unit, default) by option, from the table."""
    found = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", read("options.md"), re.MULTILINE)
    return {name: (unit, default) for name, unit, default in found}


def test_every_option_is_described() -> None:
    """One row each, and `source`."""
    assert sorted(option_rows()) == sorted([*config.OPTIONS, "source"])


def test_defaults_are_those_of_the_core() -> None:
    """What mos_config_defaults() sets."""
    raw = ffi.new("struct mos_config *")
    lib.mos_config_defaults(raw)
    for name, (unit, default) in option_rows().items():
        if unit == "seconds":
            assert float(default) * 1e9 == getattr(raw, config._SECONDS[name]), name
        elif unit == "True / False":
            assert default == str(bool(getattr(raw, name))), name
        elif name == "on_error":
            assert default == ("log" if raw.on_error_log else '"raise"')
        elif name == "hash_seed":
            assert (default, raw.has_hash_seed) == ("random", 0)
        elif name != "source":
            assert int(default) == getattr(raw, name), name


def test_every_socket_option_is_described() -> None:
    """What mtcp_getsockopt() and mtcp_setsockopt() take."""
    assert not missing(list(ffi.typeof("enum mos_socket_option").relements), "options.md")


# ---- links --------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """Relative links lead to files that are there, and to headings that are in them."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT) or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_files_named_in_pages_exist() -> None:
    """Paths in `code` that begin with a folder of ours."""
    folders = ("csrc/", "mos/", "tests/", "docs/", "tools/", "examples/")
    found = {
        (page.name, path)
        for page in PAGES
        for path in re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8"))
        if path.startswith(folders)
    }
    assert [entry for entry in sorted(found) if not (ROOT / entry[1]).exists()] == []


# ---- code blocks --------------------------------------------------------------------------------


class Block(NamedTuple):
    """A Python block of a page, and the output shown below it, if any."""

    page: str
    line: int
    source: str
    output: str | None


def blocks() -> list[Block]:
    """All Python blocks; the output is the next block when that is marked `output`."""
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        fences = list(FENCE.finditer(content))
        for fence, after in zip(fences, [*fences[1:], None], strict=False):
            if fence[1] == "python":
                shown = after[2] if after is not None and after[1] == "output" else None
                found.append(Block(page.name, content.count("\n", 0, fence.start()) + 1, fence[2], shown))
    return found


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.page}:{block.line}")
def test_code_runs(block: Block, tmp_path: Path) -> None:
    """In a folder of its own, with demo.pcap in it; the output is the one shown."""
    shutil.copy(DEMO, tmp_path / "demo.pcap")
    package = str(Path(mos.__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", block.source],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if block.output is not None:
        assert done.stdout == block.output


def test_the_readme_shows_a_short_script() -> None:
    """Twelve lines of code, and what they print."""
    first = next(block for block in blocks() if block.page == "README.md")
    assert len([line for line in first.source.splitlines() if line.strip()]) == 12
    assert first.output


# ---- made pages ---------------------------------------------------------------------------------


def test_the_state_table_is_fresh() -> None:
    """docs/tcp-states.md is what tools/make_state_table.py makes."""
    tool = ROOT / "tools" / "make_state_table.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_state_table_is_the_compiled_one() -> None:
    """Its columns are the states in the order of the core."""
    header = next(line for line in read("tcp-states.md").splitlines() if line.startswith("| input | CLOSED"))
    assert header.strip("| ").split(" | ")[1:] == names("mos_tcp_state", lib.mos_tcp_state_name)
