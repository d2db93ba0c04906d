# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.ioctl import IoctlError
from pyvmm.kvm import System, Vm
from pyvmm.machine import Machine
from pyvmm.uapi import kvm_arm64 as arm64
from pyvmm.uapi import kvm_x86_64 as x86_64
from pyvmm.uapi.kvm import (
    KVM_DEV_TYPE_ARM_VGIC_V3,
    KVM_DEV_TYPE_VFIO,
    KVM_DEV_VFIO_FILE,
    KVM_DEV_VFIO_FILE_ADD,
)

NO_SUCH_GROUP = 9999


def test_has_attr(vm: Vm) -> None:
    device = vm.create_device(KVM_DEV_TYPE_VFIO)
    assert device.has_attr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD)
    assert not device.has_attr(KVM_DEV_VFIO_FILE, NO_SUCH_GROUP)
    assert not device.has_attr(NO_SUCH_GROUP, 0)


def test_has_attr_on_vm_and_vcpu(vm: Vm) -> None:
    assert not vm.has_attr(NO_SUCH_GROUP, 0)
    assert not vm.create_vcpu().has_attr(NO_SUCH_GROUP, 0)


def test_set_unknown_attr(vm: Vm) -> None:
    device = vm.create_device(KVM_DEV_TYPE_VFIO)
    with pytest.raises(IoctlError, match="KVM_SET_DEVICE_ATTR on the device fd: ENXIO") as failure:
        device.set_attr(NO_SUCH_GROUP, 0)
    assert failure.value.errno == errno.ENXIO


@pytest.mark.needs_arch("aarch64")
def test_device_attr_round_trip(vm: Vm) -> None:
    gic = vm.create_device(KVM_DEV_TYPE_ARM_VGIC_V3)
    gic.set_attr(arm64.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, 96)
    assert gic.get_attr(arm64.KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0) == 96


@pytest.mark.needs_arch("aarch64")
def test_vcpu_attr_round_trip(kvm: System, machine: Machine) -> None:
    machine.arch.prepare(kvm, machine.vm, machine.vcpu)
    machine.vm.create_device(KVM_DEV_TYPE_ARM_VGIC_V3)  # the timer interrupt needs an irqchip
    timer = arm64.KVM_ARM_VCPU_TIMER_CTRL, arm64.KVM_ARM_VCPU_TIMER_IRQ_VTIMER
    assert machine.vcpu.has_attr(*timer)
    machine.vcpu.set_attr(*timer, 21)
    assert machine.vcpu.get_attr(*timer) == 21


@pytest.mark.needs_arch("x86_64")
def test_vcpu_attr(vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    offset = x86_64.KVM_VCPU_TSC_CTRL, x86_64.KVM_VCPU_TSC_OFFSET
    assert vcpu.has_attr(*offset)
    vcpu.set_attr(*offset, vcpu.get_attr(*offset))
