# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU program and the configuration of the emulated machine.

The lab's own devices use virtio-mmio, so the PCI bus has only the devices that a run requests.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyvmm import units
from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import package_tree
from pyvmm.lab.apt import Progress
from pyvmm.lab.lab_devices import LabDevice, arguments, lookup, of_argument, option_value

PROGRAM = "qemu-system-aarch64"
# The oldest version that works. QEMU 7.2 boots, but its "max" CPU lacks FWB and vfio devices cannot
# be opened: a run would blame the kernel for it.
OLDEST = (10, 0)
# The 64-bit models of `-cpu help`; the others cannot run the kernel.
_CPUS = re.compile(r"max|a64fx|neoverse-\w+|cortex-(?:a[3-9]\d|a\d{3}|x\d+)")

_WITH_MTE = "+mte"
# PCI devices that other devices are placed behind, and properties that place a device.
_BRIDGES = re.compile(r"(-port|bridge|-upstream|-downstream)$|^pxb")
_PLACED = re.compile(r"(bus|addr)=")


@dataclass(frozen=True)
class Qemu:
    """A QEMU program: its command line and version."""

    command: tuple[str, ...]
    version: tuple[int, int]

    def cpus(self) -> list[str]:
        """Return the names of the 64-bit CPU models."""
        text = _output([*self.command, "-machine", "virt", "-cpu", "help"])
        return sorted({name for name in text.split() if _CPUS.fullmatch(name)})

    def devices(
        self, names: Sequence[str], arguments: Sequence[str]
    ) -> tuple[tuple[LabDevice, ...], tuple[str, ...]]:
        """Return the devices of these names and of ``-device`` arguments, and the other arguments.

        A PCI device whose argument names no bus gets its own root port, as the lab's devices do.
        Raises `UsageError` for an unknown name.
        """
        own = [argument for argument in arguments if self._needs_port(argument)]
        devices = (*lookup(names), *map(of_argument, own))
        return devices, tuple(argument for argument in arguments if argument not in own)

    def _needs_port(self, argument: str) -> bool:
        model, *properties = argument.split(",")
        if _BRIDGES.search(model) or any(_PLACED.match(each) for each in properties):
            return False
        # Every PCI device has this property. Listing all devices loads QEMU's modules, of which a
        # downloaded QEMU may find those of another version.
        return "romfile=" in _output(
            [*self.command, "-machine", "none", "-device", f"{model},help"]
        )


@dataclass(frozen=True)
class EmulatedMachine:
    """The emulated machine.

    Attributes:
        cpu: the CPU model, with QEMU's ``,PROPERTY=VALUE`` options; ``max+mte`` has memory tags,
            which QEMU gives to a machine and not to a CPU.
        memory: RAM of the kernel in bytes.
        cpus: the number of CPUs.
        device_arguments: arguments of additional ``-device`` options.
        append: text to append to the kernel command line.
        mode: the mode of KVM (see `kvm_mode`), or None for the kernel's default.
        hugepages: the number of huge pages to reserve at boot.
    """

    cpu: str = "max"
    cpus: int = 2
    memory: int = 2 << 30
    devices: tuple[LabDevice, ...] = ()
    device_arguments: tuple[str, ...] = ()
    append: str = ""
    mode: str | None = None
    hugepages: int = 0

    def arguments(self) -> list[str]:
        """Return QEMU's arguments for the machine and its devices."""
        cpu = self.cpu.removesuffix(_WITH_MTE)
        tags = "" if cpu == self.cpu else ",mte=on"
        argv = ["-machine", f"virt,virtualization=on,gic-version=3,iommu=smmuv3{tags}"]
        argv += ["-accel", "tcg,thread=multi", "-cpu", cpu, "-smp", str(self.cpus)]
        total = self.memory + sum(device.reserved for device in self.devices)
        argv += ["-m", f"{total >> 20}M", "-nodefaults", "-no-user-config", "-no-reboot"]
        argv += ["-display", "none", "-monitor", "none"]
        argv += arguments(self.devices)
        for argument in self.device_arguments:
            argv += ["-device", argument]
        return argv


def parse_size(text: str) -> int:
    """Return a size such as 512M or 2G in bytes. Raises `UsageError`."""
    try:
        return units.parse_size(text)
    except ValueError:
        raise UsageError(f"invalid size {text!r}: pass MiB or GiB, such as 512M or 2G") from None


def find(progress: Progress, chosen: str | None = None) -> Qemu:
    """Return QEMU `chosen`, by default the one on PATH, or a downloaded one if that is too old.

    Raises `UsageError` if `chosen` does not exist, `LackingError` if it is too old or if QEMU
    cannot be downloaded.
    """
    if chosen is not None:
        if (found := shutil.which(chosen)) is None:
            raise UsageError(f"program {chosen} not found")
        qemu = _probe([found])
        if qemu.version < OLDEST:
            raise LackingError(
                f"{found} is QEMU {_dotted(qemu.version)} and the lab needs {_dotted(OLDEST)}: "
                "omit --qemu to download one, or on Debian 12 run "
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
        raise LackingError(f"{command[0]} --version prints no QEMU version: is it {PROGRAM}?")
    return Qemu(tuple(command), (int(match[1]), int(match[2])))


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def dump_device_tree(qemu: Qemu, machine: EmulatedMachine, dtb: Path) -> None:
    """Write QEMU's device tree for a machine to `dtb`. Raises `LackingError`."""
    argv = machine.arguments()
    argv[argv.index("-machine") + 1] += f",dumpdtb={option_value(dtb)}"
    done = subprocess.run([*qemu.command, *argv], capture_output=True, text=True, check=False)
    if done.returncode or not dtb.exists():
        raise LackingError(f"QEMU cannot dump its device tree: {done.stderr.strip()}")
