# SPDX-License-Identifier: GPL-2.0-only
"""The in-kernel interrupt controller: a GICv3 and, for MSIs, its ITS.

Documentation/virt/kvm/devices/arm-vgic-v3.rst and arm-vgic-its.rst.
"""

from dataclasses import dataclass

from pyvmm.kvm.device import Device
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import KVM_DEV_TYPE_ARM_VGIC_ITS, KVM_DEV_TYPE_ARM_VGIC_V3
from pyvmm.uapi.kvm_arm64 import (
    KVM_DEV_ARM_VGIC_CTRL_INIT,
    KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    KVM_VGIC_ITS_ADDR_TYPE,
    KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST,
    KVM_VGIC_V3_DIST_SIZE,
    KVM_VGIC_V3_ITS_SIZE,
    KVM_VGIC_V3_REDIST_SIZE,
)


@dataclass(frozen=True)
class Layout:
    """GPAs of the controller's register frames, each a multiple of 64 KiB.

    Attributes:
        distributor: 64 KiB.
        redistributors: 128 KiB for each vCPU, one behind the other.
        its: 128 KiB.
    """

    distributor: int
    redistributors: int
    its: int

    @classmethod
    def at(cls, gpa: int, vcpus: int) -> "Layout":
        """The frames one behind the other from `gpa`, with room for `vcpus` redistributors."""
        redistributors = gpa + KVM_VGIC_V3_DIST_SIZE
        its = redistributors + vcpus * KVM_VGIC_V3_REDIST_SIZE
        return cls(gpa, redistributors, its)

    @property
    def end(self) -> int:
        """The first GPA behind the ITS, the last frame of `at`."""
        return self.its + KVM_VGIC_V3_ITS_SIZE


def create_gic(vm: Vm, layout: Layout, *, irqs: int = 128) -> Device:
    """A GICv3 with `irqs` interrupts (a multiple of 32, the 32 private ones included).

    Call it when all vCPUs exist and before the first of them runs. The device belongs to `vm`,
    which closes it. Raises `IoctlError`.
    """
    gic = vm.create_device(KVM_DEV_TYPE_ARM_VGIC_V3)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, layout.distributor)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, layout.redistributors)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, irqs)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT)
    return gic


def create_its(vm: Vm, layout: Layout) -> Device:
    """The GIC's interrupt translation service; a guest programs it before MSIs reach it.

    It belongs to `vm`, which closes it. Raises `IoctlError`.
    """
    its = vm.create_device(KVM_DEV_TYPE_ARM_VGIC_ITS)
    its.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, layout.its)
    its.set_attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT)
    return its
