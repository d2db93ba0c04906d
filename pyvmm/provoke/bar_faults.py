# SPDX-License-Identifier: GPL-2.0-only
"""What can happen to a device's memory behind a memslot. Each needs a device that vfio has."""

import os
from pathlib import Path

from pyvmm.errors import SkippedError
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.assigned import PlacedBar
from pyvmm.provoke import raw
from pyvmm.provoke.scene import SIZE, WHERE, Provocation, Scene, function_of
from pyvmm.vfio.sysfs import PciFunction

_VFIO_PCI, _NVGRACE = "vfio-pci", "nvgrace_gpu_vfio_pci"
_CACHEABLE = "BAR4"  # of the latter: the GPU's memory, mapped cacheable

_COMMAND = 0x04  # linux/pci_regs.h
_COMMAND_MEMORY = 1 << 1

_BLR_X2 = 0xD63F0040
_LDR_X4_X2 = 0xF9400044
_DC_ZVA_X2 = 0xD50B7422


def _bar(scene: Scene, device: AssignedDevice) -> PlacedBar:
    """A BAR that is a memslot, for the guest to see."""
    for bar in device.bars:
        if any(slot.slot is not None for slot in bar.slots):
            return scene.see(bar)
    raise SkippedError(f"{device.device.function} has no BAR that can be a memslot")


def _registered(scene: Scene) -> None:
    _read_cacheable(scene, scene.assign(_NVGRACE))


def _flipped(scene: Scene) -> None:
    _read_cacheable(scene, scene.assign(_NVGRACE, flip=(_CACHEABLE,)))


def _read_cacheable(scene: Scene, device: AssignedDevice) -> None:
    [bar] = [bar for bar in device.bars if bar.region.name == _CACHEABLE]
    scene.rejected = next((slot for slot in bar.slots if slot.outcome == "rejected"), None)
    scene.read(scene.see(bar).gpa)


def _switched_off(scene: Scene) -> None:
    device = scene.assign(_VFIO_PCI)
    bar = _bar(scene, device)
    device.device.config.enable_memory(False)
    scene.read(bar.gpa)


def _fetched(scene: Scene) -> None:
    bar = _bar(scene, scene.assign(_VFIO_PCI))
    scene.carry_out([_BLR_X2], (0, 0, bar.gpa))


def _does_not_answer(scene: Scene) -> None:
    """The host switches the BAR off behind vfio's back, through sysfs: vfio leaves it mapped."""
    device = scene.assign(_VFIO_PCI)
    bar = _bar(scene, device)
    config = os.open(device.device.function.path / "config", os.O_RDWR | os.O_CLOEXEC)
    scene.own(config)
    command = int.from_bytes(os.pread(config, 2, _COMMAND), "little")
    scene.finally_do(lambda: os.pwrite(config, command.to_bytes(2, "little"), _COMMAND))
    os.pwrite(config, (command & ~_COMMAND_MEMORY).to_bytes(2, "little"), _COMMAND)
    scene.read(bar.gpa)


def _copied_on_write(scene: Scene) -> None:
    _map_through_sysfs(scene, private=True)
    scene.write()


def _unaligned(scene: Scene) -> None:
    _map_through_sysfs(scene)
    scene.carry_out([_LDR_X4_X2], (0, 0, WHERE + 4))


def _zeroed(scene: Scene) -> None:
    _map_through_sysfs(scene)
    scene.carry_out([_DC_ZVA_X2], (0, 0, WHERE))


def _map_through_sysfs(scene: Scene, *, private: bool = False) -> None:
    """Map a BAR without vfio, over anonymous memory that is registered."""
    fd = os.open(_mappable(function_of(_VFIO_PCI)), os.O_RDWR | os.O_CLOEXEC)
    scene.own(fd)
    raw.map_file(scene.anonymous(), SIZE, fd, private=private)


def _mappable(function: PciFunction) -> Path:
    """sysfs's file of a BAR that is large enough."""
    for path in sorted(function.path.glob("resource?")):
        if path.stat().st_size >= SIZE:
            return path
    raise SkippedError(f"{function} has no BAR of {SIZE:#x} bytes")


PROVOCATIONS = (
    Provocation(
        "cacheable-registered",
        "a memslot over a cacheable BAR",
        "cacheable-pfnmap-unsupported",
        _registered,
    ),
    Provocation(
        "cacheable-flipped",
        "mmap(MAP_FIXED) of a cacheable BAR over registered anonymous memory",
        "cacheable-pfnmap-unsupported",
        _flipped,
    ),
    Provocation(
        "memory-off",
        "the device's memory switched off through vfio's config region",
        "device-memory-off",
        _switched_off,
    ),
    Provocation(
        "fetched",
        "a call into a BAR",
        None,  # KVM gives the guest an external abort itself (ENOEXEC in user_mem_abort)
        _fetched,
    ),
    Provocation(
        "does-not-answer",
        "the device's memory switched off behind vfio's back, through sysfs",
        # Where the bus answers for a device that does not, with all ones, there is no abort; and
        # QEMU's CPU gives the guest its abort without asking EL2 (it lacks HCR_EL2.TEA).
        "external-abort",
        _does_not_answer,
    ),
    Provocation(
        "private-pfnmap",
        "a write to a private mapping of a BAR",
        "pfnmap-not-writable",
        _copied_on_write,
    ),
    Provocation(
        "unaligned",
        "an unaligned LDR from a BAR that sysfs has mapped",
        "device-unaligned",
        _unaligned,
    ),
    # QEMU's CPU does it without a fault.
    Provocation("zeroed", "DC ZVA to such a BAR", "device-unaligned", _zeroed),
)
