# SPDX-License-Identifier: GPL-2.0-only
"""The facts of this kernel and CPU on which KVM's conditions depend (`pyvmm.why.Host`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

from pyvmm.errors import PyvmmError
from pyvmm.ioctl import Fd, IoctlError
from pyvmm.kvm.gpa_width import gpa_bits
from pyvmm.kvm.system_fd import SystemFd
from pyvmm.kvm.vm_fd import VmFd
from pyvmm.memory import PAGE_SIZE
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED,
    KVM_CAP_GUEST_MEMFD_FLAGS,
    KVM_CREATE_GUEST_MEMFD,
    KVM_CREATE_VM,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_MEM_GUEST_MEMFD,
    KVM_SET_USER_MEMORY_REGION2,
    kvm_create_guest_memfd,
    kvm_userspace_memory_region2,
)
from pyvmm.uapi.native_arch import architecture
from pyvmm.why.facts import SMALLEST_IPA_BITS, Host

# KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG, op0 to op2 as in the Arm ARM.
_ID_AA64MMFR2_EL1 = 0x6030_0000_0013_C03A
_CTR_EL0 = 0x6030_0000_0013_D801


def host_facts(vm: VmFd | None) -> Host:
    """Return the facts, asking `vm` for its capabilities; without a VM they are absent.

    A capability's answer is the kernel's and the CPU's: any VM of the same type will do.
    """
    if vm is None:
        return Host(architecture)
    if architecture != "arm64":
        bits = gpa_bits()
        return Host(architecture, vm.offers, gpa_bits=bits, guest_memfd_bound_errno=_bound_errno)
    if vm.offers(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
        host = Host(architecture, vm.offers, True, fwb=True, dic=True)
    else:
        host = Host(architecture, vm.offers, _knows_cacheable_pfnmap(), *_fwb_and_dic())
    return replace(host, guest_memfd_bound_errno=_bound_errno)


@cache
def _knows_cacheable_pfnmap() -> bool | None:
    """Return True if the kernel knows ``KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED``.

    Only a VM answers it: on ``/dev/kvm`` a kernel that knows it returns EINVAL
    (kvm_vm_ioctl_check_extension in arch/arm64/kvm/arm.c), one that does not returns 0.
    """
    try:
        with SystemFd.open() as system:
            system.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
    except IoctlError:
        return True
    except PyvmmError:
        return None
    return False


@cache
def _fwb_and_dic() -> tuple[bool | None, bool | None]:
    """Read FWB and DIC from the identification registers of a vCPU made for this."""
    from pyvmm.uapi.kvm_arm64 import KVM_ARM_PREFERRED_TARGET, KVM_ARM_VCPU_INIT, kvm_vcpu_init

    try:
        with _vm(SMALLEST_IPA_BITS) as vm:
            vcpu = vm.create_vcpu()
            init = kvm_vcpu_init()
            vm.ioctl(KVM_ARM_PREFERRED_TARGET, init)
            vcpu.ioctl(KVM_ARM_VCPU_INIT, init)
            fwb = vcpu.get_one_reg(_ID_AA64MMFR2_EL1) >> 40 & 0xF
            dic = vcpu.get_one_reg(_CTR_EL0) >> 29 & 1
    except PyvmmError:
        return None, None
    return bool(fwb), bool(dic)


@cache
def _bound_errno() -> int | None:
    """Return the errno of binding a part of a guest_memfd twice, or None if there is none.

    A VM made for this is asked, without `Memslots`, which would want to know the reason.
    """
    try:
        with _vm() as vm:
            flags = GUEST_MEMFD_FLAG_MMAP & vm.offers(KVM_CAP_GUEST_MEMFD_FLAGS)
            request = kvm_create_guest_memfd(size=PAGE_SIZE, flags=flags)
            with Fd(vm.ioctl(KVM_CREATE_GUEST_MEMFD, request)) as memfd:
                for number in range(2):
                    region = kvm_userspace_memory_region2(
                        slot=number,
                        flags=KVM_MEM_GUEST_MEMFD,
                        guest_phys_addr=number * PAGE_SIZE,
                        memory_size=PAGE_SIZE,
                        guest_memfd=memfd.fileno(),
                    )
                    vm.ioctl(KVM_SET_USER_MEMORY_REGION2, region)
    except IoctlError as error:
        return error.errno if error.request == KVM_SET_USER_MEMORY_REGION2 else None
    except PyvmmError:
        return None
    return None


@contextmanager
def _vm(vm_type: int = 0) -> Iterator[VmFd]:
    """Create a VM that never runs."""
    with SystemFd.open() as system:
        run_size = system.ioctl(KVM_GET_VCPU_MMAP_SIZE)
        with VmFd(system.ioctl(KVM_CREATE_VM, vm_type), run_size, vm_type) as vm:
            yield vm
