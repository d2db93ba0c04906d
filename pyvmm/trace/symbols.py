# SPDX-License-Identifier: GPL-2.0-only
"""Numbers by the names that the headers have for them: capabilities, flags, types, indices."""

import functools
from collections.abc import Callable

from pyvmm.uapi import vfio
from pyvmm.uapi.names import names

Symbol = Callable[[int], str | None]


def _one_of(prefix: str) -> Symbol:
    """The value is one of the constants that start with `prefix`."""
    return lambda value: names(prefix).get(value)


@functools.cache
def _bits(prefix: str) -> dict[int, str]:
    return {
        value: name
        for value, name in names(prefix).items()
        if value > 0 and not value & (value - 1) and not name.endswith("_MASK")
    }


def _flags(prefix: str) -> Symbol:
    """The value is a set of bits, each a constant that starts with `prefix`."""

    def symbol(value: int) -> str | None:
        known = [(bit, name) for bit, name in _bits(prefix).items() if value & bit]
        rest = value & ~sum(bit for bit, _ in known)
        return "|".join([*(name for _, name in known), *([f"{rest:#x}"] if rest else [])]) or None

    return symbol


def _ending(suffix: str, prefix: str = "VFIO_") -> Symbol:
    """The value is one of vfio's constants that begin and end so."""
    found = {
        value: name
        for name, value in vars(vfio).items()
        if name.startswith(prefix) and name.endswith(suffix) and type(value) is int
    }
    return found.get


def _feature(value: int) -> str | None:
    """``vfio_device_feature.flags``: a feature's number, and what is wanted of it."""
    number = value & vfio.VFIO_DEVICE_FEATURE_MASK
    feature = _FEATURES.get(number, f"feature {number}")
    wants = (
        (vfio.VFIO_DEVICE_FEATURE_PROBE, "PROBE"),
        (vfio.VFIO_DEVICE_FEATURE_GET, "GET"),
        (vfio.VFIO_DEVICE_FEATURE_SET, "SET"),
    )
    return "|".join([feature, *(name for bit, name in wants if value & bit)])


_FEATURES = {
    number: f"VFIO_DEVICE_FEATURE_{name}"
    for name in (
        "PCI_VF_TOKEN",
        "MIGRATION",
        "MIG_DEVICE_STATE",
        "LOW_POWER_ENTRY",
        "LOW_POWER_ENTRY_WITH_WAKEUP",
        "LOW_POWER_EXIT",
        "DMA_LOGGING_START",
        "DMA_LOGGING_STOP",
        "DMA_LOGGING_REPORT",
        "MIG_DATA_SIZE",
        "BUS_MASTER",
        "DMA_BUF",
    )
    if (number := getattr(vfio, f"VFIO_DEVICE_FEATURE_{name}", None)) is not None
}

_CAPABILITY, _IOMMU_TYPE = _one_of("KVM_CAP_"), _ending("_IOMMU")
_MEMSLOT = _flags("KVM_MEM_")

# By "struct.member", or by the ioctl's name where its argument is the number itself.
SYMBOLS: dict[str, Symbol] = {
    "KVM_CHECK_EXTENSION": _CAPABILITY,
    "VFIO_CHECK_EXTENSION": _IOMMU_TYPE,
    "VFIO_SET_IOMMU": _IOMMU_TYPE,
    "kvm_create_device.type": _one_of("KVM_DEV_TYPE_"),
    "kvm_create_guest_memfd.flags": _flags("GUEST_MEMFD_FLAG_"),
    "kvm_enable_cap.cap": _CAPABILITY,
    "kvm_guest_debug.control": _flags("KVM_GUESTDBG_"),
    "kvm_ioeventfd.flags": _flags("KVM_IOEVENTFD_FLAG_"),
    "kvm_irq_routing_entry.type": _one_of("KVM_IRQ_ROUTING_"),
    "kvm_irqchip.chip_id": _one_of("KVM_IRQCHIP_"),
    "kvm_irqfd.flags": _flags("KVM_IRQFD_FLAG_"),
    "kvm_memory_attributes.attributes": _flags("KVM_MEMORY_ATTRIBUTE_"),
    "kvm_mp_state.mp_state": _one_of("KVM_MP_STATE_"),
    "kvm_msi.flags": _flags("KVM_MSI_"),
    "kvm_clock_data.flags": _flags("KVM_CLOCK_"),
    "kvm_userspace_memory_region.flags": _MEMSLOT,
    "kvm_userspace_memory_region2.flags": _MEMSLOT,
    "kvm_vcpu_init.target": _one_of("KVM_ARM_TARGET_"),
    "iommu_hwpt_alloc.flags": _flags("IOMMU_HWPT_ALLOC_"),
    "iommu_hwpt_alloc.data_type": _one_of("IOMMU_HWPT_DATA_"),
    "iommu_hw_info.out_data_type": _one_of("IOMMU_HW_INFO_TYPE_"),
    "iommu_ioas_copy.flags": _flags("IOMMU_IOAS_MAP_"),
    "iommu_ioas_map.flags": _flags("IOMMU_IOAS_MAP_"),
    "iommu_ioas_map_file.flags": _flags("IOMMU_IOAS_MAP_"),
    "iommu_option.option_id": _one_of("IOMMU_OPTION_"),
    "iommu_vfio_ioas.op": _one_of("IOMMU_VFIO_IOAS_"),
    "vfio_device_feature.flags": _feature,
    "vfio_device_info.flags": _flags("VFIO_DEVICE_FLAGS_"),
    "vfio_group_status.flags": _flags("VFIO_GROUP_FLAGS_"),
    "vfio_iommu_type1_dma_map.flags": _flags("VFIO_DMA_MAP_FLAG_"),
    "vfio_iommu_type1_dma_unmap.flags": _flags("VFIO_DMA_UNMAP_FLAG_"),
    "vfio_irq_info.flags": _flags("VFIO_IRQ_INFO_"),
    "vfio_irq_info.index": _ending("_IRQ_INDEX", "VFIO_PCI_"),
    "vfio_irq_set.flags": _flags("VFIO_IRQ_SET_"),
    "vfio_irq_set.index": _ending("_IRQ_INDEX", "VFIO_PCI_"),
    "vfio_region_info.flags": _flags("VFIO_REGION_INFO_FLAG_"),
    "vfio_region_info.index": _ending("_REGION_INDEX", "VFIO_PCI_"),
    # Members of an exit's payload, by its kind.
    "memory_fault.flags": _flags("KVM_MEMORY_EXIT_FLAG_"),
    "system_event.type": _one_of("KVM_SYSTEM_EVENT_"),
    "internal_error.suberror": _one_of("KVM_INTERNAL_ERROR_"),
}


def symbol_of(owner: str, value: int) -> str | None:
    """The name of `value` where the headers have one: ``symbol_of("kvm_irqfd.flags", 1)``."""
    symbol = SYMBOLS.get(owner)
    return symbol(value) if symbol else None
