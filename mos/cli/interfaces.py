"""The network interfaces of this machine, asked from the kernel without running a program."""

from __future__ import annotations

import array
import contextlib
import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

SIOCGIFADDR = 0x8915
SIOCETHTOOL = 0x8946
#: ethtool commands of linux/ethtool.h whose answer is one number
OFFLOADS = {"tso": 0x1E, "gso": 0x23, "gro": 0x2B}
#: ARPHRD_* of linux/if_arp.h that csrc/io/tap.c can read
READABLE_TYPES = {1, 772, 65534, 519, 768, 769, 776}


@dataclass(frozen=True)
class Interface:
    """What matters about an interface that may be a source."""

    name: str
    state: str
    mtu: int
    readable: bool
    addresses: tuple[str, ...]
    offloads: tuple[str, ...]


def _ipv4(name: str) -> list[str]:
    """Ask for the first IPv4 address."""
    request = struct.pack("16s24x", name.encode())
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            answer = fcntl.ioctl(asker, SIOCGIFADDR, request)
    except OSError:
        return []
    return [str(ipaddress.IPv4Address(answer[20:24]))]


def _ipv6(name: str, table: Path = Path("/proc/net/if_inet6")) -> list[str]:
    """Look up the IPv6 addresses."""
    try:
        lines = [line.split() for line in table.read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    return [str(ipaddress.IPv6Address(bytes.fromhex(words[0]))) for words in lines if words[-1] == name]


def _offloads(name: str) -> list[str]:
    """Name the offloads that merge packets and are switched on."""
    on: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for offload, command in OFFLOADS.items():
            value = array.array("I", [command, 0])
            request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
            with contextlib.suppress(OSError):
                fcntl.ioctl(asker, SIOCETHTOOL, request)
            if value[1]:
                on.append(offload)
    return on


def _word(path: Path, default: str) -> str:
    """Read a file of sysfs that holds one word."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return default


def find_interfaces(sys: Path = Path("/sys")) -> list[Interface]:
    """List the interfaces of this network namespace."""
    found: list[Interface] = []
    for _, name in socket.if_nameindex():
        folder = sys / "class" / "net" / name
        flags = int(_word(folder / "flags", "0"), 16)
        found.append(
            Interface(
                name=name,
                state="up" if flags & 1 else "down",
                mtu=int(_word(folder / "mtu", "0")),
                readable=int(_word(folder / "type", "0")) in READABLE_TYPES,
                addresses=tuple(_ipv4(name) + _ipv6(name)),
                offloads=tuple(_offloads(name)),
            )
        )
    return found
