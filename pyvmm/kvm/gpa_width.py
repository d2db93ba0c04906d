# SPDX-License-Identifier: GPL-2.0-only
"""The width of guest physical addresses on x86."""

from pathlib import Path

from pyvmm.errors import PyvmmError

_TWO_DIMENSIONAL_PAGING = (
    Path("/sys/module/kvm_intel/parameters/ept"),
    Path("/sys/module/kvm_amd/parameters/npt"),
)
_SHADOW_PAGING_BITS = 52
_ADDRESS_SIZES = 0x8000_0008  # CPUID leaf; EAX[7:0] is MAXPHYADDR
_MAX_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES in the kernel


def gpa_bits() -> int | None:
    """Return the number of GPA bits that memslots may use (kvm_mmu_max_gfn, arch/x86/kvm/mmu.h).

    With EPT or NPT it is the CPU's MAXPHYADDR. With shadow paging the page table format limits it
    to 52 bits. None if KVM cannot be asked.
    """
    if any(path.exists() and path.read_text().strip() in "1Y" for path in _TWO_DIMENSIONAL_PAGING):
        return max_physical_bits()
    return _SHADOW_PAGING_BITS


def max_physical_bits() -> int | None:
    """Return MAXPHYADDR as ``KVM_GET_SUPPORTED_CPUID`` has it, or None if KVM cannot be asked.

    /proc/cpuinfo is not the same: where memory encryption uses physical address bits, the kernel
    subtracts them there (boot_cpu_data.x86_phys_bits). KVM does not, with EPT or NPT
    (kvm_get_host_maxphyaddr in arch/x86/kvm/mmu/spte.c, __do_cpuid_func in cpuid.c).
    """
    from pyvmm.kvm.system_fd import SystemFd
    from pyvmm.uapi.kvm_x86_64 import KVM_GET_SUPPORTED_CPUID, kvm_cpuid2

    cpuid = kvm_cpuid2.with_room(_MAX_ENTRIES)(nent=_MAX_ENTRIES)
    try:
        with SystemFd.open() as system:
            system.ioctl(KVM_GET_SUPPORTED_CPUID, cpuid)
    except PyvmmError:
        return None
    leaves = (entry for entry in cpuid.entries[: cpuid.nent] if entry.function == _ADDRESS_SIZES)
    return next((entry.eax & 0xFF for entry in leaves), None)
