# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.symbols import SYMBOLS, attr_group, attr_name, symbol_of


@pytest.mark.parametrize(
    ("owner", "value", "name"),
    [
        ("KVM_CHECK_EXTENSION", 0, "KVM_CAP_IRQCHIP"),
        ("kvm_userspace_memory_region.flags", 3, "KVM_MEM_LOG_DIRTY_PAGES|KVM_MEM_READONLY"),
        ("kvm_userspace_memory_region.flags", 0x82, "KVM_MEM_READONLY|0x80"),
        ("kvm_userspace_memory_region.flags", 0, None),
        ("kvm_create_device.type", 7, "KVM_DEV_TYPE_ARM_VGIC_V3"),
        ("VFIO_SET_IOMMU", 3, "VFIO_TYPE1v2_IOMMU"),
        ("vfio_region_info.index", 4, "VFIO_PCI_BAR4_REGION_INDEX"),
        ("vfio_irq_info.index", 2, "VFIO_PCI_MSIX_IRQ_INDEX"),
        ("vfio_device_feature.flags", 0x5000B, "VFIO_DEVICE_FEATURE_DMA_BUF|PROBE|GET"),
        ("vfio_device_feature.flags", 0x203FF, "feature 1023|SET"),
        (
            "iommu_ioas_map.flags",
            7,
            "IOMMU_IOAS_MAP_FIXED_IOVA|IOMMU_IOAS_MAP_WRITEABLE|IOMMU_IOAS_MAP_READABLE",
        ),
        ("memory_fault.flags", 8, "KVM_MEMORY_EXIT_FLAG_PRIVATE"),
        ("system_event.type", 1, "KVM_SYSTEM_EVENT_SHUTDOWN"),
        ("no.such", 1, None),
    ],
)
def test_symbol_of(owner: str, value: int, name: str | None) -> None:
    assert symbol_of(owner, value) == name


@pytest.mark.parametrize("owner", SYMBOLS)
def test_any_number_has_a_name_or_none(owner: str) -> None:
    for value in (0, 1, 0xFFFF_FFFF, (1 << 64) - 1, -1):
        assert symbol_of(owner, value) is None or symbol_of(owner, value)


@pytest.mark.parametrize(
    ("device", "group", "attribute", "name"),
    [
        ("kvm-arm-vgic-v3", 0, 2, "KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_V3_ADDR_TYPE_DIST"),
        ("kvm-arm-vgic-v3", 4, 0, "KVM_DEV_ARM_VGIC_GRP_CTRL/KVM_DEV_ARM_VGIC_CTRL_INIT"),
        ("kvm-arm-vgic-v3", 3, 0, "KVM_DEV_ARM_VGIC_GRP_NR_IRQS/0x0"),
        ("vm", 0, 0, "KVM_ARM_VM_SMCCC_CTRL/KVM_ARM_VM_SMCCC_FILTER"),
        ("kvm-arm-vgic-its", 0, 4, "KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_ITS_ADDR_TYPE"),
        ("kvm-vfio", 1, 1, "KVM_DEV_VFIO_FILE/KVM_DEV_VFIO_FILE_ADD"),
        ("kvm-vfio", 9, 0x1F, "9/0x1f"),
        ("no such device", 0, 0, "0/0x0"),
    ],
)
def test_attr_name(device: str, group: int, attribute: int, name: str) -> None:
    assert attr_name(device, group, attribute) == name


@pytest.mark.needs_arch("x86_64")
def test_attr_name_depends_on_the_fd() -> None:
    assert attr_name("vcpu", 0, 0) == "KVM_VCPU_TSC_CTRL/KVM_VCPU_TSC_OFFSET"
    assert attr_name("system", 0, 0) == "KVM_X86_GRP_SYSTEM/KVM_X86_XCOMP_GUEST_SUPP"


def test_group_without_values_has_size_0() -> None:
    group = attr_group("kvm-arm-vgic-v3", 4)
    assert group
    assert group.size == 0
