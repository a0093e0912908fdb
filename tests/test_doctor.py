"""`mos doctor`: findings from fake machines, and from this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mos.cli import doctor, pmd
from mos.cli.interfaces import Interface, find_interfaces

IXGBE = pmd.Driver("net_ixgbe", "", "* vfio-pci", ((0x8086, 0x10FB, 0xFFFF, 0xFFFF),), "librte_net_ixgbe.so")
PICKY = pmd.Driver("net_picky", "", "", ((0x8086, 0x10FB, 0x8086, 0x0003),), "librte_net_picky.so")


def make_nic(sys: Path, address: str, ids: tuple[int, int, int, int], pci_class: int = 0x020000) -> None:
    """Make a device in a fake /sys."""
    device = sys / "bus/pci/devices" / address
    device.mkdir(parents=True)
    for name, value in zip(("vendor", "device", "subsystem_vendor", "subsystem_device"), ids, strict=True):
        (device / name).write_text(f"0x{value:04x}\n")
    (device / "class").write_text(f"0x{pci_class:06x}\n")
    driver = sys / "bus/pci/drivers/kernel-ixgbe"
    driver.mkdir(parents=True, exist_ok=True)
    (device / "driver").symlink_to(driver)


def test_drivers_of_this_dpdk_include_af_packet() -> None:
    """The driver that reads interfaces is in the driver folder, with its parameters."""
    found = {driver.name: driver for driver in pmd.find_drivers(pmd.driver_libraries(None))}
    assert "iface=<string>" in found["net_af_packet"].parameters
    assert found["net_af_packet"].pci_ids == ()
    assert any(driver.pci_ids for driver in found.values())


def test_records_are_found_in_binary_data() -> None:
    """Several records in one library; a damaged one is passed over."""
    data = (
        b"\0\1PMD_INFO_STRING= "
        b'{"name": "net_a", "params": "x=<int>", "kmod": "* vfio-pci", "pci_ids": [[1, 2, 65535, 65535]]}\0'
        b'junk PMD_INFO_STRING= {"name": broken}\0PMD_INFO_STRING= {"name": "net_b", "pci_ids": []}\0'
    )
    a, b = pmd.parse_records(data, "lib.so")
    assert a == pmd.Driver("net_a", "x=<int>", "* vfio-pci", ((1, 2, 65535, 65535),), "lib.so")
    assert (b.name, b.parameters) == ("net_b", "")


def test_files_that_are_no_libraries_hold_no_drivers(tmp_path: Path) -> None:
    """A linker script or an empty file in the folder does no harm."""
    (tmp_path / "librte_empty.so").touch()
    (tmp_path / "librte_text.so").write_text("INPUT(librte_x.so.23)")
    assert pmd.find_drivers([*tmp_path.iterdir(), tmp_path / "missing.so"]) == []


def test_cards_match_drivers_by_their_ids(tmp_path: Path) -> None:
    """0xffff in a driver's id fits everything; other device classes are not cards."""
    make_nic(tmp_path, "0000:01:00.0", (0x8086, 0x10FB, 0x8086, 0x0003))
    make_nic(tmp_path, "0000:01:00.1", (0x8086, 0x10FB, 0x15D9, 0x0003))
    make_nic(tmp_path, "0000:02:00.0", (0x1234, 0x5678, 0, 0))
    make_nic(tmp_path, "0000:03:00.0", (0x8086, 0x10FB, 0, 0), pci_class=0x018000)
    nics = pmd.find_nics(tmp_path)
    assert [nic.address for nic in nics] == ["0000:01:00.0", "0000:01:00.1", "0000:02:00.0"]
    assert [pmd.drivers_for(nic, [IXGBE, PICKY]) for nic in nics] == [["net_ixgbe", "net_picky"], ["net_ixgbe"], []]
    assert nics[0].kernel_driver == "kernel-ixgbe"
    text = doctor.check_nic(nics[0], [IXGBE]).text
    assert "8086:10fb" in text
    assert "net_ixgbe" in text


def test_a_machine_without_pci_has_no_cards(tmp_path: Path) -> None:
    """Containers may have no such folder."""
    assert pmd.find_nics(tmp_path) == []


def test_json_output_parses(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole command, on this machine."""
    code = doctor.run(["--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["captures"] else 1)
    assert {finding["status"] for finding in report["findings"]} <= {"pass", "warn", "fail"}
    assert "net_af_packet" in {driver["name"] for driver in report["drivers"]}
    assert any(finding["title"] == "interface lo" for finding in report["findings"])


def test_text_output_gives_remedies(capsys: pytest.CaptureFixture[str]) -> None:
    """Each remedy stands below its finding; what passes has none."""
    findings = [
        doctor.Finding("pass", "a", "fine", "unused"),
        doctor.Finding("fail", "b", "broken", "apt-get install b"),
    ]
    doctor.print_text(doctor.Report(captures=True, live=False, findings=findings, drivers=[], nics=[]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["pass  a: fine", "fail  b: broken", "      mend: apt-get install b"]
    assert lines[-2:] == ["capture files can be read: yes", "interfaces can be read:    no"]


def test_a_missing_extension_is_a_finding() -> None:
    """No traceback, but what to install."""
    core, finding = doctor.load_core("mos._no_such_module")
    assert core is None
    assert finding.status == "fail"
    assert "apt-get install" in finding.mend


@pytest.mark.parametrize(
    ("linked", "installed", "status"),
    [
        ("22.11.11", "22.11.11", "pass"),
        ("22.11.11", "", "pass"),
        ("23.11.0", "22.11.11", "warn"),
        (None, "22.11.11", "warn"),
        (None, "", "fail"),
    ],
)
def test_dpdk_versions_are_compared(linked: str | None, installed: str, status: str) -> None:
    """What runs, and what a build would use."""
    assert doctor.check_dpdk(linked, installed).status == status


def test_the_start_of_dpdk_is_judged_by_a_child_process() -> None:
    """Its sentence becomes the finding."""
    assert doctor.check_eal("raise SystemExit(0)").status == "pass"
    finding = doctor.check_eal("print('DPDK could not start: why'); raise SystemExit(1)")
    assert (finding.status, finding.text) == ("fail", "DPDK could not start: why")
    assert "ended with -6" in doctor.check_eal("import os; os.abort()").text


def test_capabilities_are_read_and_judged(tmp_path: Path) -> None:
    """NET_RAW and NET_ADMIN are needed, IPC_LOCK allows a larger ring."""
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t0000000000003000\n")
    have = doctor.effective_capabilities(status)
    assert have == ["CAP_NET_ADMIN", "CAP_NET_RAW"]
    assert doctor.check_capabilities(have).status == "warn"
    assert doctor.check_capabilities([*have, "CAP_IPC_LOCK"]).status == "pass"
    poor = doctor.check_capabilities([])
    assert "CAP_NET_ADMIN and CAP_NET_RAW missing" in poor.text
    assert "setcap" in poor.mend


def test_an_old_python_fails() -> None:
    """With what to install."""
    assert doctor.check_python((3, 9, 2)).status == "fail"
    assert doctor.check_python((3, 13, 0)).status == "pass"


@pytest.mark.parametrize(
    ("interface", "status", "mend"),
    [
        (Interface("eth0", "up", 1500, readable=True, addresses=("192.0.2.1",), offloads=()), "pass", ""),
        (Interface("eth0", "down", 1500, readable=True, addresses=(), offloads=()), "warn", "ip link set eth0 up"),
        (Interface("lo", "up", 65536, readable=True, addresses=(), offloads=()), "warn", "ip link set lo mtu 65280"),
        (
            Interface("eth0", "up", 1500, readable=True, addresses=(), offloads=("gro",)),
            "warn",
            "ethtool -K eth0 gro off",
        ),
        (Interface("can0", "up", 16, readable=False, addresses=(), offloads=()), "warn", "below it"),
    ],
)
def test_interfaces_are_judged(interface: Interface, status: str, mend: str) -> None:
    """What cannot be read, what is cut, what is merged."""
    finding = doctor.check_interface(interface)
    assert finding.status == status
    assert mend in finding.mend


def test_interfaces_of_this_machine_include_loopback() -> None:
    """Asked from the kernel."""
    lo = next(interface for interface in find_interfaces() if interface.name == "lo")
    assert lo.readable
    assert lo.mtu > 0
    if lo.state == "up":
        assert "127.0.0.1" in lo.addresses


def test_hugepages_are_only_told(tmp_path: Path) -> None:
    """They are never missing."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 1 kB\nHugePages_Total:      12\n")
    assert doctor.check_hugepages(meminfo) == doctor.Finding("pass", "hugepages", "12 reserved; none are needed")
    assert doctor.check_hugepages(tmp_path / "missing").status == "pass"
