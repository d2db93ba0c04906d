# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts: whether something is supported, and one sentence that says why or why not.

No verdict looks at the kernel's version. A kernel that knows a capability without offering it
gives another answer than one that does not know it, and the verdicts rely on that.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyvmm.arch.arm64.cpu_features import CpuFeatures
from pyvmm.kvm.capabilities import Capability

Capabilities = Mapping[str, Capability]

_MEMORY_FAULT_INFO = "KVM reports the address of an unresolved access (KVM_EXIT_MEMORY_FAULT)"
# Documentation/virt/kvm/api.rst, 8.44, promises it for every access, but kvm_handle_error_pfn in
# arch/x86/kvm/mmu/mmu.c ends in -EFAULT alone (7.3.4).
_MEMORY_FAULT_INFO_X86 = (
    "KVM reports the address of an unresolved access (KVM_EXIT_MEMORY_FAULT), but on x86 only for "
    "private memory and guest_memfd: any other fails with a bare EFAULT, although the KVM API "
    "document says otherwise"
)


@dataclass(frozen=True)
class Verdict:
    """A verdict: `name` is for scripts, `why` is a sentence for a person."""

    name: str
    supported: bool
    why: str


def verdicts_for(capabilities: Capabilities, features: CpuFeatures | None) -> list[Verdict]:
    """Return every verdict, in the order in which a VMM needs them."""
    return [
        _cacheable_pfnmap(capabilities, features),
        _offered(
            "memory-fault-info",
            capabilities["KVM_CAP_MEMORY_FAULT_INFO"],
            yes=_MEMORY_FAULT_INFO if features else _MEMORY_FAULT_INFO_X86,
            no="an unresolved access makes KVM_RUN fail with a bare EFAULT and no address",
        ),
        _offered(
            "user-memory-2",
            capabilities["KVM_CAP_USER_MEMORY2"],
            yes="a memslot can refer to a guest_memfd (KVM_SET_USER_MEMORY_REGION2)",
            no="a memslot can only be host memory",
        ),
        _offered(
            "guest-memfd",
            capabilities["KVM_CAP_GUEST_MEMFD"],
            yes="guest memory can be a guest_memfd, which belongs to the VM",
            no="this kernel offers no guest_memfd for a VM of this type",
        ),
        _arm64_only(
            "nisv-to-user",
            features,
            capabilities["KVM_CAP_ARM_NISV_TO_USER"],
            yes="if enabled, an MMIO access that KVM cannot decode exits (KVM_EXIT_ARM_NISV)",
            no="KVM_RUN fails with ENOSYS on an MMIO access that KVM cannot decode",
        ),
        _arm64_only(
            "sea-to-user",
            features,
            capabilities["KVM_CAP_ARM_SEA_TO_USER"],
            yes="if enabled, an external abort of the guest exits (KVM_EXIT_ARM_SEA)",
            no="an external abort that the host cannot handle is injected as an SError",
        ),
        _device_node("vfio", Path("/dev/vfio/vfio"), "vfio"),
        _device_node("iommufd", Path("/dev/iommu"), "iommufd"),
    ]


def _cacheable_pfnmap(capabilities: Capabilities, features: CpuFeatures | None) -> Verdict:
    name = "cacheable-pfnmap"
    if features is None:
        return Verdict(
            name,
            False,
            "does not apply: only arm64 has the capability; on this architecture device memory "
            "(PFNMAP) of any memory type is registered",
        )
    capability = capabilities["KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED"]
    obstacle = features.why_no_cacheable_pfnmap()
    if capability.value:
        return Verdict(name, True, "the CPU has both FWB and DIC, and KVM answers 1")
    if obstacle:
        return Verdict(name, False, obstacle)
    # A kernel that knows this capability answers EINVAL on /dev/kvm: it is for the VM only.
    if capability.system.errno is None:
        return Verdict(
            name,
            False,
            "this kernel is too old: it does not know KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED "
            "(added in Linux 6.17); the CPU has FWB and DIC",
        )
    return Verdict(name, False, "the CPU has FWB and DIC, but KVM answers 0")


def _offered(name: str, capability: Capability, *, yes: str, no: str) -> Verdict:
    value = capability.value
    return Verdict(name, bool(value), f"{capability.name} is {value}: {yes if value else no}")


def _arm64_only(
    name: str, features: CpuFeatures | None, capability: Capability, *, yes: str, no: str
) -> Verdict:
    if features is None:
        return Verdict(name, False, f"does not apply: only arm64 has {capability.name}")
    return _offered(name, capability, yes=yes, no=no)


def _device_node(name: str, path: Path, module: str) -> Verdict:
    if not path.exists():
        return Verdict(name, False, f"{path} does not exist: load the module {module}")
    if not os.access(path, os.R_OK | os.W_OK):
        return Verdict(name, False, f"permission denied: check the owner and mode of {path}")
    return Verdict(name, True, f"{path} can be opened")
