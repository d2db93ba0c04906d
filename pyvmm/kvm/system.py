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
    errno.ENODEV: "this CPU or hypervisor offers no virtualization; use python -m pyvmm lab run",
}


# To end a VM the kernel walks its whole IPA space in steps of 1 GiB (stage2_destroy_range in
# arch/arm64/kvm/mmu.c): with 52 bits that is four million, seconds on an emulated host.
_IPA_BITS = 48


class System(Fd):
    """An open ``/dev/kvm``."""

    kind = "system"

    @classmethod
    def open(cls, path: Path = DEVICE) -> Self:
        """Open the device and check that it speaks the one API version there is.

        Raises `LackingError`, which says what to do.
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
                    f"{path} speaks KVM API {version}, pyvmm only {KVM_API_VERSION}: "
                    "any Linux since 2.6.22 does"
                )
        except BaseException:
            system.close()
            raise
        return system

    def api_version(self) -> int:
        """``KVM_GET_API_VERSION``: 12 on every kernel since 2.6.22."""
        return self.ioctl(KVM_GET_API_VERSION)

    def check(self, capability: int) -> int:
        """``KVM_CHECK_EXTENSION`` for the system: 0 where absent, else a positive value.

        Some capabilities answer only for a VM, and raise `IoctlError` (EINVAL) here.
        """
        return self.ioctl(KVM_CHECK_EXTENSION, capability)

    def create_vm(self, vm_type: int | None = None) -> Vm:
        """``KVM_CREATE_VM``.

        `vm_type` is the machine type; by default 0, or on arm64 the widest IPA space there is up
        to 48 bits: KVM's default of 40 is too narrow for the BARs of a large GPU.
        """
        if vm_type is None:
            vm_type = min(self.check(KVM_CAP_ARM_VM_IPA_SIZE), _IPA_BITS)
        run_size = self.ioctl(KVM_GET_VCPU_MMAP_SIZE)
        return Vm(self.ioctl(KVM_CREATE_VM, vm_type), run_size, vm_type)
