"""The constants in Python are those of the C header, and the manual's values."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import mos
from mos._ffi import ffi, lib

# Enums that are the core's own business.
INTERNAL = ("mos_counter", "mos_run_result", "mos_filter_kind")
# The size of an enum, for loops in C.
SIZES = ("MOS_TCP_STATES", "MOS_OVERLAP_POLICIES", "MOS_END_REASONS", "MOS_SEG_CLASSES", "MOS_ERR_REASONS")
# Values that programs written for the C original know.
MANUAL = {
    "MOS_ON_PKT_IN": 0x1,
    "MOS_ON_CONN_START": 0x4,
    "MOS_ON_CONN_NEW_DATA": 0x10,
    "MOS_ON_ERROR": 0x20,
    "MOS_ON_TCP_STATE_CHANGE": 0x80,
    "MOS_ON_ORPHAN": 0x100,
    "MOS_ON_REXMIT": 0x200,
    "MOS_ON_CONN_END": 0x400,
    "MOS_NULL": 1 << 29,
    "MOS_HK_RCV": 1 << 30,
    "MOS_HK_SND": 1 << 31,
    "MOS_SIDE_CLI": 0,
    "MOS_SIDE_SVR": 1,
    "MOS_SIDE_BOTH": 2,
    "MOS_SOCK_MONITOR_STREAM": 3,
    "MOS_SOCK_MONITOR_RAW": 7,
    "TCP_CLOSED": 0,
    "TCP_ESTABLISHED": 4,
    "TCP_TIME_WAIT": 10,
}


def header(root: Path) -> dict[str, list[str]]:
    """Constants of every enum in the header, by enum."""
    text = re.sub(r"/\*.*?\*/", "", (root / "csrc" / "mos_api.h").read_text(encoding="utf-8"), flags=re.DOTALL)
    bodies = re.findall(r"enum (\w+) \{(.*?)\}", text, re.DOTALL)
    return {name: re.findall(r"\b([A-Z]\w+)\b", body) for name, body in bodies}


def public(root: Path) -> list[str]:
    """Constants that a program may need."""
    names = [name for enum, names in header(root).items() if enum not in INTERNAL for name in names]
    return [name for name in names if name not in SIZES]


def spellings(name: str) -> tuple[str, ...]:
    """The states have two names in Python: the manual's (without prefix) and the header's."""
    return (name, name.removeprefix("MOS_")) if re.match(r"MOS_TCP_(?!STATE_)", name) else (name,)


def test_every_constant_is_public(root: Path) -> None:
    """Every public enum's constant exists with the value of the core."""
    names = public(root)
    assert len(names) > 60
    missing = [spelling for name in names for spelling in spellings(name) if not hasattr(mos, spelling)]
    assert not missing
    for name in names:
        assert {getattr(mos, spelling) for spelling in spellings(name)} == {getattr(lib, name)}, name


def test_no_constant_is_only_in_python(root: Path) -> None:
    """And the other way round."""
    known = {spelling for name in public(root) for spelling in spellings(name)}
    there = {name for name in dir(mos) if re.match(r"(MOS|SOL|TCP)_[A-Z]", name)}
    assert there == known


def test_library_has_nothing_else(root: Path) -> None:
    """The header lists every MOS_ and SOL_ constant that the library has."""
    listed = {name for names in header(root).values() for name in names}
    there = {name for name in dir(lib) if re.match(r"(MOS|SOL)_[A-Z]", name)}
    assert there == listed


@pytest.mark.parametrize("name", MANUAL)
def test_values_of_the_manual(name: str) -> None:
    """Numbers that the C original fixed."""
    assert getattr(mos, name) == MANUAL[name]


def test_events_and_hooks_are_single_bits() -> None:
    """No event or hook is part of another."""
    events = [getattr(mos, name) for name in dir(mos) if name.startswith("MOS_ON_")]
    for values in (events, [mos.MOS_NULL, mos.MOS_HK_SND, mos.MOS_HK_RCV]):
        assert all(value and value & (value - 1) == 0 for value in values)
        assert len(set(values)) == len(values)


def test_direction_figures() -> None:
    """The dataclass has the fields of the C struct, in its order."""
    fields = [name for name, _ in ffi.typeof("struct mos_direction_figures").fields]
    assert [field.name for field in dataclasses.fields(mos.DirectionFigures)] == fields


def test_flow_figures() -> None:
    """The same for a flow; directions have names."""
    fields = {name for name, _ in ffi.typeof("struct mos_flow_figures").fields}
    python = {field.name for field in dataclasses.fields(mos.FlowFigures)}
    assert fields - {"dir"} == python - {"c2s", "s2c"}


def test_packet_fields() -> None:
    """LastPacket gives every field of the C struct (an attribute test without a packet)."""
    fields = [name for name, _ in ffi.typeof("struct mos_packet").fields]
    assert {"frame", "time_ns", "number", "offset", "seq", "ack", "window", "payload_len"} <= set(fields)


@pytest.mark.parametrize(
    ("function", "prefix"),
    [
        ("mos_error_name", "MOS_ERR_"),
        ("mos_segment_class_name", "MOS_SEG_"),
        ("mos_end_reason_name", "MOS_END_"),
        ("mos_tcp_state_name", "MOS_TCP_"),
        ("mos_counter_name", "MOS_CNT_"),
    ],
)
def test_names(root: Path, function: str, prefix: str) -> None:
    """The core's names are the constants' own, without prefix; a number out of range is no crash."""
    name_of = getattr(lib, function)
    for names in header(root).values():
        for name in names:
            if name.startswith(prefix) and name not in SIZES and "STATE_" not in name and name != "MOS_CNT_COUNTERS":
                said = ffi.string(name_of(getattr(lib, name))).decode()
                assert said.upper() == name.removeprefix(prefix)
    for number in (-1, 1000, 2**31 - 1, -(2**31)):
        assert isinstance(ffi.string(name_of(number)), bytes)
