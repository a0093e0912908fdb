"""`mos doctor`: what mos needs, what this machine has, and how to mend the difference.

Capture files need only Python and the extension module: the exit code is about them.  Live
interfaces need DPDK to start, its net_af_packet driver, and two capabilities.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mos.cli.interfaces import Interface, find_interfaces
from mos.cli.pmd import Driver, Nic, driver_libraries, drivers_for, find_drivers, find_nics, output_of

Status = Literal["pass", "warn", "fail"]

OLDEST_PYTHON = (3, 10)
CORE = "mos._ffi"
EAL_TIMEOUT_S = 60
#: DPDK's net_af_packet driver takes frames of 65,342 bytes; with link header and tags
LARGEST_MTU = 65280
#: bits of capabilities(7)
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_IPC_LOCK": 14}
NEEDED = ("CAP_NET_ADMIN", "CAP_NET_RAW")

EAL_TEST = f"""
from importlib import import_module
core = import_module("{CORE}")
err = core.ffi.new("char[]", 2048)
code = core.lib.mos_eal_start(err, 2048)
print(core.ffi.string(err).decode(errors="replace"))
raise SystemExit(code != 0)
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    status: Status
    title: str
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """Everything found; `captures` and `live` say what works."""

    captures: bool
    live: bool
    findings: list[Finding]
    drivers: list[Driver]
    nics: list[Nic]

    def as_dict(self) -> dict[str, Any]:
        """Give the report as plain objects for JSON; cards with the drivers that take them."""
        return {
            "captures": self.captures,
            "live": self.live,
            "findings": [asdict(finding) for finding in self.findings],
            "drivers": [{**asdict(driver), "pci_ids": len(driver.pci_ids)} for driver in self.drivers],
            "nics": [{**asdict(nic), "dpdk_drivers": drivers_for(nic, self.drivers)} for nic in self.nics],
        }


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Compare the interpreter with the oldest that mos supports."""
    text = f"{'.'.join(map(str, version))} ({sys.executable})"
    if version[:2] >= OLDEST_PYTHON:
        return Finding("pass", "Python", text)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding("fail", "Python", f"{text} is older than {oldest}", f"apt-get install python{oldest}")


def load_core(name: str = CORE) -> tuple[Any, Finding]:
    """Import the compiled module; None and why if it cannot be."""
    try:
        core = importlib.import_module(name)
    except (ImportError, OSError) as error:
        mend = "apt-get install build-essential dpdk-dev libpcap-dev zlib1g-dev libzstd-dev pkg-config python3-dev"
        rebuild = f"{mend} && {sys.executable} -m pip install --force-reinstall --no-cache-dir mos"
        return None, Finding("fail", "extension module", f"cannot be imported: {error}", rebuild)
    return core, Finding("pass", "extension module", f"{extension_file(name) or name} can be imported")


def extension_file(name: str = CORE) -> Path | None:
    """Find the shared library behind the core."""
    package = name.rpartition(".")[0]
    module = sys.modules.get(f"{package}._mos")
    file = getattr(module, "__file__", None)
    return Path(file) if file else None


def check_dpdk(linked: str | None, installed: str) -> Finding:
    """Compare the DPDK that runs (None: unknown) with the one that pkg-config finds ("": none)."""
    found = f"pkg-config finds {installed}" if installed else "no development package (only needed to build mos)"
    if linked is None and not installed:
        return Finding("fail", "DPDK", "not found", "apt-get install dpdk-dev pkg-config")
    if linked is None:
        return Finding("warn", "DPDK", f"the extension cannot say which it uses; {found}")
    if installed and linked != installed:
        mend = f"{sys.executable} -m pip install --force-reinstall --no-cache-dir mos"
        return Finding("warn", "DPDK", f"mos runs with {linked}, but {found}", mend)
    return Finding("pass", "DPDK", f"mos runs with {linked}; {found}")


def check_eal(source: str = EAL_TEST) -> Finding:
    """Start DPDK in a child process: it can be started only once in a process, and stays."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=EAL_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return Finding("fail", "DPDK start", f"did not end in {EAL_TIMEOUT_S} s", "look for a driver that hangs: dmesg")
    if done.returncode == 0:
        return Finding("pass", "DPDK start", "works, without hugepages and without taking any network card")
    said = (done.stdout.strip() or done.stderr.strip() or f"the process ended with {done.returncode}").splitlines()
    return Finding("fail", "DPDK start", said[-1], "apt-get install --reinstall dpdk-dev librte-meta-net")


def check_hugepages(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Tell about hugepages; mos does not need them."""
    lines = meminfo.read_text(encoding="ascii").splitlines() if meminfo.exists() else []
    total = next((int(line.split()[1]) for line in lines if line.startswith("HugePages_Total")), 0)
    return Finding("pass", "hugepages", f"{total} reserved; none are needed")


def effective_capabilities(status: Path = Path("/proc/self/status")) -> list[str]:
    """Name those of the capabilities that matter which this process has."""
    text = status.read_text(encoding="ascii")
    mask = next((int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapEff:")), 0)
    return [name for name, bit in CAPABILITIES.items() if mask >> bit & 1]


def check_capabilities(have: list[str]) -> Finding:
    """Compare with what reading an interface needs."""
    missing = [name for name in NEEDED if name not in have]
    real = Path(sys.executable).resolve()
    mend = f"run with sudo, or once: sudo setcap cap_net_raw,cap_net_admin,cap_ipc_lock+ep {real}"
    if missing:
        return Finding("warn", "capabilities", f"{' and '.join(missing)} missing: captures only, no interfaces", mend)
    if "CAP_IPC_LOCK" not in have:
        text = f"{', '.join(have)}; without CAP_IPC_LOCK the packet ring is smaller"
        return Finding("warn", "capabilities", text, f"ulimit -l unlimited, or {mend}")
    return Finding("pass", "capabilities", ", ".join(have))


def check_interface(interface: Interface) -> Finding:
    """Say whether this interface can be a source, and what will look odd."""
    title = f"interface {interface.name}"
    text = ", ".join([interface.state, f"MTU {interface.mtu}", *interface.addresses])
    if not interface.readable:
        return Finding("warn", title, f"{text}; its link type cannot be read", "use the interface below it")
    if interface.state != "up":
        return Finding("warn", title, text, f"ip link set {interface.name} up")
    if interface.mtu > LARGEST_MTU:
        text += f"; frames longer than {LARGEST_MTU} bytes are cut by DPDK's driver"
        return Finding("warn", title, text, f"ip link set {interface.name} mtu {LARGEST_MTU}")
    if interface.offloads:
        text += f"; {', '.join(interface.offloads)} on: packets appear merged, longer and fewer than on the wire"
        off = " ".join(f"{name} off" for name in interface.offloads)
        return Finding("warn", title, text, f"if packets must be as on the wire: ethtool -K {interface.name} {off}")
    return Finding("pass", title, text)


def check_drivers(drivers: list[Driver]) -> Finding:
    """Say which drivers there are; net_af_packet reads every kernel interface."""
    names = [driver.name for driver in drivers if driver.name.startswith("net_")]
    if "net_af_packet" in names:
        return Finding(
            "pass", "DPDK drivers", f"net_af_packet (any kernel interface) and {len(names) - 1} more for networks"
        )
    text = f"{len(names)} for networks, but not net_af_packet: interfaces cannot be read"
    return Finding("fail", "DPDK drivers", text, "apt-get install librte-meta-net")


def check_nic(nic: Nic, drivers: list[Driver]) -> Finding:
    """Say which DPDK driver would take a network card."""
    title = f"network card {nic.address}"
    ids = f"{nic.ids[0]:04x}:{nic.ids[1]:04x}, kernel driver {nic.kernel_driver or 'none'}"
    fitting = drivers_for(nic, drivers)
    if fitting:
        return Finding("pass", title, f"{ids}; DPDK driver {', '.join(fitting)}")
    return Finding("pass", title, f"{ids}; no DPDK driver of its own, its interface is read through net_af_packet")


def examine() -> Report:
    """Run every check."""
    core, extension = load_core()
    linked = core.ffi.string(core.lib.mos_dpdk_version()).decode() if core is not None else None
    drivers = find_drivers(driver_libraries(extension_file()))
    nics = find_nics()
    needed = [check_python(), extension]
    live = [
        check_dpdk(linked, output_of("pkg-config", "--modversion", "libdpdk")),
        check_eal() if core is not None else Finding("fail", "DPDK start", "not tried without the extension module"),
        check_drivers(drivers),
        check_capabilities(effective_capabilities()),
    ]
    told = [check_hugepages(), *map(check_interface, find_interfaces()), *(check_nic(nic, drivers) for nic in nics)]
    captures = all(finding.status != "fail" for finding in needed)
    can_open = set(NEEDED) <= set(effective_capabilities())
    works = captures and can_open and all(finding.status != "fail" for finding in live)
    return Report(captures, works, [*needed, *live, *told], drivers, nics)


def print_text(report: Report, say: Callable[[str], object] = print) -> None:
    """Print one line per finding, and the remedy below it."""
    for finding in report.findings:
        say(f"{finding.status:4}  {finding.title}: {finding.text}")
        if finding.mend and finding.status != "pass":
            say(f"      mend: {finding.mend}")
    say("")
    say(f"capture files can be read: {'yes' if report.captures else 'no'}")
    say(f"interfaces can be read:    {'yes' if report.live else 'no'}")


def run(argv: list[str]) -> int:
    """Run the subcommand; 0 when capture files can be read, else 1."""
    parser = argparse.ArgumentParser(prog="mos doctor", description="Say what mos needs here and how to mend it.")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    options = parser.parse_args(argv)
    report = examine()
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print_text(report)
    return 0 if report.captures else 1
