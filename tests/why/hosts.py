# SPDX-License-Identifier: GPL-2.0-only
"""Hosts as facts: what a kernel and CPU would answer. No KVM is asked."""

from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
from pyvmm.why import Host


def offering(*capabilities: int, arch: str = "arm64") -> Host:
    """Return a host that answers 1 to these capabilities and 0 to the others."""
    fwb = KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED in capabilities
    return Host(arch, lambda number: int(number in capabilities), True, fwb, fwb, gpa_bits=46)


ARM64_WITH_FWB = offering(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED)
ARM64_WITHOUT_FWB = offering()
X86 = offering(arch="x86_64")
