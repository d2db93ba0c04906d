# SPDX-License-Identifier: GPL-2.0-only
"""The ioctls that a run may still make: to run, to repair faults, and to release devices.

A Linux guest also needs those that create its VM, since it may reboot.
"""

import termios

from pyvmm.memory.procmap import PROCMAP_QUERY
from pyvmm.uapi import iommufd, kvm, vfio
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.native_arch import architecture

# Of the VM and its vCPU.
_RUN = (
    kvm.KVM_RUN,
    kvm.KVM_GET_ONE_REG,
    kvm.KVM_SET_ONE_REG,
    kvm.KVM_GET_REG_LIST,
    kvm.KVM_SET_SIGNAL_MASK,
    kvm.KVM_CHECK_EXTENSION,
    kvm.KVM_SET_USER_MEMORY_REGION,
    kvm.KVM_SET_USER_MEMORY_REGION2,
    kvm.KVM_SET_MEMORY_ATTRIBUTES,
    kvm.KVM_CREATE_GUEST_MEMFD,
)

# Of a VM that shows whether KVM rejects a memslot.
_ANOTHER_VM = (
    kvm.KVM_GET_API_VERSION,
    kvm.KVM_GET_VCPU_MMAP_SIZE,
    kvm.KVM_CREATE_VM,
    kvm.KVM_CREATE_VCPU,
)

# At the end: the device leaves the VM, its interrupts are disabled, its DMA mappings are removed.
_RELEASE = (
    kvm.KVM_HAS_DEVICE_ATTR,
    kvm.KVM_SET_DEVICE_ATTR,
    vfio.VFIO_DEVICE_SET_IRQS,
    vfio.VFIO_IOMMU_UNMAP_DMA,
    iommufd.IOMMU_IOAS_UNMAP,
)

# To create another VM with interrupt controllers after a reboot, to route the interrupts that the
# guest's drivers enable, to reset devices, and to restore the terminal (glibc 2.42: TCSETSW2).
_LINUX_GUEST = (
    kvm.KVM_IRQ_LINE,
    kvm.KVM_IRQFD,
    kvm.KVM_SET_GSI_ROUTING,
    kvm.KVM_REGISTER_COALESCED_MMIO,
    kvm.KVM_UNREGISTER_COALESCED_MMIO,
    kvm.KVM_CREATE_DEVICE,
    kvm.KVM_ENABLE_CAP,
    vfio.VFIO_DEVICE_RESET,
    termios.TCSETSW,
    0x402C_542C,
)

_FILES = (PROCMAP_QUERY, termios.TCGETS, termios.TIOCGWINSZ, termios.FIOCLEX)


def ioctls(linux_guest: bool) -> tuple[int, ...]:
    """Return the ioctl numbers, the frequent ``KVM_RUN`` first."""
    of_linux = _LINUX_GUEST if linux_guest else ()
    return (*_RUN, *_of_architecture(), *_ANOTHER_VM, *_RELEASE, *_FILES, *of_linux)


def _of_architecture() -> tuple[Ioctl, ...]:
    if architecture == "arm64":
        from pyvmm.uapi import kvm_arm64 as arm64

        return (
            arm64.KVM_ARM_PREFERRED_TARGET,
            arm64.KVM_ARM_VCPU_INIT,
            arm64.KVM_SET_VCPU_EVENTS,
        )
    from pyvmm.uapi import kvm_x86_64 as x86

    return (
        x86.KVM_GET_REGS,
        x86.KVM_SET_REGS,
        x86.KVM_GET_SREGS,
        x86.KVM_SET_SREGS,
        x86.KVM_GET_MSRS,
        x86.KVM_SET_MSRS,
        x86.KVM_GET_SUPPORTED_CPUID,
        x86.KVM_GET_CPUID2,
        x86.KVM_SET_CPUID2,
    )
