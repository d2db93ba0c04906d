# SPDX-License-Identifier: GPL-2.0-only
"""The system fd: ``/dev/kvm``."""

import errno
import os
from pathlib import Path
from typing import Self

from pyvmm.errors import LackingError
from pyvmm.ioctl import Fd
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import (
    KVM_API_VERSION,
    KVM_CAP_ARM_VM_IPA_SIZE,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VM,
    KVM_GET_API_VERSION,
    KVM_GET_VCPU_MMAP_SIZE,
)

DEVICE = Path("/dev/kvm")

_REMEDIES = {
    errno.ENOENT: "load the kvm module of this CPU, or run in the emulated arm64 host: "
    "python -m pyvmm lab run -- …",
    errno.EACCES: "join the group that owns it (usually kvm), or run as root",
    errno.ENODEV: "this CPU or hypervisor has no virtualization; use python -m pyvmm lab run",
}


# To destroy a VM the kernel walks its IPA space in steps of 1 GiB (stage2_destroy_range in
# arch/arm64/kvm/mmu.c). 52 bits are four million steps: seconds on an emulated host.
_IPA_BITS = 48


class System(Fd):
    """An open ``/dev/kvm``."""

    kind = "system"

    @classmethod
    def open(cls, path: Path = DEVICE) -> Self:
        """Open the device and check its API version.

        Raises `LackingError`, with advice on how to get a usable /dev/kvm.
        """
        try:
            system = cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "see dmesg")
            raise LackingError(f"cannot open {path}: {error.strerror}: {remedy}") from None
        try:
            version = system.api_version()
            if version != KVM_API_VERSION:
                raise LackingError(
                    f"{path} has KVM API version {version}, and pyvmm needs {KVM_API_VERSION}: "
                    "use Linux 2.6.22 or later"
                )
        except BaseException:
            system.close()
            raise
        return system

    def api_version(self) -> int:
        """Return ``KVM_GET_API_VERSION``: 12 since Linux 2.6.22."""
        return self.ioctl(KVM_GET_API_VERSION)

    def check(self, capability: int) -> int:
        """Call ``KVM_CHECK_EXTENSION`` on the system: 0 if absent, else a positive value.

        Raises `IoctlError` (EINVAL) for a capability that only a VM fd answers.
        """
        return self.ioctl(KVM_CHECK_EXTENSION, capability)

    def create_vm(self, vm_type: int | None = None) -> Vm:
        """Create a VM with ``KVM_CREATE_VM``. Raises `IoctlError`.

        `vm_type` is the machine type. The default is 0, or on arm64 the largest IPA size up to 48
        bits: KVM's default of 40 bits is too small for the BARs of a large GPU.
        """
        if vm_type is None:
            vm_type = min(self.check(KVM_CAP_ARM_VM_IPA_SIZE), _IPA_BITS)
        run_size = self.ioctl(KVM_GET_VCPU_MMAP_SIZE)
        return Vm(self.ioctl(KVM_CREATE_VM, vm_type), run_size, vm_type)
