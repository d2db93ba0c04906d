# SPDX-License-Identifier: GPL-2.0-only
"""What can happen to a device's memory behind a memslot. Each needs a device that vfio has."""

import os
from pathlib import Path

from pyvmm.errors import SkippedError
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.assigned import PlacedBar
from pyvmm.provoke import raw_mmap
from pyvmm.provoke.testbed import SIZE, WHERE, Provocation, Testbed, function_of
from pyvmm.vfio.sysfs import PciFunction

_VFIO_PCI, _NVGRACE = "vfio-pci", "nvgrace_gpu_vfio_pci"
_CACHEABLE = "BAR4"  # of the latter: the GPU's memory, mapped cacheable

_COMMAND = 0x04  # linux/pci_regs.h
_COMMAND_MEMORY = 1 << 1

_BLR_X2 = 0xD63F0040
_LDR_X4_X2 = 0xF9400044
_DC_ZVA_X2 = 0xD50B7422


def _bar(testbed: Testbed, device: AssignedDevice) -> PlacedBar:
    """A BAR that is a memslot, for the guest to see."""
    for bar in device.bars:
        if any(slot.slot is not None for slot in bar.slots):
            return testbed.see(bar)
    raise SkippedError(f"{device.device.function} has no BAR that can be a memslot")


def _registered(testbed: Testbed) -> None:
    _read_cacheable(testbed, testbed.assign(_NVGRACE))


def _flipped(testbed: Testbed) -> None:
    _read_cacheable(testbed, testbed.assign(_NVGRACE, flip=(_CACHEABLE,)))


def _read_cacheable(testbed: Testbed, device: AssignedDevice) -> None:
    [bar] = [bar for bar in device.bars if bar.region.name == _CACHEABLE]
    testbed.rejected = next((slot for slot in bar.slots if slot.outcome == "rejected"), None)
    testbed.read(testbed.see(bar).gpa)


def _switched_off(testbed: Testbed) -> None:
    device = testbed.assign(_VFIO_PCI)
    bar = _bar(testbed, device)
    device.device.config.enable_memory(False)
    testbed.read(bar.gpa)


def _fetched(testbed: Testbed) -> None:
    bar = _bar(testbed, testbed.assign(_VFIO_PCI))
    testbed.carry_out([_BLR_X2], (0, 0, bar.gpa))


def _does_not_answer(testbed: Testbed) -> None:
    """The host switches the BAR off behind vfio's back, through sysfs: vfio leaves it mapped."""
    device = testbed.assign(_VFIO_PCI)
    bar = _bar(testbed, device)
    config = os.open(device.device.function.path / "config", os.O_RDWR | os.O_CLOEXEC)
    testbed.own(config)
    command = int.from_bytes(os.pread(config, 2, _COMMAND), "little")
    testbed.finally_do(lambda: os.pwrite(config, command.to_bytes(2, "little"), _COMMAND))
    os.pwrite(config, (command & ~_COMMAND_MEMORY).to_bytes(2, "little"), _COMMAND)
    testbed.read(bar.gpa)


def _copied_on_write(testbed: Testbed) -> None:
    _map_through_sysfs(testbed, private=True)
    testbed.write()


def _unaligned(testbed: Testbed) -> None:
    _map_through_sysfs(testbed)
    testbed.carry_out([_LDR_X4_X2], (0, 0, WHERE + 4))


def _zeroed(testbed: Testbed) -> None:
    _map_through_sysfs(testbed)
    testbed.carry_out([_DC_ZVA_X2], (0, 0, WHERE))


def _map_through_sysfs(testbed: Testbed, *, private: bool = False) -> None:
    """Map a BAR without vfio, over anonymous memory that is registered."""
    fd = os.open(_mappable(function_of(_VFIO_PCI)), os.O_RDWR | os.O_CLOEXEC)
    testbed.own(fd)
    raw_mmap.map_file(testbed.anonymous(), SIZE, fd, private=private)


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
