# SPDX-License-Identifier: GPL-2.0-only
"""The state of a vCPU. `tests/provoke/test_vcpu_states.py` shows the states that KVM rejects."""

import pytest

from pyvmm.arch.arm64.vgic import GicLayout, create_gic
from pyvmm.arch.native import native
from pyvmm.kvm import System, Vm
from pyvmm.kvm.vcpu_facts import vcpu_state
from pyvmm.uapi.kvm import KVM_DEV_TYPE_ARM_VGIC_V3
from pyvmm.uapi.kvm_arm64 import (
    KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION,
)
from pyvmm.why import VcpuState, Vgic

GIC = 0x0800_0000


def test_a_vcpu_that_is_ready(kvm: System, vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    native().prepare(kvm, vm, vcpu)
    assert vcpu_state(vm, vcpu) == VcpuState(file="anon_inode:kvm-vcpu:0")


def test_immediate_exit(kvm: System, vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    vcpu.stop()
    assert vcpu_state(vm, vcpu).immediate_exit


@pytest.mark.needs_arch("aarch64")
def test_a_vgic_that_is_ready(kvm: System, vm: Vm) -> None:
    vcpu = vm.create_vcpu()
    native().prepare(kvm, vm, vcpu)
    create_gic(vm, GicLayout.at(GIC, vcpus=1))
    assert vcpu_state(vm, vcpu).vgic == Vgic(None, None, initialised=True)


@pytest.mark.needs_arch("aarch64")
def test_a_region_of_too_few_redistributors(kvm: System, vm: Vm) -> None:
    vcpus = [vm.create_vcpu(index) for index in range(2)]
    for index, vcpu in enumerate(vcpus):
        native().prepare(kvm, vm, vcpu, index)
    gic = vm.create_device(KVM_DEV_TYPE_ARM_VGIC_V3)
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, GIC)
    region = 1 << 52 | GIC + 0x10_0000  # one redistributor, index 0
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, region)
    vgic = vcpu_state(vm, vcpus[0]).vgic
    assert vgic == Vgic("a redistributor", None, initialised=False)
    region = 1 << 52 | GIC + 0x20_0000 | 1
    gic.set_attr(KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, region)
    assert vcpu_state(vm, vcpus[0]).vgic == Vgic(None, None, initialised=False)
