# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as a VMM that is not ours: an arm64 guest that reads a BAR of an assigned device."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pyvmm import libc

PACKAGE = Path("/run/packages/qemu-system-arm")  # --lab-package
BAR, READING_PC = 0x1000_0000, 0x4020_0028

_PIDFD_GETFD = 438  # asm-generic/unistd.h; the same number on every architecture
_CONFIG = 7 << 40  # the offset of VFIO_PCI_CONFIG_REGION_INDEX in vfio-pci's device file
_COMMAND = 4  # linux/pci_regs.h
_ENTRY = 0x4020_0000
_GUEST = (
    0xD2A7E021,  # movz x1, #0x3f01, lsl #16    // the ECAM of 00:02.0
    0x52A20002,  # movz w2, #0x1000, lsl #16    // BAR
    0xB9001022,  # str w2, [x1, #0x10]          // PCI_BASE_ADDRESS_0
    0x52800043,  # mov w3, #2                   // PCI_COMMAND_MEMORY
    0x79000823,  # strh w3, [x1, #4]            // PCI_COMMAND
    0xD5033F9F,  # dsb sy
    0xD2A12005,  # movz x5, #0x0900, lsl #16    // the UART
    0x52800A46,  # mov w6, #'R'
    0xB9400044,  # ldr w4, [x2]
    0x390000A6,  # strb w6, [x5]
    0xB9400044,  # ldr w4, [x2]                 // READING_PC
    0x52840007,  # mov w7, #0x2000
    0x710004E7,  # subs w7, w7, #1
    0x54FFFFE1,  # b.ne .-4
    0x17FFFFFC,  # b READING_PC
)


class QemuVmm:
    """QEMU with the device `bdf` at 00:02.0, whose guest reads BAR 0 in a loop."""

    def __init__(self, bdf: str, scratch: Path) -> None:
        """Start it, and wait until the guest has read the BAR."""
        guest = scratch / "guest.bin"
        guest.write_bytes(struct.pack(f"<{len(_GUEST)}I", *_GUEST))
        arguments = [
            *("-machine", "virt,gic-version=3,highmem=off", "-cpu", "host", "-accel", "kvm"),
            *("-m", "64", "-nodefaults", "-display", "none", "-serial", "stdio"),
            *("-device", f"vfio-pci,host={bdf},addr=02.0,rombar=0"),
            *("-device", f"loader,file={guest},addr={_ENTRY:#x},cpu-num=0,force-raw=on"),
        ]
        argv, environment = command()
        self._process = subprocess.Popen(
            [*argv, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        assert self._process.stdout.read(1) == b"R", "QEMU ended before its guest read the BAR"

    def switch_memory_off(self) -> None:
        """Clear PCI_COMMAND_MEMORY through QEMU's descriptor of the device, behind its back."""
        fds = Path("/proc", str(self.pid), "fd").iterdir()
        number = next(int(fd.name) for fd in fds if "vfio-device" in str(fd.readlink()))
        process = os.pidfd_open(self.pid)
        device = libc.syscall(_PIDFD_GETFD, process, number, 0)
        os.pwrite(device, bytes(2), _CONFIG + _COMMAND)
        os.close(device)
        os.close(process)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def command() -> tuple[list[str], dict[str, str]]:
    """Return command line and environment of QEMU; skip the test without it."""
    name, environment = "qemu-system-aarch64", dict(os.environ)
    if installed := shutil.which(name):
        return [installed], environment
    if not PACKAGE.exists():
        pytest.skip(f"no {name} on PATH: pytest --lab --lab-package {PACKAGE.name}")
    environment["LD_LIBRARY_PATH"] = str(PACKAGE / "usr/lib/aarch64-linux-gnu")
    return [str(PACKAGE / "usr/bin" / name), "-L", str(PACKAGE / "usr/share/qemu")], environment
