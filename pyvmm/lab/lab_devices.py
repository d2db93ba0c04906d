# SPDX-License-Identifier: GPL-2.0-only
"""The PCI devices of the lab, with their QEMU arguments and vfio drivers.

The first device of a run is ``0000:01:00.0``, the second ``0000:02:00.0``, and so on. Each has its
own root port, and therefore its own IOMMU group.
"""

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import LackingError, UsageError
from pyvmm.lab import cache

_GIB = 1 << 30
_RAM_BASE = 0x4000_0000  # of QEMU's virt machine
_HOST_BRIDGE = "/pcie@10000000"
# nvgrace_gpu_vfio_pci splits this memory into cacheable usemem, a multiple of 512 MiB, and resmem
# of at least 1 GiB, which is Normal-NC.
_GRACE_MEMORY = 0x6000_0000
_DISK_SIZE = 4 << 20


@dataclass(frozen=True)
class LabDevice:
    """A device of the lab.

    Attributes:
        pci_id: vendor and device ID, or None if only QEMU knows them.
        qemu: argument of QEMU's ``-device``; ``{id}`` is replaced by the device's ID.
        driver: the vfio driver to bind.
        backend: argument of ``-blockdev`` or ``-netdev``, if any, with ``{id}``; ``{disk}`` is
            replaced by an image with the contents of `disk_contents`, and ``{directory}`` by its
            directory.
        backend_option: the option that takes `backend`.
        reserved: bytes of RAM that the device needs after the kernel's RAM.
    """

    name: str
    pci_id: tuple[int, int] | None
    qemu: str
    driver: str = "vfio-pci"
    backend: str = ""
    backend_option: str = "-blockdev"
    reserved: int = 0


_ALL = (
    # A Grace-style GPU: BAR0 registers, BAR2 1 GiB Normal-NC, BAR4 512 MiB cacheable. It is in fact
    # a display whose BAR0 is memory; init.sh binds the nvgrace driver to it.
    LabDevice(
        "grace",
        (0x1234, 0x1111),
        "bochs-display,romfile=",
        "nvgrace_gpu_vfio_pci",
        reserved=2 * _GIB,
    ),
    # A display: BAR0 16 MiB of memory, BAR2 registers.
    LabDevice("bochs", (0x1234, 0x1111), "bochs-display,romfile="),
    # QEMU's teaching device: registers, DMA, INTx and MSI.
    LabDevice("edu", (0x1234, 0x11E8), "edu"),
    # A disk of 16 MiB of zeroes: MSI-X and bus mastering.
    LabDevice(
        "nvme",
        (0x1B36, 0x0010),
        "nvme,serial=lab,drive={id}",
        backend="driver=null-co,node-name={id},size=16777216,read-zeroes=on",
    ),
    # A read-only disk with the contents of `disk_contents`.
    LabDevice(
        "disk",
        (0x8086, 0x5845),
        "nvme,serial=disk,use-intel-id=on,drive={id}",
        backend="driver=file,node-name={id},filename={disk},read-only=on",
    ),
    # A network interface on a network of its own: QEMU is 10.0.2.2, which answers ping, and serves
    # the file disk.img by TFTP.
    LabDevice(
        "igb",
        (0x8086, 0x10C9),
        "igb,romfile=,netdev={id}",
        backend="user,id={id},restrict=on,tftp={directory}",
        backend_option="-netdev",
    ),
)
DEVICES = {device.name: device for device in _ALL}
NAMES = ("none", *DEVICES)


def lookup(names: Sequence[str]) -> list[LabDevice]:
    """Return the devices of these names, without "none". Raises `UsageError` if one is unknown."""
    for name in names:
        if name not in NAMES:
            raise UsageError(f"unknown device {name!r}: the lab has {', '.join(NAMES)}")
    return [DEVICES[name] for name in names if name in DEVICES]


def of_argument(argument: str) -> LabDevice:
    """Return the device of an argument of QEMU's ``-device``."""
    escaped = argument.replace("{", "{{").replace("}", "}}")
    return LabDevice(argument.partition(",")[0], None, escaped)


def address(slot: int) -> str:
    """Return the PCI address in the emulated host of device number `slot`, from 1."""
    return f"0000:{slot:02x}:00.0"


def bindings(devices: Sequence[LabDevice]) -> str:
    """Return the drivers that init.sh binds, as space-separated ``ADDRESS=DRIVER``."""
    return " ".join(f"{address(slot)}={each.driver}" for slot, each in enumerate(devices, 1))


def arguments(devices: Sequence[LabDevice]) -> list[str]:
    """Return QEMU's arguments for the devices."""
    argv = []
    for slot, device in enumerate(devices, 1):
        port, name = f"port{slot}", f"device{slot}"
        argv += ["-device", f"pcie-root-port,id={port},chassis={slot},slot={slot},addr={slot:#x}"]
        if device.backend:
            disk = _disk() if "{di" in device.backend else Path()
            paths = {"disk": option_value(disk), "directory": option_value(disk.parent)}
            argv += [device.backend_option, device.backend.format(id=name, **paths)]
        argv += ["-device", f"{device.qemu.format(id=name)},bus={port}"]
    return argv


def option_value(path: Path) -> str:
    """Return a path as the value of a ``KEY=VALUE`` option, in which QEMU wants commas doubled."""
    return str(path).replace(",", ",,")


def _disk() -> Path:
    """Return the image of the device "disk", in its own directory of the cache."""
    directory = cache.root() / "disk"
    with cache.create(directory) as partial:
        if partial is not None:
            partial.mkdir()
            (partial / "disk.img").write_bytes(disk_contents())
    return directory / "disk.img"


def disk_contents() -> bytes:
    """Return the contents of the device "disk"."""
    return hashlib.shake_128(b"pyvmm lab disk").digest(_DISK_SIZE)


def add_to_device_tree(
    devices: Sequence[LabDevice], memory: int, dtb: Path, fdtput: Sequence[str]
) -> None:
    """Add the memory of each grace device to a device tree.

    The memory follows the kernel's `memory` bytes of RAM. As the firmware of a real machine does,
    set the properties ``nvidia,gpu-mem-base-pa`` and ``nvidia,gpu-mem-size`` of the function's
    node, which the kernel finds by devfn below the root port's node. Raises `LackingError`.
    """
    put = [*fdtput, "-p", "-t", "x"]
    base = _RAM_BASE + memory
    for slot, device in enumerate(devices, 1):
        if not device.reserved:
            continue
        port = f"{_HOST_BRIDGE}/pci@{slot:x},0"
        function = f"{port}/gpu@0,0"
        for node, name, cells in (
            (port, "reg", (slot << 11, 0, 0, 0, 0)),  # devfn in bits 15:8
            (port, "#address-cells", (3,)),
            (port, "#size-cells", (2,)),
            (port, "ranges", ()),
            (function, "reg", (slot << 16, 0, 0, 0, 0)),  # bus in bits 23:16
            (function, "nvidia,gpu-mem-base-pa", (base >> 32, base & 0xFFFF_FFFF)),
            (function, "nvidia,gpu-mem-size", (_GRACE_MEMORY >> 32, _GRACE_MEMORY & 0xFFFF_FFFF)),
        ):
            values = [f"{cell:x}" for cell in cells]
            done = subprocess.run(
                [*put, dtb, node, name, *values], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise LackingError(f"fdtput cannot edit the device tree: {done.stderr.strip()}")
        base += device.reserved
