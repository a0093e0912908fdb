"""The capture reader gives what libpcap gives: every capture at hand, plain, repacked and from a pipe."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "c" / "capture_vs_libpcap.c"
CORPUS = ROOT.parent / "shared" / "corpus"
FLAGS = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CAPTURES = {
    path.name: path
    for folder in (ROOT / "tests" / "data", CORPUS / "open", CORPUS / "overlap")
    for path in sorted(folder.glob("*"))
    if path.suffix in (".pcap", ".pcapng", ".dmp")
}
every_capture = pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES.keys())


@pytest.fixture(scope="session")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program that reads with both."""
    text = SOURCE.read_text(encoding="utf-8")
    said = {key: re.search(rf"^// {key}: (.*)$", text, re.MULTILINE) for key in ("sources", "libs")}
    assert said["sources"] is not None
    assert said["libs"] is not None
    if not Path("/usr/include/pcap/pcap.h").exists() and shutil.which("pcap-config") is None:
        pytest.skip("libpcap's headers are not installed (libpcap-dev)")
    program = tmp_path_factory.mktemp("capture") / "capture_vs_libpcap"
    sources = [str(ROOT / "csrc" / name) for name in said["sources"][1].split()]
    command = ["gcc", *FLAGS, f"-I{ROOT / 'csrc'}", str(SOURCE), *sources, *said["libs"][1].split(), "-o", str(program)]
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert built.returncode == 0, built.stdout
    return program


def run(*command: object, stdin: bytes | None = None) -> str:
    """Run the comparison; a difference fails the test with the line that tells it."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said
    return said


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no shared captures in {CORPUS}")
def test_shared_captures_are_compared() -> None:
    """The list made from the folders is not empty by mistake."""
    assert len(CAPTURES) > 40


@every_capture
def test_every_record_is_as_libpcap_reads_it(compare: Path, capture: Path) -> None:
    """Number, time, lengths, bytes and link type, for several burst sizes."""
    for burst in (1, 64, 1000):
        assert ": same" in run(compare, "--burst", burst, capture)


@every_capture
def test_packed_captures_are_the_same(compare: Path, capture: Path, tmp_path: Path) -> None:
    """Gzip in one and in three members, zstd in two frames, under names that say nothing."""
    data = capture.read_bytes()
    third = len(data) // 3
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(data, 1))
    run(compare, "--against", capture, packed)
    packed.write_bytes(
        b"".join(gzip.compress(part) for part in (data[:third], data[third : 2 * third], data[2 * third :]))
    )
    run(compare, "--against", capture, packed)
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program to pack with")
    frames = [
        subprocess.run(["zstd", "-qc"], input=part, stdout=subprocess.PIPE, check=True).stdout
        for part in (data[:third], data[third:])
    ]
    packed.write_bytes(b"".join(frames))
    run(compare, "--against", capture, packed)


@every_capture
def test_standard_input_is_the_same(compare: Path, capture: Path) -> None:
    """A pipe, plain and packed."""
    data = capture.read_bytes()
    run(compare, "--against", capture, "-", stdin=data)
    run(compare, "--against", capture, "-", stdin=gzip.compress(data, 1))


@every_capture
def test_a_cut_capture_breaks_where_libpcap_breaks(compare: Path, capture: Path, tmp_path: Path) -> None:
    """Both give the same packets before the cut and then an error."""
    data = capture.read_bytes()
    cut = tmp_path / "cut"
    for length in (len(data) - 1, len(data) * 2 // 3, 30):
        cut.write_bytes(data[:length])
        run(compare, cut)


def other_order(data: bytes, *, nanoseconds: bool) -> bytes:
    """Write a little-endian pcap file in the other byte order, and perhaps with the other magic."""
    head = struct.unpack_from("<IHHiIII", data)
    out = [struct.pack(">IHHiIII", 0xA1B23C4D if nanoseconds else head[0], *head[1:])]
    at = 24
    while at + 16 <= len(data):
        record = struct.unpack_from("<IIII", data, at)
        out += [struct.pack(">IIII", *record), data[at + 16 : at + 16 + record[2]]]
        at += 16 + record[2]
    return b"".join(out)


@every_capture
def test_the_other_byte_order_is_the_same(compare: Path, capture: Path, tmp_path: Path) -> None:
    """Big-endian files, in micro- and in nanoseconds."""
    data = capture.read_bytes()
    if data[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        pytest.skip("not a little-endian pcap file")
    turned = tmp_path / "turned"
    for nanoseconds in (False, True):
        turned.write_bytes(other_order(data, nanoseconds=nanoseconds))
        run(compare, turned)
