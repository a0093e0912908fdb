"""Which drivers this DPDK has, and which network cards of this machine they know.

DPDK leaves a record in each driver's shared library: "PMD_INFO_STRING= " and a line of JSON with
the driver's name, its parameters and the PCI ids it takes.  A library's read-only data is
searched for them; nothing is loaded or run.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

ANY_ID = 0xFFFF
NETWORK_CLASS = 0x02
RECORD = re.compile(rb"PMD_INFO_STRING= (\{[^\0]*\})\0")

#: vendor, device, subsystem vendor, subsystem device
PciId = tuple[int, int, int, int]


@dataclass(frozen=True)
class Driver:
    """One record of a driver library."""

    name: str
    parameters: str
    kernel_modules: str
    pci_ids: tuple[PciId, ...]
    library: str

    def takes(self, nic: PciId) -> bool:
        """Say whether one of the driver's ids fits; 0xffff fits everything."""
        return any(all(want in (ANY_ID, have) for want, have in zip(ids, nic, strict=True)) for ids in self.pci_ids)


@dataclass(frozen=True)
class Nic:
    """A PCI network card."""

    address: str
    ids: PciId
    kernel_driver: str


def output_of(*command: str) -> str:
    """Give what a command prints, "" if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def library_folders() -> list[Path]:
    """Find where DPDK's libraries are: as pkg-config says, else as the dynamic linker knows."""
    said = output_of("pkg-config", "--variable=libdir", "libdpdk")
    known = re.findall(r"librte_eal\.so\S* .*=> (/\S+)", output_of("/sbin/ldconfig", "-p"))
    folders = [Path(said)] if said else []
    return list(dict.fromkeys(folders + [Path(path).parent for path in known]))


def driver_folders() -> list[Path]:
    """Find the folders from which DPDK loads every driver when it starts."""
    return [folder for library in library_folders() for folder in sorted(library.glob("dpdk/pmds-*"))]


def read_only_data(library: Path) -> bytes:
    """Read the section .rodata of a shared library; empty if there is none."""
    try:
        with library.open("rb") as file:
            section = ELFFile(file).get_section_by_name(".rodata")
            return bytes(section.data()) if section is not None else b""
    except (OSError, ELFError):
        return b""


def parse_record(text: bytes, library: str) -> Driver | None:
    """Read the JSON of one record; None if it is damaged."""
    try:
        record = json.loads(text)
        ids = tuple((int(v), int(d), int(sv), int(sd)) for v, d, sv, sd in record.get("pci_ids", []))
        return Driver(record["name"], record.get("params", ""), record.get("kmod", ""), ids, library)
    except (ValueError, KeyError, TypeError):
        return None


def parse_records(data: bytes, library: str) -> Iterator[Driver]:
    """Find the driver records in a library's data; a damaged one is passed over."""
    records = (parse_record(text, library) for text in RECORD.findall(data))
    return (driver for driver in records if driver is not None)


def find_drivers(libraries: Iterable[Path]) -> list[Driver]:
    """Collect the drivers in these libraries, each file once, by name."""
    files = {library.resolve(): library for library in libraries}
    found = {driver.name: driver for file in sorted(files) for driver in parse_records(read_only_data(file), file.name)}
    return [found[name] for name in sorted(found)]


def driver_libraries(extension: Path | None) -> list[Path]:
    """List the files that may hold drivers: the plug-ins, and the extension if DPDK is inside it."""
    plugins = [path for folder in driver_folders() for path in folder.glob("librte_*.so*")]
    return plugins + ([extension] if extension is not None else [])


def read_number(path: Path) -> int:
    """Read a hexadecimal number of sysfs; 0 if it is not there."""
    try:
        return int(path.read_text(encoding="ascii"), 16)
    except (OSError, ValueError):
        return 0


def find_nics(sys: Path = Path("/sys")) -> list[Nic]:
    """List the PCI devices of the class "network"."""
    nics: list[Nic] = []
    for device in sorted(sys.glob("bus/pci/devices/*")):
        if read_number(device / "class") >> 16 != NETWORK_CLASS:
            continue
        names = ("vendor", "device", "subsystem_vendor", "subsystem_device")
        vendor, kind, subvendor, subkind = (read_number(device / name) for name in names)
        driver = device / "driver"
        kernel_driver = driver.resolve().name if driver.exists() else ""
        nics.append(Nic(device.name, (vendor, kind, subvendor, subkind), kernel_driver))
    return nics


def drivers_for(nic: Nic, drivers: Iterable[Driver]) -> list[str]:
    """Name the drivers that take this card."""
    return [driver.name for driver in drivers if driver.takes(nic.ids)]
