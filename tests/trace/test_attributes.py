# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.trace.attributes import group_of, name_of


@pytest.mark.parametrize(
    ("device", "group", "attribute", "name"),
    [
        ("kvm-arm-vgic-v3", 0, 2, "KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_V3_ADDR_TYPE_DIST"),
        ("kvm-arm-vgic-v3", 4, 0, "KVM_DEV_ARM_VGIC_GRP_CTRL/KVM_DEV_ARM_VGIC_CTRL_INIT"),
        ("kvm-arm-vgic-v3", 3, 0, "KVM_DEV_ARM_VGIC_GRP_NR_IRQS/0x0"),
        ("kvm-arm-vgic-its", 0, 4, "KVM_DEV_ARM_VGIC_GRP_ADDR/KVM_VGIC_ITS_ADDR_TYPE"),
        ("kvm-vfio", 1, 1, "KVM_DEV_VFIO_FILE/KVM_DEV_VFIO_FILE_ADD"),
        ("kvm-vfio", 9, 0x1F, "9/0x1f"),
        ("no such device", 0, 0, "0/0x0"),
    ],
)
def test_an_attribute_by_name(device: str, group: int, attribute: int, name: str) -> None:
    assert name_of(device, group, attribute) == name


@pytest.mark.needs_arch("x86_64")
def test_what_a_group_means_depends_on_the_fd() -> None:
    assert name_of("vcpu", 0, 0) == "KVM_VCPU_TSC_CTRL/KVM_VCPU_TSC_OFFSET"
    assert name_of("system", 0, 0) == "KVM_X86_GRP_SYSTEM/KVM_X86_XCOMP_GUEST_SUPP"


def test_a_group_without_values_has_none() -> None:
    group = group_of("kvm-arm-vgic-v3", 4)
    assert group
    assert group.size == 0
