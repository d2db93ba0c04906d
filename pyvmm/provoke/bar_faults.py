# SPDX-License-Identifier: GPL-2.0-only
"""Faults at the BARs of vfio devices. Each needs a device bound to a vfio driver."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from pyvmm.errno_names import errno_name
from pyvmm.errors import SkippedError
from pyvmm.faults import Fault, Fix
from pyvmm.ioctl import IoctlError
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.assigned import PlacedBar
from pyvmm.provoke import fixed_mmap
from pyvmm.provoke.testbed import (
    TARGET_GPA,
    TARGET_SIZE,
    Provocation,
    Testbed,
    find_function,
    first_remedy,
)
from pyvmm.vfio.device_features import enter_low_power, exit_low_power
from pyvmm.vfio.iommu_modes import AUTO, open_device
from pyvmm.vfio.sysfs import PciFunction, list_functions

VFIO_PCI, _NVGRACE = "vfio-pci", "nvgrace_gpu_vfio_pci"
_CACHEABLE = "BAR4"  # nvgrace_gpu_vfio_pci maps this BAR, the GPU's memory, cacheable

_COMMAND = 0x04  # linux/pci_regs.h
_COMMAND_MEMORY = 1 << 1

_BY_FWB_AND_DIC = "a CPU with FWB and DIC, which maps it cacheable"

_D0, _D3HOT = 0, 3  # PCI_PM_CTRL_STATE_MASK

# drivers/vfio/pci/nvgrace-gpu/main.c: in BAR0, C2C_LINK_BAR0_OFFSET and HBM_TRAINING_BAR0_OFFSET
_READY_REGISTERS = (0x1498, 0x200BC)
_READY = 0xFF

_BLR_X2 = 0xD63F0040
_RET = 0xD65F03C0
_LDR_X4_X2 = 0xF9400044
_DC_ZVA_X2 = 0xD50B7422


def map_memslot_bar(testbed: Testbed, device: AssignedDevice) -> PlacedBar:
    """Map the first BAR with a memslot in the guest. Raises `SkippedError` if there is none."""
    for bar in device.bars:
        if any(slot.slot is not None for slot in bar.slots):
            return testbed.map_bar(bar)
    raise SkippedError(f"{device.device.function} has no BAR that can be a memslot")


def _register_cacheable(testbed: Testbed) -> None:
    _read_cacheable(testbed, testbed.assign(_NVGRACE))


def _replace_by_cacheable(testbed: Testbed) -> None:
    _read_cacheable(testbed, testbed.assign(_NVGRACE, flip=(_CACHEABLE,)))


def _read_cacheable(testbed: Testbed, device: AssignedDevice) -> None:
    testbed.need_device_memory()
    [bar] = [bar for bar in device.bars if bar.region.name == _CACHEABLE]
    testbed.rejected = next((slot for slot in bar.slots if slot.outcome == "rejected"), None)
    testbed.read(testbed.map_bar(bar).gpa)


def _disable_memory(testbed: Testbed) -> None:
    device = testbed.assign(VFIO_PCI)
    bar = map_memslot_bar(testbed, device)
    device.device.config.enable_memory(False)
    testbed.read(bar.gpa)


def _enter_d3hot(testbed: Testbed) -> None:
    device = _assign_with_power_states(testbed)
    bar = map_memslot_bar(testbed, device)
    device.device.config.set_power_state(_D3HOT)
    testbed.read(bar.gpa)


def _assign_with_power_states(testbed: Testbed) -> AssignedDevice:
    """Assign the first device that has power states. Raises `SkippedError` if none has."""
    for function in list_functions():
        if function.driver == VFIO_PCI:
            with open_device(str(function), AUTO) as device, suppress(SkippedError):
                device.config.set_power_state(_D0)
                break
    else:
        raise SkippedError("needs a device with power states: in the lab, --device nvme")
    return testbed.stack.enter_context(AssignedDevice(testbed.machine, str(function)))


def _enter_low_power(testbed: Testbed) -> None:
    device = testbed.assign(VFIO_PCI)
    bar = map_memslot_bar(testbed, device)
    try:
        enter_low_power(device.device.fd)
    except IoctlError as error:
        raise SkippedError(f"this kernel has no runtime suspend of vfio devices: {error}") from None
    testbed.stack.callback(exit_low_power, device.device.fd)
    testbed.read(bar.gpa)


def _reset_gpu(testbed: Testbed) -> None:
    """Reset a GPU whose memory becomes ready only after the kernel stopped waiting for it."""
    device = testbed.assign(_NVGRACE)
    by_name = {bar.region.name: bar for bar in device.bars}
    registers = by_name["BAR0"].region

    def set_ready(status: int) -> None:
        for offset in _READY_REGISTERS:
            registers.write(offset, status.to_bytes(4, "little"))

    def become_ready(fault: Fault) -> Fix:
        set_ready(_READY)
        return first_remedy(fault)

    testbed.machine.faults.policy = become_ready
    testbed.stack.callback(set_ready, _READY)
    device.device.reset()
    set_ready(0)
    testbed.read(testbed.map_bar(by_name["BAR2"]).gpa)


def _call_bar(testbed: Testbed) -> None:
    bar = map_memslot_bar(testbed, testbed.assign(VFIO_PCI))
    testbed.execute([_BLR_X2], (0, 0, bar.gpa))


def _call_cacheable_bar(testbed: Testbed) -> None:
    testbed.need_device_memory()
    device = testbed.assign(_NVGRACE)
    [bar] = [bar for bar in device.bars if bar.region.name == _CACHEABLE]
    if any(slot.outcome == "rejected" for slot in bar.slots):
        raise SkippedError("needs a CPU with FWB and DIC: in the lab, --cpu max")
    bar.mapping.memory.write(0, _RET.to_bytes(4, "little"))
    testbed.execute([_BLR_X2], (0, 0, testbed.map_bar(bar).gpa))


def _disable_memory_in_sysfs(testbed: Testbed) -> None:
    """Clear the memory enable bit through sysfs; vfio does not notice and keeps the mmap."""
    testbed.need_device_memory()
    device = testbed.assign(VFIO_PCI)
    bar = map_memslot_bar(testbed, device)
    config = os.open(device.device.function.path / "config", os.O_RDWR | os.O_CLOEXEC)
    testbed.stack.callback(os.close, config)
    command = int.from_bytes(os.pread(config, 2, _COMMAND), "little")
    testbed.stack.callback(os.pwrite, config, command.to_bytes(2, "little"), _COMMAND)
    os.pwrite(config, (command & ~_COMMAND_MEMORY).to_bytes(2, "little"), _COMMAND)
    testbed.read(bar.gpa)


def _write_private_mapping(testbed: Testbed) -> None:
    _map_through_sysfs(testbed, private=True)
    testbed.write()


def _read_private_usemem(testbed: Testbed) -> None:
    function = str(find_function(_NVGRACE))
    region = testbed.stack.enter_context(open_device(function, AUTO)).regions[_CACHEABLE]
    hva, fd = testbed.add_anonymous(), region.device.fileno()
    try:
        fixed_mmap.map_file(hva, TARGET_SIZE, fd, offset=region.offset, private=True)
    except OSError as error:
        number = errno_name(error.errno or 0)
        raise SkippedError(
            f"this kernel rejects a private mapping of {_CACHEABLE} ({number}), as it should"
        ) from None
    testbed.read()


def _load_unaligned(testbed: Testbed) -> None:
    _map_through_sysfs(testbed)
    testbed.execute([_LDR_X4_X2], (0, 0, TARGET_GPA + 4))


def _zero_block(testbed: Testbed) -> None:
    _map_through_sysfs(testbed)
    testbed.execute([_DC_ZVA_X2], (0, 0, TARGET_GPA))


def _map_through_sysfs(testbed: Testbed, *, private: bool = False) -> None:
    """Map a BAR through sysfs over registered anonymous memory.

    vfio has the device open, too: an idle one is in D3hot or has its memory space disabled, and
    then does not respond.
    """
    testbed.need_device_memory()
    function, path = _find_prefetchable_bar()
    device = testbed.stack.enter_context(open_device(str(function), AUTO))
    device.config.enable_memory()
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    testbed.stack.callback(os.close, fd)
    hva = testbed.add_anonymous()
    try:
        fixed_mmap.map_file(hva, TARGET_SIZE, fd, private=private)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # pci_mmap_resource in drivers/pci/pci-sysfs.c
        raise SkippedError(
            "this kernel maps no BAR of a bound device through sysfs (CONFIG_IO_STRICT_DEVMEM): "
            "boot it with iomem=relaxed"
        ) from None


def _find_prefetchable_bar() -> tuple[PciFunction, Path]:
    """Return a function bound to vfio-pci and the sysfs file of a prefetchable BAR of it.

    A fix makes the kernel copy from the BAR, in accesses of any size. Only a prefetchable BAR
    allows that: others may reject the size, which is an external abort and an oops. Raises
    `SkippedError` if there is none of `TARGET_SIZE` bytes.
    """
    for function in list_functions():
        if function.driver == VFIO_PCI:
            for path in sorted(function.path.glob("resource?_wc")):
                if path.stat().st_size >= TARGET_SIZE:
                    return function, path.with_name(path.name.removesuffix("_wc"))
    raise SkippedError(
        f"needs a device bound to {VFIO_PCI} with a prefetchable BAR: in the lab, --device bochs"
    )


PROVOCATIONS = (
    Provocation(
        "cacheable-registered",
        "a memslot over a cacheable BAR",
        "cacheable-pfnmap-unsupported",
        _register_cacheable,
        resolved_by=_BY_FWB_AND_DIC,
    ),
    Provocation(
        "cacheable-flipped",
        "mmap(MAP_FIXED) of a cacheable BAR over registered anonymous memory",
        "cacheable-pfnmap-unsupported",
        _replace_by_cacheable,
        resolved_by=_BY_FWB_AND_DIC,
    ),
    Provocation(
        "memory-off",
        "the device's memory switched off through vfio's config region",
        "device-memory-off",
        _disable_memory,
    ),
    Provocation(
        "d3hot",
        "the device in D3hot, by a write to vfio's config region",
        "device-memory-off",
        _enter_d3hot,
    ),
    Provocation(
        "low-power",
        "VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY",
        "device-not-ready",
        _enter_low_power,
    ),
    Provocation(
        "gpu-reset",
        "VFIO_DEVICE_RESET of a GPU whose memory is not ready within 30 s",
        "device-not-ready",
        _reset_gpu,
        resolved_by="kernels before 6.19, which do not wait for the memory",
    ),
    Provocation(
        "fetched",
        "a call into a BAR",
        None,  # KVM injects an external abort itself (ENOEXEC in user_mem_abort)
        _call_bar,
    ),
    Provocation(
        "fetched-cacheable",
        "a call into a cacheable BAR",
        None,  # cacheable PFNMAP memory is executable
        _call_cacheable_bar,
    ),
    Provocation(
        "does-not-answer",
        "the device's memory switched off behind vfio's back, through sysfs",
        "external-abort",
        _disable_memory_in_sysfs,
        # QEMU's CPU lacks HCR_EL2.TEA.
        resolved_by="a bus that completes the read with all ones; a CPU that takes the abort to "
        "EL1, where KVM does not see it",
    ),
    Provocation(
        "private-pfnmap",
        "a write to a private mapping of a BAR",
        "pfnmap-not-writable",
        _write_private_mapping,
    ),
    Provocation(
        "private-usemem",
        "a read of a private mapping of a BAR that nvgrace_gpu_vfio_pci maps cacheable",
        None,
        _read_private_usemem,
        # nvgrace_gpu_mmap lacks the VM_SHARED check of vfio_pci_core_mmap.
        harm="a BUG in vmf_insert_pfn_prot crashes the kernel; runs only by this name",
        crashes=True,
    ),
    Provocation(
        "unaligned",
        "an unaligned LDR from a BAR that sysfs has mapped",
        "device-unaligned",
        _load_unaligned,
    ),
    Provocation(
        "zeroed",
        "DC ZVA to such a BAR",
        "device-unaligned",
        _zero_block,
        resolved_by="a CPU that allows DC ZVA on Device memory, such as QEMU's",
    ),
)
