# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.symbols import SYMBOLS, symbol_of


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
def test_a_number_by_its_name(owner: str, value: int, name: str | None) -> None:
    assert symbol_of(owner, value) == name


@pytest.mark.parametrize("owner", SYMBOLS)
def test_any_number_has_a_name_or_none(owner: str) -> None:
    for value in (0, 1, 0xFFFF_FFFF, (1 << 64) - 1, -1):
        assert symbol_of(owner, value) is None or symbol_of(owner, value)
