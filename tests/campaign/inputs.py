# SPDX-License-Identifier: GPL-2.0-only
"""Mutated inputs for every parser: each is read, or rejected with a documented exception.

A batch gives its inputs to one parser; batch N has parser N modulo their number.
"""

import contextlib
import gzip
import io
import json
import os
import struct
import tarfile
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from pyvmm.arch.arm64.a64 import decode, disassemble
from pyvmm.cli.run import _write as parse_write
from pyvmm.errno_names import errno_number
from pyvmm.errors import PyvmmError
from pyvmm.explain import failure, slots_file
from pyvmm.faults import policy
from pyvmm.guest import probe, snippet
from pyvmm.guest.payload import Payload
from pyvmm.ioctl import Fd
from pyvmm.lab import kernel_image, lab_devices, pycache, qemu
from pyvmm.memory.vma import vmas
from pyvmm.trace import inject, trace_diff
from pyvmm.trace.events import EventWriter, Recording
from pyvmm.trace.ioctl_decode import IOCTLS, IoctlArgument, find_ioctl
from pyvmm.trace.views import EventPrinter, Filter, ViewOptions, address_range
from pyvmm.uapi import header_set, kvm, vfio
from pyvmm.vfio import cap_chains, region_caps
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.config import ConfigSpace
from pyvmm.vfio.regions import Region
from tests.campaign.campaign import Campaign
from tests.campaign.mutation import mutated, mutated_json
from tests.trace import sample_events

PER_PARSER, PER_BATCH = 100_000, 100


@dataclass(frozen=True)
class Parser:
    """A parser, with valid inputs to mutate.

    Attributes:
        parse: gives it an input, which is also the content of the given file.
        rejects: the exceptions that it documents besides `PyvmmError`.
        is_json: True if values in lines of JSON are mutated, not only bytes.
    """

    parse: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    rejects: tuple[type[Exception], ...] = ()
    is_json: bool = False


def _text(data: bytes) -> str:
    """Return `data` as an argument of a command line: decoded as Python does, without NUL."""
    return os.fsdecode(data.replace(b"\0", b""))


def _of_text(parse: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    return lambda data, path: parse(_text(data))


def _slots(data: bytes, path: Path) -> None:
    slots_file.read(path)


def _show_trace(data: bytes, path: Path) -> None:
    recording = Recording.open(path)
    ranges = ((0x1000, 0x2000),)
    views = [
        ViewOptions(),
        ViewOptions(summary=True),
        ViewOptions(json=True, slots=True, filter=Filter(addresses=ranges)),
    ]
    for view in views:
        printer = EventPrinter(view, io.StringIO(), recording.header.get("command", []))
        for event in recording:
            printer.add(event)
        printer.finish()


def _diff_traces(data: bytes, path: Path) -> None:
    difference = trace_diff.compare(Recording.open(path), sample_events.ALL)
    list(trace_diff.text_lines(difference))
    json.dumps(trace_diff.to_json(difference))


def _rule(text: str) -> None:
    rule = inject.parse(text)
    rule.applies({"flags": 2, "guest_phys_addr": 0x1000, "slot": [1]})


def _scenario(data: bytes, path: Path) -> None:
    for text in inject.read_scenario(path):
        inject.parse(text)


def _chain(data: bytes, path: Path) -> None:
    """Decode an INFO buffer: the offset of its chain, the struct of 32 bytes, capabilities."""
    first = int.from_bytes(data[:2], "little")
    decoded = [region_caps.decode(raw) for raw in cap_chains.walk(data, first, 32)]
    Region(Fd(-1), 0, size=1 << 20, offset=0, flags=(), capabilities=decoded)
    str(decoded)


def _config_space(data: bytes, path: Path) -> None:
    with Fd(os.open(path, os.O_RDONLY)) as file:
        config = ConfigSpace(Region(file, 7, size=len(data), offset=0, flags=("read",)))
        _ = config.present and config.memory_enabled and config.is_port_bar(5)
        list(config.capabilities())
        config.msix()


def _smaps(data: bytes, path: Path) -> None:
    path.with_name("smaps").write_bytes(data)
    for vma in vmas(0, 1 << 64, pid=f"../{path.parent}"):
        _ = vma.pfnmap, vma.any_uncached, vma.mte_allowed


def _payload(data: bytes, path: Path) -> None:
    Payload.of_file(path, "arm64")


def _kernel(data: bytes, path: Path) -> None:
    kernel_image.check(path)


def _header_set(data: bytes, path: Path) -> None:
    header_set.read(path, "arm64")


def _guest_block(data: bytes, path: Path) -> None:
    block = data[:96].ljust(96, b"\0")
    snippet.unpack(block)
    probe.unpack([probe.Probe(0), probe.Probe(8)], block)


def _instructions(data: bytes, path: Path) -> None:
    for (word,) in struct.iter_unpack("<I", data[: len(data) // 4 * 4]):
        decode.decode(word)
        disassemble.disassemble(word)


def _ioctl(data: bytes, path: Path) -> None:
    """Decode an ioctl of a tracee whose memory at address 8 and above is `data`."""
    number = int.from_bytes(data[:4], "little")
    ioctl = find_ioctl(number, "vm")
    if ioctl is None:
        return

    def read(address: int, size: int) -> bytes:
        return data[address : address + size] if address < len(data) else b""

    argument = IoctlArgument(ioctl, 8, read, "vm")
    argument.decode(failed=False)
    argument.decode(failed=True)


def _compiled(data: bytes, path: Path) -> None:
    pycache.save(data, {"/checkout": path.parent})


def _lines(*documents: object) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def _recording() -> bytes:
    out = io.StringIO()
    writer = EventWriter(out, ["qemu"])
    for event in sample_events.ALL:
        writer.write(event)
    return out.getvalue().encode()


def _tar(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 8
            archive.addfile(member, io.BytesIO(b"compiled"))
    return out.getvalue()


def _config() -> bytes:
    data = bytearray(256)
    data[0:8] = bytes.fromhex("86802110 06001000")
    data[0x34], data[0x40:0x4C] = 0x40, struct.pack("<BBHII", 0x11, 0x50, 0x3F, 4, 0x2004)
    data[0x50:0x52] = bytes((0x05, 0))
    return bytes(data)


def _caps() -> bytes:
    sparse = struct.pack("=HHIIIQQQQ", 1, 1, 80, 2, 0, 0, 0x1000, 0x2000, 0x1000)
    kind = struct.pack("=HHIII", 2, 1, 96, 0x8000_8086, 1)
    return (32).to_bytes(32, "little") + sparse + kind + struct.pack("=HHI", 3, 1, 0)


def _image() -> bytes:
    section = bytes(16) + struct.pack("<II", 64, 128) + bytes(16)
    pe = b"PE\0\0" + struct.pack("<HHIIIHH", 0xAA64, 1, 0, 0, 0, 0, 0)
    start = b"MZ\0\0" + struct.pack("<I", 0x1400_0010) + bytes(48) + b"ARM\x64"
    return (start + struct.pack("<I", 64) + pe + section).ljust(512, b"\0")


_SMAPS = b"""\
7f0000000000-7f0000004000 rw-s 00001000 00:0d 1024 /dev/vfio/devices/vfio0
Size:                 16 kB
VmFlags: rd wr sh mr mw me ms pf io de dd ??
7f0000004000-7f0000008000 rw-p 00000000 00:00 0 [heap]
VmFlags: rd wr mr mw me ac
"""
_SLOT = {"slot": 0, "guest_phys_addr": "0x40000000", "memory_size": 4096, "userspace_addr": "0x7f0"}
_FAILURE = (
    b"KVM_SET_USER_MEMORY_REGION errno=EINVAL slot=0 guest_phys_addr=0x1000 memory_size=0x1000 "
    b"userspace_addr=0x7f0000000000 flags=KVM_MEM_READONLY|1"
)
_RULES = (
    b"cap:KVM_CAP_READONLY_MEM=0",
    b"ioctl:KVM_SET_USER_MEMORY_REGION where flags=KVM_MEM_READONLY and slot=1:errno=EINVAL",
    b"ioctl:KVM_IRQFD:delay=50ms after=3 times=2",
    b"run:memory_fault gpa=0x40000000 size=0x1000 flags=0 after=10 vcpu=1",
    b"run:errno=EFAULT after=100",
)
_HEADERS = json.dumps(
    {
        "schema": "pyvmm.uapi/1",
        "version": "7.2.1",
        "architecture": "arm64",
        "headers": {
            "kvm": {
                "constants": [["KVM_API_VERSION", 12, "12"]],
                "structs": [["kvm_one_reg", 16, [["id", "u64", [], 0], ["addr", "u64", [], 8]]]],
                "ioctls": [["KVM_GET_API_VERSION", 0xAE00, None]],
            }
        },
    }
).encode()
_TRACEE = tuple(
    int(ioctl).to_bytes(8, "little") + bytes(range(1, 9)) * 40
    for name in sorted(IOCTLS)
    if (ioctl := getattr(kvm, name, None) or getattr(vfio, name, None))
)
_WORDS = struct.pack("<6I", 0xF9400000, 0xA9401444, 0x4C407000, 0xD50B7420, 0xC8A07C00, 0x58000000)

PARSERS = {
    "BDF": Parser(_of_text(Bdf.parse), (b"0000:01:00.0", b"10000:e1:1f.7", b"01:00.0")),
    "slots": Parser(_slots, (_lines([_SLOT, _SLOT]),), is_json=True),
    "recording": Parser(_show_trace, (_recording(),), is_json=True),
    "trace diff": Parser(_diff_traces, (_recording(),), is_json=True),
    "rule": Parser(_of_text(_rule), _RULES),
    "scenario": Parser(_scenario, tuple(b'inject = ["%s"]\n' % rule for rule in _RULES)),
    "capability chain": Parser(_chain, (_caps(),)),
    "config space": Parser(_config_space, (_config(),)),
    "policy": Parser(
        _of_text(lambda text: policy.parse(text.split())), (b"auto BAR4=emulate RAM=stop",)
    ),
    "failure": Parser(
        _of_text(lambda text: failure.parse(text.split() or [""])),
        (_FAILURE, b"KVM_RUN errno=EFAULT gpa=0x1000"),
    ),
    "smaps": Parser(_smaps, (_SMAPS,)),
    "payload": Parser(_payload, (b"\x7fELF\2\1\1" + bytes(57), bytes(4096))),
    "kernel": Parser(_kernel, (_image(), gzip.compress(_image(), mtime=0))),
    "header set": Parser(_header_set, (_HEADERS,), is_json=True),
    "device name": Parser(
        _of_text(lambda text: lab_devices.lookup(text.split(","))), (b"grace,bochs", b"none")
    ),
    "size": Parser(_of_text(qemu.parse_size), (b"512M", b"2G")),
    "address range": Parser(_of_text(address_range), (b"0x1000", b"0x1000-0x1fff")),
    "--write": Parser(_of_text(parse_write), (b"BAR0+0x10=0xff",)),
    "errno": Parser(_of_text(errno_number), (b"EFAULT", b"-14")),
    "guest block": Parser(_guest_block, (bytes(range(96)),)),
    "instructions": Parser(_instructions, (_WORDS,)),
    "ioctl": Parser(_ioctl, _TRACEE),
    "compiled files": Parser(
        _compiled, (_tar("checkout/a.pyc", "usr/b/c.pyc"), _tar("a.bin") + _tar("b.pyc"))
    ),
}


def _run(runs: range) -> Iterator[str]:
    name = [*PARSERS][runs.start // PER_BATCH % len(PARSERS)]
    yield from failures(PARSERS[name], name, len(runs), runs.start)


def failures(parser: Parser, name: str, count: int, first: int) -> Iterator[str]:
    """Give `count` inputs to a parser; yield the input and the exception of one failure, if any."""
    inputs = mutated(parser.seeds)
    if parser.is_json:
        inputs = st.one_of(inputs, mutated_json(parser.seeds))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "input"
        os.environ["XDG_CACHE_HOME"] = f"{directory}/cache"
        failed: list[str] = []
        rejects: tuple[type[Exception], ...] = (PyvmmError, *parser.rejects)

        @seed(first)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @given(inputs)
        def check(data: bytes) -> None:
            path.write_bytes(data)
            try:
                parser.parse(data, path)
            except rejects as error:
                if "\n" in str(error):
                    failed.append(f"{name}: {data[:200]!r}: several lines: {error}")
                    raise AssertionError from None
            except Exception:
                failed.append(f"{name}: {data[:200]!r}: {traceback.format_exc()}")
                raise

        with contextlib.redirect_stdout(io.StringIO()):
            with contextlib.suppress(Exception):
                check()
        yield from failed[-1:]  # hypothesis raises the smallest one last


CAMPAIGN = Campaign(
    runs=PER_PARSER * len(PARSERS),
    short=PER_BATCH * len(PARSERS),
    batch=PER_BATCH,
    limit=300,
    run=_run,
    is_flat=False,
)
