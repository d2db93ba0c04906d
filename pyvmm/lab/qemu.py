# SPDX-License-Identifier: GPL-2.0-only
"""Which QEMU runs the emulated host, and the machine it is told to be.

The lab's own devices sit on virtio's MMIO transports, so that the PCI bus has nothing on it
but what a run asks for.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import package_tree
from pyvmm.lab.apt import Progress
from pyvmm.lab.lab_devices import LabDevice, arguments

PROGRAM = "qemu-system-aarch64"
# The oldest that was seen to work. 7.2 boots, but its "max" CPU lacks FWB and a vfio device
# cannot be opened: a run would show wrong answers as if they were the kernel's.
OLDEST = (10, 0)
# The models of `-cpu help` that are 64-bit; the others cannot run the kernel.
_CPUS = re.compile(r"max|a64fx|neoverse-\w+|cortex-(?:a[3-9]\d|a\d{3}|x\d+)")


@dataclass(frozen=True)
class Qemu:
    """A QEMU: how to start it, and its version."""

    command: tuple[str, ...]
    version: tuple[int, int]

    def cpus(self) -> list[str]:
        """The CPU models that can be a 64-bit host."""
        text = _output([*self.command, "-machine", "virt", "-cpu", "help"])
        return sorted({name for name in text.split() if _CPUS.fullmatch(name)})


@dataclass(frozen=True)
class EmulatedMachine:
    """The emulated machine: the CPU model with QEMU's own options, and sizes in bytes."""

    cpu: str = "max"
    cpus: int = 2
    memory: int = 2 << 30
    devices: tuple[LabDevice, ...] = ()
    device_arguments: tuple[str, ...] = ()
    append: str = ""  # to the kernel's command line

    def arguments(self) -> list[str]:
        """QEMU's arguments for the machine and its devices."""
        argv = ["-machine", "virt,virtualization=on,gic-version=3,iommu=smmuv3"]
        argv += ["-accel", "tcg,thread=multi", "-cpu", self.cpu, "-smp", str(self.cpus)]
        total = self.memory + sum(device.reserved for device in self.devices)
        argv += ["-m", f"{total >> 20}M", "-nodefaults", "-no-user-config", "-no-reboot"]
        argv += ["-display", "none", "-monitor", "none"]
        argv += arguments(self.devices)
        for argument in self.device_arguments:
            argv += ["-device", argument]
        return argv


def parse_size(text: str) -> int:
    """Bytes of a size as QEMU writes it: 512M, 2G. Raises `UsageError`."""
    scale = {"M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper())
    if scale is None or not text[:-1].isdecimal() or not int(text[:-1]):
        raise UsageError(f"{text!r} is no size: write 512M or 2G")
    return int(text[:-1]) * scale


def find(progress: Progress, chosen: str | None = None) -> Qemu:
    """The QEMU that was chosen, or the one on PATH if it is new enough, or the cache's own.

    Raises `LackingError` where the chosen one is too old, or there is none and none to be had.
    """
    if chosen is not None:
        if (found := shutil.which(chosen)) is None:
            raise UsageError(f"there is no program {chosen}")
        qemu = _probe([found])
        if qemu.version < OLDEST:
            raise LackingError(
                f"{found} is QEMU {_dotted(qemu.version)} and the lab needs {_dotted(OLDEST)}: "
                "leave out --qemu and one is fetched, or, on Debian 12, "
                "apt install -t bookworm-backports qemu-system-arm"
            )
        return qemu
    if (found := shutil.which(PROGRAM)) is not None:
        qemu = _probe([found])
        if qemu.version >= OLDEST:
            return qemu
    tools = package_tree.tools(progress)
    return _probe([*tools.command(PROGRAM), "-L", str(tools.path / "usr/share/qemu")])


def _probe(command: Sequence[str]) -> Qemu:
    text = _output([*command, "--version"])
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise LackingError(f"{command[0]} does not say its version: is it {PROGRAM}?")
    return Qemu(tuple(command), (int(match[1]), int(match[2])))


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def dump_device_tree(qemu: Qemu, machine: EmulatedMachine, dtb: Path) -> None:
    """Write the device tree that QEMU makes for a machine. Raises `LackingError`."""
    argv = machine.arguments()
    argv[argv.index("-machine") + 1] += f",dumpdtb={dtb}"
    done = subprocess.run([*qemu.command, *argv], capture_output=True, text=True, check=False)
    if done.returncode or not dtb.exists():
        raise LackingError(f"QEMU writes no device tree: {done.stderr.strip()}")
