"""Two hosts on a cable: network namespaces joined by a veth pair, for tests with real traffic.

    with veth_pair() as pair:
        pair.a.run("ping", "-c1", pair.b.ipv4)
        tap = pair.b.popen("some-program", pair.b.device)

Names are unique to the process, everything is removed at the end, also after a failure, and
nothing outside the namespaces is touched.  Needs root and iproute2: `unavailable()` says what is
missing, for pytest.mark.skipif.  ARP entries are permanent and IPv6 is off unless asked for, so
the cable is silent until a test talks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

TIMEOUT_S = 60

_numbers = itertools.count()


def unavailable() -> str:
    """Say why namespaces cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if shutil.which("ip") is None:
        return "needs the ip command (Debian package iproute2)"
    name = f"mos-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"cannot make a network namespace: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return ""


def ip(*args: str) -> str:
    """Run ip(8); a failure raises with what it said."""
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode != 0:
        message = f"`ip {' '.join(args)}` failed: {done.stderr.strip()}"
        raise OSError(message)
    return done.stdout


@dataclass(frozen=True)
class Host:
    """One end of the cable."""

    namespace: str
    ipv4: str
    ipv6: str
    mac: str
    device: str = "veth0"

    def ip(self, *args: str) -> str:
        """Run ip(8) inside."""
        return ip("-n", self.namespace, *args)

    def command(self, *args: str) -> list[str]:
        """Give the command line that runs `args` inside."""
        return ["ip", "netns", "exec", self.namespace, *args]

    def run(self, *args: str, check: bool = True, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait for its end."""
        return subprocess.run(self.command(*args), capture_output=True, text=True, check=check, timeout=timeout)

    def popen(self, *args: str) -> subprocess.Popen[str]:
        """Start a command inside, with pipes to and from it."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*args), stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def python(self, source: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run Python source inside; sys.argv[1:] is `args`."""
        return self.run(sys.executable, "-c", source, *args)

    def sysctl(self, name: str, value: str) -> None:
        """Set a kernel parameter of the namespace, where the kernel has it."""
        self.run("sh", "-c", f"test ! -e /proc/sys/{name} || echo {value} > /proc/sys/{name}")


@dataclass(frozen=True)
class Pair:
    """Two hosts; `a` has the lower address."""

    a: Host
    b: Host


def _configure(host: Host, peer: Host, mtu: int, *, ipv6: bool) -> None:
    """Give a host its address and the way to the other one."""
    host.sysctl("net/ipv6/conf/all/disable_ipv6", "0" if ipv6 else "1")
    host.ip("link", "set", "lo", "up")
    host.ip("link", "set", host.device, "address", host.mac, "mtu", str(mtu))
    host.ip("addr", "add", f"{host.ipv4}/24", "dev", host.device)
    if ipv6:
        host.ip("addr", "add", f"{host.ipv6}/64", "dev", host.device, "nodad")
    host.ip("link", "set", host.device, "up")
    addresses = [peer.ipv4, peer.ipv6] if ipv6 else [peer.ipv4]
    for address in addresses:
        host.ip("neigh", "replace", address, "lladdr", peer.mac, "dev", host.device, "nud", "permanent")


@contextlib.contextmanager
def veth_pair(*, mtu: int = 1500, ipv6: bool = False) -> Iterator[Pair]:
    """Make two namespaces joined by a veth pair; remove them at the end."""
    stem = f"mos-{os.getpid()}-{next(_numbers)}"
    # Addresses and MACs are the ones reserved for documentation.
    a = Host(f"{stem}a", "192.0.2.1", "2001:db8::1", "00:00:5e:00:53:01")
    b = Host(f"{stem}b", "192.0.2.2", "2001:db8::2", "00:00:5e:00:53:02")
    try:
        ip("netns", "add", a.namespace)
        ip("netns", "add", b.namespace)
        a.ip("link", "add", a.device, "type", "veth", "peer", "name", b.device, "netns", b.namespace)
        _configure(a, b, mtu, ipv6=ipv6)
        _configure(b, a, mtu, ipv6=ipv6)
        yield Pair(a, b)
    finally:
        for host in (a, b):
            subprocess.run(["ip", "netns", "del", host.namespace], capture_output=True, check=False)
