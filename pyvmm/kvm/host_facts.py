# SPDX-License-Identifier: GPL-2.0-only
"""The facts of this kernel and CPU on which KVM's conditions depend (`pyvmm.why.Host`)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from pyvmm.errors import PyvmmError
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.gpa_width import gpa_bits
from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
from pyvmm.uapi.native_arch import architecture
from pyvmm.why.facts import SMALLEST_IPA_BITS, Host

if TYPE_CHECKING:
    from pyvmm.kvm.vm import Vm

# KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG, op0 to op2 as in the Arm ARM.
_ID_AA64MMFR2_EL1 = 0x6030_0000_0013_C03A
_CTR_EL0 = 0x6030_0000_0013_D801


def host_facts(vm: Vm | None) -> Host:
    """Return the facts, asking `vm` for its capabilities; without a VM they are absent.

    A capability's answer is the kernel's and the CPU's: any VM of the same type will do.
    """
    if vm is None:
        return Host(architecture)
    if architecture != "arm64":
        return Host(architecture, vm.offers, gpa_bits=gpa_bits())
    if vm.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
        return Host(architecture, vm.offers, True, fwb=True, dic=True)
    fwb, dic = _fwb_and_dic()
    return Host(architecture, vm.offers, _knows_cacheable_pfnmap(), fwb, dic)


@cache
def _knows_cacheable_pfnmap() -> bool | None:
    """Return True if the kernel knows ``KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED``.

    Only a VM answers it: on ``/dev/kvm`` a kernel that knows it returns EINVAL
    (kvm_vm_ioctl_check_extension in arch/arm64/kvm/arm.c), one that does not returns 0.
    """
    from pyvmm.kvm.system import System

    try:
        with System.open() as system:
            system.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
    except IoctlError:
        return True
    except PyvmmError:
        return None
    return False


@cache
def _fwb_and_dic() -> tuple[bool | None, bool | None]:
    """Read FWB and DIC from the identification registers of a vCPU made for this."""
    from pyvmm.kvm.system import System
    from pyvmm.uapi.kvm_arm64 import KVM_ARM_PREFERRED_TARGET, KVM_ARM_VCPU_INIT, kvm_vcpu_init

    try:
        with System.open() as system, system.create_vm(SMALLEST_IPA_BITS) as vm:
            vcpu = vm.create_vcpu()
            init = kvm_vcpu_init()
            vm.ioctl(KVM_ARM_PREFERRED_TARGET, init)
            vcpu.ioctl(KVM_ARM_VCPU_INIT, init)
            fwb = vcpu.get_one_reg(_ID_AA64MMFR2_EL1) >> 40 & 0xF
            dic = vcpu.get_one_reg(_CTR_EL0) >> 29 & 1
    except PyvmmError:
        return None, None
    return bool(fwb), bool(dic)
