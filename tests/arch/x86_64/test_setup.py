# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.arch.x86_64 import setup
from pyvmm.kvm import System, Vcpu, Vm
from pyvmm.uapi.kvm_x86_64 import KVM_GET_CPUID2, kvm_cpuid2

pytestmark = pytest.mark.needs_arch("x86_64")


def test_a_vcpu_gets_the_cpuid_that_kvm_supports(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    setup.prepare(kvm, vm, vcpu)
    cpuid = kvm_cpuid2.with_room(256)(nent=256)
    vcpu.ioctl(KVM_GET_CPUID2, cpuid)
    leaves = {entry.function for entry in cpuid.entries[: cpuid.nent]}
    assert {0x0, 0x1, 0x8000_0008} <= leaves
