# SPDX-License-Identifier: GPL-2.0-only
"""The PCI devices that a run can be given, and how QEMU and the emulated host are told of them.

The first is ``0000:01:00.0``, the second ``0000:02:00.0``, and so on: each sits alone behind a
root port of its own, hence alone in its IOMMU group.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError, UsageError

_GIB = 1 << 30
_RAM = 0x4000_0000  # where the virt machine's RAM begins
_HOST_BRIDGE = "/pcie@10000000"
# What the grace device's driver hands out: 512 MiB cacheable (usemem, whole multiples of that)
# and at least 1 GiB Normal-NC (resmem).
_GRACE_MEMORY = 0x6000_0000


@dataclass(frozen=True)
class LabDevice:
    """A device by its name here, its QEMU ``-device``, and the vfio driver that gets it."""

    name: str
    about: str
    qemu: str = ""
    driver: str = "vfio-pci"
    backend: str = ""  # the -blockdev it needs, if any; ``{id}`` is the device's own
    reserved: int = 0  # bytes of RAM it needs past the emulated kernel's own


_ALL = (
    LabDevice("none", "no device"),
    LabDevice(
        "grace",
        "a Grace-style GPU: BAR0 registers, BAR2 1 GiB Normal-NC, BAR4 512 MiB cacheable",
        # No GPU: a display whose BAR0 is memory, which the real nvgrace driver is told is one.
        "bochs-display,romfile=",
        "nvgrace_gpu_vfio_pci",
        reserved=2 * _GIB,
    ),
    LabDevice(
        "bochs", "a display: BAR0 16 MiB of memory, BAR2 registers", "bochs-display,romfile="
    ),
    LabDevice("edu", "QEMU's teaching device: registers, DMA, INTx and MSI", "edu"),
    LabDevice(
        "nvme",
        "a disk of 16 MiB zeroes: MSI-X and real bus-mastering",
        "nvme,serial=lab,drive={id}",
        backend="driver=null-co,node-name={id},size=16777216,read-zeroes=on",
    ),
)
DEVICES = {device.name: device for device in _ALL}


def lookup(names: Sequence[str]) -> list[LabDevice]:
    """The devices of these names, without "none". Raises `UsageError` on an unknown one."""
    for name in names:
        if name not in DEVICES:
            raise UsageError(f"there is no device {name!r}: the lab has {', '.join(DEVICES)}")
    return [DEVICES[name] for name in names if DEVICES[name].qemu]


def address(slot: int) -> str:
    """The address in the emulated host of the device in a slot (1, 2, …)."""
    return f"0000:{slot:02x}:00.0"


def bindings(devices: Sequence[LabDevice]) -> str:
    """What init.sh is to bind: ``ADDRESS=DRIVER``, separated by blanks."""
    return " ".join(f"{address(slot)}={each.driver}" for slot, each in enumerate(devices, 1))


def arguments(devices: Sequence[LabDevice]) -> list[str]:
    """QEMU's arguments for the devices."""
    argv = []
    for slot, device in enumerate(devices, 1):
        port, name = f"port{slot}", f"device{slot}"
        argv += ["-device", f"pcie-root-port,id={port},chassis={slot},slot={slot},addr={slot:#x}"]
        if device.backend:
            argv += ["-blockdev", device.backend.format(id=name)]
        argv += ["-device", f"{device.qemu.format(id=name)},bus={port}"]
    return argv


def describe(devices: Sequence[LabDevice], memory: int, dtb: Path, fdtput: Sequence[str]) -> None:
    """Write into a device tree where each grace device's memory is: past the kernel's own.

    The firmware of a real machine says so in ``nvidia,gpu-mem-base-pa`` and ``-size``, on the
    function's own node, which the kernel finds by devfn below its root port's.
    """
    put = [*fdtput, "-p", "-t", "x"]
    base = _RAM + memory
    for slot, device in enumerate(devices, 1):
        if not device.reserved:
            continue
        port = f"{_HOST_BRIDGE}/pci@{slot:x},0"
        function = f"{port}/gpu@0,0"
        for node, name, cells in (
            (port, "reg", (slot << 11, 0, 0, 0, 0)),  # devfn, in bits 15:8
            (port, "#address-cells", (3,)),
            (port, "#size-cells", (2,)),
            (port, "ranges", ()),
            (function, "reg", (slot << 16, 0, 0, 0, 0)),  # the bus, in bits 23:16
            (function, "nvidia,gpu-mem-base-pa", (base >> 32, base & 0xFFFF_FFFF)),
            (function, "nvidia,gpu-mem-size", (_GRACE_MEMORY >> 32, _GRACE_MEMORY & 0xFFFF_FFFF)),
        ):
            values = [f"{cell:x}" for cell in cells]
            done = subprocess.run(
                [*put, dtb, node, name, *values], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise LackingError(f"the device tree cannot be edited: {done.stderr.strip()}")
        base += device.reserved
