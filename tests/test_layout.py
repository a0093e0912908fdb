"""The compiled extension agrees with what cffi read in csrc/mos_api.h, and exports one symbol."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from mos import _mos

ffi = _mos.ffi
EXTENSION = Path(_mos.__file__)


class Member(NamedTuple):
    """Where one member of a struct lies."""

    name: str
    offset: int
    size: int


class Layout(NamedTuple):
    """Size of a struct and its members in order."""

    size: int
    members: tuple[Member, ...]


def complete_structs() -> list[str]:
    """List the structs whose members the contract names."""
    _typedefs, structs, _unions = ffi.list_types()
    return [name for name in structs if is_complete(name)]


def is_complete(name: str) -> bool:
    """Say whether a struct has a size; asking an opaque one for its fields aborts in cffi 2.1.1."""
    try:
        ffi.sizeof(f"struct {name}")
    except ffi.error:
        return False
    return True


def cffi_layout(name: str) -> Layout:
    """Describe a struct as cffi believes it to be."""
    kind = ffi.typeof(f"struct {name}")
    members = (Member(field, about.offset, ffi.sizeof(about.type)) for field, about in kind.fields)
    return Layout(ffi.sizeof(kind), tuple(members))


def type_of(die: DIE) -> DIE:
    """Follow DW_AT_type through names and qualifiers."""
    die = die.get_DIE_from_attribute("DW_AT_type")
    while die.tag in ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"):
        die = die.get_DIE_from_attribute("DW_AT_type")
    return die


def size_of(die: DIE) -> int:
    """Give the size of a type; an array's is its element's times its bounds."""
    if die.tag != "DW_TAG_array_type":
        return int(die.attributes["DW_AT_byte_size"].value)
    size = size_of(type_of(die))
    for bound in die.iter_children():
        upper = bound.attributes.get("DW_AT_upper_bound")
        size *= upper.value + 1 if upper else bound.attributes["DW_AT_count"].value
    return size


def dwarf_layout(die: DIE) -> Layout:
    """Describe a struct as the compiler laid it out."""
    members = (
        Member(
            child.attributes["DW_AT_name"].value.decode(),
            int(child.attributes["DW_AT_data_member_location"].value),
            size_of(type_of(child)),
        )
        for child in die.iter_children()
        if child.tag == "DW_TAG_member"
    )
    return Layout(int(die.attributes["DW_AT_byte_size"].value), tuple(members))


def struct_dies(elf: ELFFile) -> Iterator[DIE]:
    """Give every complete, named struct of every unit (with LTO some units are partial)."""
    for unit in elf.get_dwarf_info().iter_CUs():
        for die in unit.get_top_DIE().iter_children():
            named = die.tag == "DW_TAG_structure_type" and "DW_AT_name" in die.attributes
            if named and "DW_AT_declaration" not in die.attributes:
                yield die


@cache
def compiled_layouts() -> dict[str, set[Layout]]:
    """Collect each struct's layouts over all compilation units; there should be one."""
    wanted = set(complete_structs())
    found: dict[str, set[Layout]] = {name: set() for name in wanted}
    with EXTENSION.open("rb") as file:
        for die in struct_dies(ELFFile(file)):
            name = die.attributes["DW_AT_name"].value.decode()
            if name in wanted:
                found[name].add(dwarf_layout(die))
    return found


def test_contract_has_structs() -> None:
    """An empty list would make the next test pass unseen."""
    assert "mos_config" in complete_structs()


@pytest.mark.parametrize("name", complete_structs())
def test_struct_is_laid_out_as_cffi_believes(name: str) -> None:
    """Size, and each member's name, offset and size."""
    assert compiled_layouts()[name] == {cffi_layout(name)}


def test_only_the_init_function_is_exported() -> None:
    """Nothing of the core can clash with another library in the process."""
    with EXTENSION.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        exported = [
            symbol.name
            for symbol in table.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
        ]
    assert exported == ["PyInit__mos"]
