# SPDX-License-Identifier: GPL-2.0-only
"""2025-03-11: cacheable device memory that a Linux guest maps in its own ways.

A driver chooses the memory type of its mapping: ioremap() is Device, ioremap_wc() is Normal-NC and
memremap(MEMREMAP_WB) is Normal-WB. The sysfs files resource4 and resource4_wc map BAR4 with the
first two; memory that Linux uses as System RAM has the third. The host's stage 2 adds its own.

Run it twice: with `--cpu max` (FWB and DIC) and with `--cpu neoverse-n1` (neither).

Look for: with FWB, stage 2 is Normal-WB and overrides what the guest chose, so host and guest
agree on the cache. Without it, KVM rejects the memslot. If BAR4 then replaces registered memory,
each page faults, and pyvmm replays the access on a copy in RAM, where the guest's type counts.

python -m pyvmm lab shell --kernel lab --device grace --cpu neoverse-n1 -- \\
    python3 examples/thread_2025_03_11_linux_guest.py
"""

import io
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pyvmm.arch.arm64.vcpu_state import translate
from pyvmm.arch.arm64.walk import WalkOutput
from pyvmm.arch.guest_access import PageAccess
from pyvmm.arch.native import native
from pyvmm.cpio import CpioArchive
from pyvmm.errors import LackingError, PyvmmError, SkippedError, as_command
from pyvmm.faults import Fix
from pyvmm.faults.guest_memory import peek_guest
from pyvmm.faults.policy import always
from pyvmm.kvm import System, Vm
from pyvmm.lab.stage2_client import describe_stage2
from pyvmm.linux import built_in_guest
from pyvmm.linux.boot import BootOptions, BootResult, boot
from pyvmm.linux.linux_guest import LinuxGuest

T = TypeVar("T")
Inspect: TypeAlias = Callable[[Vm, Callable[[], None]], None]

TIMEOUT = 120.0  # seconds
# The guest's last page of device memory as RAM: Linux allocates its first tables from the top.
RAM_BAR = range(0x8000_0000, 0xA000_0000)
# PAGE_OFFSET of a kernel with 48-bit addresses, at which RAM from 0x4000_0000 starts.
LINEAR_MAP = 0xFFFF_0000_0000_0000 - 0x4000_0000

INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
cd /sys/bus/pci/devices/0000:00:01.0 && echo 1 >enable && for each in resource4 resource4_wc; do
    /read_word $each &
    read line
    kill -9 $!
done || read line
poweroff -f
"""
# A program that maps a page of the file in its first argument, and reads a word of it in a loop.
READ_WORD = """
    92800c60  // mov x0, #-100: AT_FDCWD
    f9400be1  // ldr x1, [sp, #16]: argv[1]
    d2800042  // mov x2, #2: O_RDWR
    d2800708  // mov x8, #56: openat
    d4000001  // svc #0
    aa0003e4  // mov x4, x0
    d2800000  // mov x0, #0
    d2820001  // mov x1, #4096
    d2800062  // mov x2, #3: PROT_READ | PROT_WRITE
    d2800023  // mov x3, #1: MAP_SHARED
    d2800005  // mov x5, #0
    d2801bc8  // mov x8, #222: mmap
    d4000001  // svc #0
    b9400001  // 1: ldr w1, [x0]
    17ffffff  // b 1b
"""
BASE = 0x1000_0000  # not that of busybox


def program() -> bytes:
    """Return `READ_WORD` as an ELF executable."""
    words = [int(line.split()[0], 16) for line in READ_WORD.strip().splitlines()]
    code = struct.pack(f"<{len(words)}I", *words)
    start, size = 64 + 56, 64 + 56 + len(code)
    header = struct.pack("<4s5B7x2HI3QI6H", b"\x7fELF", 2, 1, 1, 0, 0, 2, 183, 1, BASE + start,
                         64, 0, 0, 64, 56, 1, 0, 0, 0)  # fmt: skip
    return header + struct.pack("<2I6Q", 1, 5, 0, BASE, BASE, size, size, 4096) + code


def word_read(vm: Vm) -> PageAccess | None:
    """Return the access of a vCPU that runs the program, with the guest's memory type, or None."""
    with vm.paused():
        for vcpu in vm.vcpus:
            if BASE < native().read(vcpu, "pc") < BASE + 0x1000:
                rebuilt = native().reconstruct(vcpu, lambda gpa, n: peek_guest(vm.memslots, gpa, n))
                if rebuilt.pages and rebuilt.pages[-1].access == "read":
                    return rebuilt.pages[-1]
    return None


def system_ram(vm: Vm) -> WalkOutput | None:
    """Return Linux's own mapping of the end of the device memory, or None before it exists."""

    def peek(gpa: int, size: int) -> bytes | None:
        return peek_guest(vm.memslots, gpa, size)

    with vm.paused():
        found = translate(vm.vcpus[0], LINEAR_MAP + RAM_BAR[-1], peek)
    return found if isinstance(found, WalkOutput) else None


def poll(find: Callable[[], T | None]) -> T:
    """Return the first result of `find` that is not None. Raises `PyvmmError` after `TIMEOUT`."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if (found := find()) is not None:
            return found
        time.sleep(0.3)
    raise PyvmmError("the guest has not mapped the memory")


def inspect_files(vm: Vm, proceed: Callable[[], None]) -> None:
    """Print the types of both mappings through sysfs, one after the other."""
    last: list[str] = []
    for name in ("resource4 (ioremap)", "resource4_wc (ioremap_wc)"):

        def another() -> PageAccess | None:
            access = word_read(vm)
            return access if access and access.memory_type not in last else None

        access = poll(another)
        last.append(access.memory_type or "")
        print(f"   {name:<26} stage 1: {access.memory_type:<14} {describe_stage2(access.gpa)}")
        proceed()


def inspect_ram(vm: Vm, proceed: Callable[[], None]) -> None:
    """Print the types of the kernel's mapping of RAM."""
    found = poll(lambda: system_ram(vm))
    name = "System RAM (memremap)"
    print(f"   {name:<26} stage 1: {found.memory_type:<14} {describe_stage2(found.ipa)}")
    while not vm.closed:  # Linux drops input before it opens the console
        proceed()
        time.sleep(0.5)


def run_linux(inspect: Inspect, **options: Any) -> BootResult:
    """Boot a guest, inspect it in a thread, and let it power off."""
    source, sink = os.pipe()
    threads: list[threading.Thread] = []
    errors: list[PyvmmError] = []

    def proceed() -> None:
        os.write(sink, b"\n")

    def watch(vm: Vm) -> None:
        try:
            inspect(vm, proceed)
        except PyvmmError as error:
            errors.append(error)

    def start(guest: LinuxGuest) -> None:
        threads.append(threading.Thread(target=watch, args=(guest.vm,)))
        threads[0].start()

    archive = CpioArchive()
    archive.file("read_word", program(), executable=True)
    initrd = built_in_guest.make_initrd(built_in_guest.find_image(), INIT.encode())
    with tempfile.NamedTemporaryFile() as file, os.fdopen(source), os.fdopen(sink, "w"):
        file.write(initrd + archive.to_bytes())
        file.flush()
        try:
            result = boot(
                BootOptions(
                    io.BytesIO(),
                    initrd=Path(file.name),
                    append="quiet nokaslr",
                    source=source,
                    timeout=TIMEOUT,
                    started=start,
                    **options,
                )
            )
        finally:
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        return result


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    if native().NAME != "arm64":
        raise LackingError("needs an arm64 CPU: run it in the lab with --device grace")
    with System.open() as system, system.create_vm() as vm:
        rejected = vm.host.rejects_cacheable_pfnmap
    print(f"KVM {'rejects' if rejected else 'accepts'} cacheable device memory as a memslot")
    print("a Linux guest maps BAR4" + (", which replaces registered memory:" if rejected else ":"))
    result = run_linux(
        inspect_files,
        devices=[bdf],
        flip=frozenset({"BAR4"} if rejected else ()),
        on_fault=always(Fix.REPLAY),
    )
    for record in result.faults.records:
        print(f"   a fault at {record.fault.report.gpa:#x}: {record.fault.cause}, {record.outcome}")
    print("BAR4 as RAM of the guest:")
    try:
        run_linux(inspect_ram, ram_bars=[f"{bdf}=BAR4"])
    except SkippedError as error:
        print(f"   {error}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
