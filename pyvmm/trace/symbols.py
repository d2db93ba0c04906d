# SPDX-License-Identifier: GPL-2.0-only
"""Translate numbers into the names that the kernel headers define for them.

Covers capabilities, flags, types and indices in structs, one-reg ids, and device attributes
(Documentation/virt/kvm/devices/).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from pyvmm.arch.arm64 import registers as arm64
from pyvmm.uapi import kvm, kvm_arm64, kvm_x86_64, vfio
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import module as native

Symbol = Callable[[int], str | None]


def _one_of(prefix: str) -> Symbol:
    """Look the value up among the constants that start with `prefix`."""
    return lambda value: names(prefix).get(value)


@functools.cache
def _bits(prefix: str) -> dict[int, str]:
    return {
        value: name
        for value, name in names(prefix).items()
        if value > 0 and not value & (value - 1) and not name.endswith("_MASK")
    }


def _flags(prefix: str) -> Symbol:
    """Decode the value as a bit mask of constants that start with `prefix`."""

    def symbol(value: int) -> str | None:
        known = [(bit, name) for bit, name in _bits(prefix).items() if value & bit]
        rest = value & ~sum(bit for bit, _ in known)
        return "|".join([*(name for _, name in known), *([f"{rest:#x}"] if rest else [])]) or None

    return symbol


def _ending(suffix: str, prefix: str = "VFIO_") -> Symbol:
    """Look the value up among vfio's constants with this prefix and suffix."""
    found = {
        value: name
        for name, value in vars(vfio).items()
        if name.startswith(prefix) and name.endswith(suffix) and type(value) is int
    }
    return found.get


def _feature(value: int) -> str | None:
    """Decode ``vfio_device_feature.flags``: the feature number and the requested operations."""
    number = value & vfio.VFIO_DEVICE_FEATURE_MASK
    feature = _FEATURES.get(number, f"feature {number}")
    operations = (
        (vfio.VFIO_DEVICE_FEATURE_PROBE, "PROBE"),
        (vfio.VFIO_DEVICE_FEATURE_GET, "GET"),
        (vfio.VFIO_DEVICE_FEATURE_SET, "SET"),
    )
    return "|".join([feature, *(name for bit, name in operations if value & bit)])


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

# The key is "struct.member", or an ioctl's name if its argument is the number itself.
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
    # Members of a KVM exit's payload, by the kind of exit.
    "memory_fault.flags": _flags("KVM_MEMORY_EXIT_FLAG_"),
    "system_event.type": _one_of("KVM_SYSTEM_EVENT_"),
    "internal_error.suberror": _one_of("KVM_INTERNAL_ERROR_"),
}


def symbol_of(owner: str, value: int) -> str | None:
    """Return the name of `value`, or None: ``symbol_of("kvm_irqfd.flags", 1)``."""
    symbol = SYMBOLS.get(owner)
    return symbol(value) if symbol else None


def register_name(register: int) -> str:
    """Return the name of a one-reg id, or the id in hex if it has none."""
    if register & kvm.KVM_REG_ARCH_MASK == kvm.KVM_REG_ARM64:
        return arm64.name_of(register)
    return f"{register:#x}"


@dataclass(frozen=True)
class AttrGroup:
    """A group of device attributes.

    Attributes:
        size: the size in bytes of a value, 0 for attributes without a value.
        attributes: the name of each attribute by its number.
    """

    name: str
    size: int
    attributes: dict[int, str]


def attr_group(device: str, group: int) -> AttrGroup | None:
    """Return a group of a device ("kvm-arm-vgic-v3") or an fd kind ("vcpu"), or None."""
    return _ATTR_GROUPS.get((device, group))


def attr_name(device: str, group: int, attribute: int) -> str:
    """Return ``KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_V3_ADDR_TYPE_DIST``; numbers if unknown."""
    found = attr_group(device, group)
    if found is None:
        return f"{group}/{attribute:#x}"
    return f"{found.name}/{found.attributes.get(attribute, hex(attribute))}"


def _attr_groups(
    device: str, table: dict[str, tuple[int, str]]
) -> dict[tuple[str, int], AttrGroup]:
    """Return the groups in `table`: group name → (value size, prefixes of the attributes' names).

    Names are looked up in the headers of both architectures: a recording may come from either.
    """
    groups = {}
    for name, (size, prefixes) in table.items():
        attributes = {
            value: symbol
            for symbol, value in _CONSTANTS.items()
            if prefixes and symbol.startswith(tuple(prefixes.split())) and symbol != name
        }
        groups[device, _CONSTANTS[name]] = AttrGroup(name, size, attributes)
    return groups


_CONSTANTS: dict[str, int] = {
    name: value
    for module in (kvm, kvm_x86_64, kvm_arm64)
    for name, value in vars(module).items()
    if name.startswith("KVM_") and type(value) is int
}

_VGIC_CONTROL = "KVM_DEV_ARM_VGIC_CTRL_ KVM_DEV_ARM_ITS_ KVM_DEV_ARM_VGIC_SAVE_"

# A group number has a different meaning for each device and fd kind.
_ATTR_GROUPS: dict[tuple[str, int], AttrGroup] = {
    **_attr_groups(
        "kvm-arm-vgic-v3",
        {
            "KVM_DEV_ARM_VGIC_GRP_ADDR": (8, "KVM_VGIC_V3_ADDR_TYPE_"),
            "KVM_DEV_ARM_VGIC_GRP_DIST_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_NR_IRQS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CTRL": (0, _VGIC_CONTROL),
            "KVM_DEV_ARM_VGIC_GRP_REDIST_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS": (8, ""),
            "KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ": (4, ""),
        },
    ),
    **_attr_groups(
        "kvm-arm-vgic-v2",
        {
            "KVM_DEV_ARM_VGIC_GRP_ADDR": (8, "KVM_VGIC_V2_ADDR_TYPE_"),
            "KVM_DEV_ARM_VGIC_GRP_DIST_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CPU_REGS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_NR_IRQS": (4, ""),
            "KVM_DEV_ARM_VGIC_GRP_CTRL": (0, _VGIC_CONTROL),
        },
    ),
    **_attr_groups(
        "kvm-arm-vgic-its",
        {
            "KVM_DEV_ARM_VGIC_GRP_ADDR": (8, "KVM_VGIC_ITS_ADDR_TYPE"),
            "KVM_DEV_ARM_VGIC_GRP_CTRL": (0, _VGIC_CONTROL),
            "KVM_DEV_ARM_VGIC_GRP_ITS_REGS": (8, ""),
        },
    ),
    **_attr_groups("vm", {"KVM_ARM_VM_SMCCC_CTRL": (0, "KVM_ARM_VM_SMCCC_FILTER")}),
    **_attr_groups("kvm-vfio", {"KVM_DEV_VFIO_FILE": (4, "KVM_DEV_VFIO_FILE_")}),
    **(
        _attr_groups(
            "vcpu",
            {
                "KVM_ARM_VCPU_PMU_V3_CTRL": (4, "KVM_ARM_VCPU_PMU_V3_"),
                "KVM_ARM_VCPU_TIMER_CTRL": (4, "KVM_ARM_VCPU_TIMER_IRQ_"),
                "KVM_ARM_VCPU_PVTIME_CTRL": (8, "KVM_ARM_VCPU_PVTIME_"),
            },
        )
        if native is kvm_arm64
        else {
            **_attr_groups("vcpu", {"KVM_VCPU_TSC_CTRL": (8, "KVM_VCPU_TSC_OFFSET")}),
            **_attr_groups("system", {"KVM_X86_GRP_SYSTEM": (8, "KVM_X86_XCOMP_")}),
        }
    ),
}
