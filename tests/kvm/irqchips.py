# SPDX-License-Identifier: GPL-2.0-only
"""The in-kernel irqchip of either architecture, and the state of its pins."""

import platform
from collections.abc import Callable

from pyvmm.arch.arm64.vgic import GicLayout, create_gic
from pyvmm.arch.native import native
from pyvmm.kvm import System, Vm
from pyvmm.kvm.device import Device
from pyvmm.uapi.kvm import KVM_CREATE_IRQCHIP
from pyvmm.uapi.kvm_arm64 import KVM_DEV_ARM_VGIC_GRP_DIST_REGS
from pyvmm.uapi.kvm_x86_64 import KVM_GET_IRQCHIP, KVM_IRQCHIP_IOAPIC, kvm_irqchip

CHIP = KVM_IRQCHIP_IOAPIC if platform.machine() == "x86_64" else 0  # number in KVM_SET_GSI_ROUTING
_GICD_ISPENDR = 0x200
_FIRST_SPI = 32

# Returns True if a pin of the irqchip is asserted.
Asserted = Callable[[int], bool]


def create(system: System, vm: Vm) -> Asserted:
    """Create the irqchip, and on arm64 the vCPU that it needs."""
    if platform.machine() == "x86_64":
        vm.ioctl(KVM_CREATE_IRQCHIP)
        return lambda pin: _ioapic(vm) >> pin & 1 == 1
    native().prepare(system, vm, vm.create_vcpu())
    gic = create_gic(vm, GicLayout.at(0x0800_0000, vcpus=1))
    assert isinstance(gic, Device)
    return lambda pin: _pending(gic, _FIRST_SPI + pin)


def _ioapic(vm: Vm) -> int:
    chip = kvm_irqchip(chip_id=KVM_IRQCHIP_IOAPIC)
    vm.ioctl(KVM_GET_IRQCHIP, chip)
    irr: int = chip.chip.ioapic.irr
    return irr


def _pending(gic: Device, irq: int) -> bool:
    word = gic.get_attr(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, _GICD_ISPENDR + irq // 32 * 4)
    return word >> irq % 32 & 1 == 1
