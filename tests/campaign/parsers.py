# SPDX-License-Identifier: GPL-2.0-only
"""Every parser of data that pyvmm did not write, with valid inputs.

Kernel headers and device trees are absent: libclang and fdtput read those.
"""

import errno as errnos
import gzip
import io
import json
import os
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from pyvmm import cache_dir, kernel_image
from pyvmm.arch.arm64 import walk
from pyvmm.arch.arm64.a64 import decode, disassemble
from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import Regime
from pyvmm.caps.caps_report import SCHEMA
from pyvmm.cli import caps
from pyvmm.cli.run import _write as parse_write
from pyvmm.errno_names import errno_number
from pyvmm.explain import failure, slots_file
from pyvmm.faults import policy
from pyvmm.guest import probe, snippet
from pyvmm.guest.payload import Payload
from pyvmm.ioctl import Fd
from pyvmm.kvm import exits
from pyvmm.lab import cache, lab_devices, matrix, pycache, qemu, stage2
from pyvmm.lab.virtio_ports import VirtioPorts
from pyvmm.memory import PAGE_SIZE
from pyvmm.memory.vma import vmas
from pyvmm.provenance import trace_pipe
from pyvmm.trace import inject, trace_diff
from pyvmm.trace.events import EventWriter, Recording
from pyvmm.trace.ioctl_decode import IOCTLS, IoctlArgument, find_ioctl
from pyvmm.trace.run_page import exit_values
from pyvmm.trace.views import EventPrinter, Filter, ViewOptions, address_range
from pyvmm.uapi import header_set, kvm, vfio
from pyvmm.uapi.names import names
from pyvmm.vfio import cap_chains, region_caps
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.config import ConfigSpace
from pyvmm.vfio.regions import Region
from tests.trace import sample_events


@dataclass(frozen=True)
class Parser:
    """A parser, with valid inputs to mutate.

    Attributes:
        parse: gives it an input, and the path of a file.
        is_file: True if the file's content must be the input.
        is_json: True if values in lines of JSON are mutated, not only bytes.
        rejects: the exceptions that it documents besides `PyvmmError`.
    """

    parse: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]
    is_file: bool = False
    is_json: bool = False
    rejects: tuple[type[Exception], ...] = ()


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
    assert path.name == "smaps"
    for vma in vmas(0, 1 << 64, pid=f"../{path.parent}"):
        _ = vma.pfnmap, vma.any_uncached, vma.mte_allowed


def _payload(data: bytes, path: Path) -> None:
    Payload.of_file(path, "arm64")


def _kernel(data: bytes, path: Path) -> None:
    kernel_image.check(path)


def _header_set(data: bytes, path: Path) -> None:
    cache_dir.write(path, data)  # with the right digest
    header_set.read(path, "arm64")


def _guest_block(data: bytes, path: Path) -> None:
    block = data[:96].ljust(96, b"\0")
    snippet.unpack(block)
    probe.unpack([probe.Probe(0), probe.Probe(8)], block)


def _instructions(data: bytes, path: Path) -> None:
    words = [word for (word,) in struct.iter_unpack("<I", data[: len(data) // 4 * 4])]
    for word in words:
        decode.decode(word)
    for word in words[:1]:  # Capstone needs 100 µs for one
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


def _caps_report(data: bytes, path: Path) -> None:
    caps._print_diff(caps._read(path), _CAPS_REPORT, as_json=False)


def _cache_record(data: bytes, path: Path) -> None:
    cached = path.with_name("cached")
    cached.touch()
    path.with_name(".record-cached").write_bytes(data)
    cache.is_intact(cached)


def _exit(data: bytes, path: Path) -> None:
    """Decode ``struct kvm_run`` of a traced VMM, which may write anything to it."""
    page = bytearray(data[: 2 * PAGE_SIZE].ljust(2 * PAGE_SIZE, b"\0"))
    for errno in (0, errnos.EFAULT, errnos.EIO):
        shared = memoryview(page)
        vcpu_exit = exits.decode_failure(shared, errno) if errno else exits.decode(shared)
        str(vcpu_exit)
        json.dumps(exit_values(vcpu_exit, {}))


def _stage1(data: bytes, path: Path) -> None:
    """Walk the tables of a guest: its registers, and memory that repeats to the last address."""
    words = struct.unpack_from("<10Q", data.ljust(80, b"\0"))
    regime = Regime(**dict(zip((field.name for field in fields(Regime)), words, strict=False)))
    tables = data[80:]

    def read(ipa: int, size: int) -> bytes | None:
        at = ipa % (len(tables) + size)
        return tables[at : at + size].ljust(size, b"\0") if at < len(tables) else None

    for need in Permission.NONE, Permission.READ, Permission.EXECUTE:
        str(walk.walk(regime, words[9], read, need=need, el0=bool(words[9] & 1)))


def _stage2(data: bytes, path: Path) -> None:
    """Walk the stage-2 tables that the emulated host wrote."""
    vttbr, vtcr, hcr, ipa = struct.unpack_from("<4Q", data.ljust(32, b"\0"))
    tables = data[32:] or b"\0"

    def read(address: int, size: int) -> bytes:
        at = address % len(tables)
        return tables[at : at + size].ljust(size, b"\0")

    str(stage2.walk(stage2.Stage2Registers(vttbr, vtcr, hcr), ipa, read))


def _matrix_result(data: bytes, path: Path) -> None:
    cells = [matrix._load(path)] * 2
    json.dumps(matrix.document(cells, ["caps"]))
    matrix.markdown(cells)


def _kernel_events(data: bytes, path: Path) -> None:
    for line in data.decode(errors="replace").splitlines():
        trace_pipe.parse(line)


def _control_port(data: bytes, path: Path) -> None:
    VirtioPorts()._parse_control(data)


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
_CAPS_REPORT = {
    "schema": SCHEMA,
    "host": {"kernel": "7.2.1", "arch": "aarch64"},
    "kvm": {"api_version": 12},
    "capabilities": [
        {
            "name": "KVM_CAP_USER_MEMORY",
            "number": 3,
            "system": {"value": 1, "errno": None},
            "vm": {"value": None, "errno": "EINVAL"},
        }
    ],
    "features": {"fwb": True},
    "verdicts": [{"name": "cacheable PFNMAP", "supported": False, "why": "no DIC"}],
}
_MATRIX_RESULT = {
    "cpu": "max",
    "kernel": "lab",
    "status": 0,
    "stdout": '{"host": 1}',
    "stderr": "",
    "error": "",
    "mode": None,
    "devices": ["grace"],
}
_TRACE_PIPE = b"""\
   python3-71      [001] ...1.    12.345678: kvm_guest_fault: ipa 0x100000000, hsr 0x93810047\
, hxfar 0x000001f8, pc 0x0000000040200100
 python3-71 [000] d.... 12.345679: p1: (user_mem_abort+0x10/0x20 <- gfn_to_pfn) ret=-14 xret=0x7ff2
"""
_CACHE_RECORD = {
    "": [0, 1, "e3b0c442"],
    "kernel/Image": [4096, 1, "00"],
    "link": "Image",
    ".": None,
}
_RUN_PAGES = tuple(
    bytes(8) + struct.pack("<I", reason) + bytes(20) + bytes(range(1, 65))
    for reason in sorted(names("KVM_EXIT_"))
)
_MAIR = 0xF0_BB_00_0C_FF_44_04_00
_STAGE1 = struct.pack(  # 4K granule, 39 bits of input address: tables at 0x0, one GiB per entry
    "<10Q16Q",
    *(1, 25 | 1 << 23 | 5 << 32, 0, 0, _MAIR, 5 | 1 << 28, 0, 0, 0, 0x1234),
    *[0x403] * 16,
)
_STAGE2 = struct.pack("<4Q16Q", *(0, 25 | 1 << 6, 1, 0x1234), *[0x403] * 16)
_WORDS = struct.pack("<6I", 0xF9400000, 0xA9401444, 0x4C407000, 0xD50B7420, 0xC8A07C00, 0x58000000)

PARSERS = {
    "BDF": Parser(_of_text(Bdf.parse), (b"0000:01:00.0", b"10000:e1:1f.7")),
    "slots": Parser(_slots, (_lines([_SLOT, _SLOT]),), is_file=True, is_json=True),
    "recording": Parser(_show_trace, (_recording(),), is_file=True, is_json=True),
    "trace diff": Parser(_diff_traces, (_recording(),), is_file=True, is_json=True),
    "caps report": Parser(_caps_report, (_lines(_CAPS_REPORT),), is_file=True, is_json=True),
    "matrix result": Parser(_matrix_result, (_lines(_MATRIX_RESULT),), is_file=True, is_json=True),
    "cache record": Parser(_cache_record, (_lines(_CACHE_RECORD),), is_json=True),
    "rule": Parser(_of_text(_rule), _RULES),
    "scenario": Parser(
        _scenario, tuple(b'inject = ["%s"]\n' % rule for rule in _RULES), is_file=True
    ),
    "capability chain": Parser(_chain, (_caps(),)),
    "config space": Parser(_config_space, (_config(),), is_file=True),
    "policy": Parser(
        _of_text(lambda text: policy.parse(text.split())), (b"auto BAR4=emulate RAM=stop",)
    ),
    "failure": Parser(
        _of_text(lambda text: failure.parse(text.split() or [""])),
        (_FAILURE, b"KVM_RUN errno=EFAULT gpa=0x1000"),
    ),
    "smaps": Parser(_smaps, (_SMAPS,), is_file=True),
    "payload": Parser(_payload, (b"\x7fELF\2\1\1" + bytes(57), bytes(4096)), is_file=True),
    "kernel": Parser(_kernel, (_image(), gzip.compress(_image(), mtime=0)), is_file=True),
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
    "exit": Parser(_exit, _RUN_PAGES),
    "stage 1": Parser(_stage1, (_STAGE1,)),
    "stage 2": Parser(_stage2, (_STAGE2,), rejects=(stage2.WalkError,)),
    "ioctl": Parser(_ioctl, _TRACEE),
    "compiled files": Parser(
        _compiled, (_tar("checkout/a.pyc", "usr/b/c.pyc"), _tar("a.bin") + _tar("b.pyc"))
    ),
    "kernel events": Parser(_kernel_events, (_TRACE_PIPE,)),
    "control port": Parser(_control_port, (b"kvm\nexit 0\n", b"fail no KVM\n")),
}
