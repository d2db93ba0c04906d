# SPDX-License-Identifier: GPL-2.0-only
"""What this kernel and CPU answer, asked of a VM of our own.

A capability's answer is the kernel's and the CPU's, so it is as good for another process's VM;
what that VM has switched on is not to be seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pyvmm.caps import Report, negotiate
from pyvmm.explain.slots import Slots
from pyvmm.ioctl import IoctlError
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED


@dataclass(frozen=True)
class Host:
    """A VM that someone else has, as far as this host tells: `pyvmm.kvm.registry.Registry`."""

    own: Vm
    report: Report
    memslots: Slots = field(default_factory=Slots)
    vm_type: int = 0
    enabled: set[int] = field(default_factory=set)

    def check(self, capability: int) -> int:
        """``KVM_CHECK_EXTENSION``; 0 where this kernel does not know it."""
        try:
            return self.own.check(capability)
        except IoctlError:
            return 0

    def having(self, slots: Slots) -> "Host":
        """The same with those memslots."""
        return replace(self, memslots=slots)

    @property
    def on_arm64(self) -> bool:
        """Is it arm64's KVM that answers?"""
        return self.report.features is not None

    def why_no_cacheable_pfnmap(self) -> str | None:
        """Why cacheable PFNMAP memory cannot be a memslot here, or None where it can."""
        if not self.on_arm64 or self.check(KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED):
            return None
        return self.report.verdict("cacheable-pfnmap").why


@contextmanager
def this_host() -> Iterator[Host]:
    """Ask /dev/kvm, read-only. Raises `LackingError` where there is none."""
    with System.open() as system:
        report = negotiate(system)
        with system.create_vm() as vm:
            yield Host(vm, report)
