# SPDX-License-Identifier: GPL-2.0-only
"""Numbers have their C names."""

import pytest

from pyvmm.uapi.names import names


def test_exit_reasons_have_no_gaps() -> None:
    assert list(names("KVM_EXIT_")) == list(range(44))


def test_capabilities_include_names_that_extend_another() -> None:
    capabilities = names("KVM_CAP_")
    assert capabilities[32] == "KVM_CAP_IRQFD"
    assert capabilities[82] == "KVM_CAP_IRQFD_RESAMPLE"
    assert capabilities[243] == "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED"


@pytest.mark.parametrize(
    ("prefix", "value", "name"),
    [
        ("KVM_EXIT_", 6, "KVM_EXIT_MMIO"),
        ("KVM_EXIT_", 1, "KVM_EXIT_EXCEPTION"),  # not KVM_EXIT_IO_OUT
        ("KVM_SYSTEM_EVENT_", 1, "KVM_SYSTEM_EVENT_SHUTDOWN"),
        ("VFIO_REGION_INFO_FLAG_", 4, "VFIO_REGION_INFO_FLAG_MMAP"),
        ("IOMMU_HW_INFO_TYPE_", 2, "IOMMU_HW_INFO_TYPE_ARM_SMMUV3"),
    ],
)
def test_names(prefix: str, value: int, name: str) -> None:
    assert names(prefix)[value] == name


def test_an_unknown_prefix() -> None:
    assert names("KVM_NO_SUCH_") == {}
