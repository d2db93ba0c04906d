# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.arch.arm64 import setup
from pyvmm.arch.arm64.vgic import GicLayout, create_gic, create_its
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System, Vm
from pyvmm.uapi.kvm_arm64 import (
    KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    KVM_VGIC_V3_ADDR_TYPE_DIST,
)


def test_frames_are_consecutive() -> None:
    layout = GicLayout.at(0x800_0000, vcpus=2)
    assert layout == GicLayout(0x800_0000, 0x801_0000, 0x805_0000)
    assert layout.end == 0x807_0000


@pytest.fixture
def two_vcpus(kvm: System, vm: Vm) -> Vm:
    for index in range(2):
        setup.prepare(kvm, vm, vm.create_vcpu(index), index)
    return vm


@pytest.mark.needs_arch("aarch64")
def test_a_gic_with_an_its(two_vcpus: Vm) -> None:
    layout = GicLayout.at(0x800_0000, vcpus=2)
    gic = create_gic(two_vcpus, layout, irqs=96)
    create_its(two_vcpus, layout)
    assert gic.get_attr(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0) == 96
    distributor = gic.get_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST)
    assert distributor == layout.distributor


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize(
    ("layout", "irqs", "expect"),
    [
        (GicLayout(0x800_1000, 0x801_0000, 0), 96, errno.EINVAL),  # not on 64 KiB
        (GicLayout(0x800_0000, 0x801_0000, 0), 33, errno.EINVAL),  # not a multiple of 32
    ],
)
def test_kvm_rejects_an_invalid_gic(
    two_vcpus: Vm, layout: GicLayout, irqs: int, expect: int
) -> None:
    with pytest.raises(IoctlError) as error:
        create_gic(two_vcpus, layout, irqs=irqs)
    assert error.value.errno == expect
