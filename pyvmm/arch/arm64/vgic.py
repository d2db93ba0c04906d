# SPDX-License-Identifier: GPL-2.0-only
"""The in-kernel interrupt controller: a GICv3 and, for MSIs, its ITS.

Documentation/virt/kvm/devices/arm-vgic-v3.rst and arm-vgic-its.rst.
"""

from dataclasses import dataclass

from pyvmm.kvm.device import Device
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import (
    KVM_DEV_TYPE_ARM_VGIC_ITS,
    KVM_DEV_TYPE_ARM_VGIC_V3,
    KVM_IRQ_LINE,
    kvm_irq_level,
)
from pyvmm.uapi.kvm_arm64 import (
    KVM_ARM_IRQ_TYPE_SHIFT,
    KVM_ARM_IRQ_TYPE_SPI,
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

_FIRST_SPI = 32  # INTID


@dataclass(frozen=True)
class GicLayout:
    """The GPAs of the controller's register frames, multiples of 64 KiB.

    Attributes:
        distributor: the distributor, 64 KiB.
        redistributors: consecutive redistributors, 128 KiB per vCPU.
        its: the ITS, 128 KiB.
    """

    distributor: int
    redistributors: int
    its: int

    @classmethod
    def at(cls, gpa: int, vcpus: int) -> "GicLayout":
        """Lay the frames out consecutively from `gpa`, with a redistributor per vCPU."""
        redistributors = gpa + KVM_VGIC_V3_DIST_SIZE
        its = redistributors + vcpus * KVM_VGIC_V3_REDIST_SIZE
        return cls(gpa, redistributors, its)

    @property
    def end(self) -> int:
        """Return the first GPA after the ITS, the last frame of a layout by `at`."""
        return self.its + KVM_VGIC_V3_ITS_SIZE


def create_gic(vm: Vm, layout: GicLayout, *, irqs: int = 128) -> Device:
    """Create a GICv3 with `irqs` interrupts: a multiple of 32, including the 32 private ones.

    Create all vCPUs before it, and run none of them before. `vm` owns and closes the device.
    Raises `IoctlError`.
    """
    gic = vm.create_device(KVM_DEV_TYPE_ARM_VGIC_V3)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, layout.distributor)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, layout.redistributors)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, irqs)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT)
    return gic


def create_its(vm: Vm, layout: GicLayout) -> Device:
    """Create the GIC's interrupt translation service, which the guest programs to receive MSIs.

    `vm` owns and closes the device. Raises `IoctlError`.
    """
    its = vm.create_device(KVM_DEV_TYPE_ARM_VGIC_ITS)
    its.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, layout.its)
    its.set_attr(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT)
    return its


def set_spi(vm: Vm, spi: int, level: bool) -> None:
    """Set the line of shared peripheral interrupt `spi` (INTID 32 + `spi`): ``KVM_IRQ_LINE``."""
    irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | _FIRST_SPI + spi
    vm.ioctl(KVM_IRQ_LINE, kvm_irq_level(irq=irq, level=level))
