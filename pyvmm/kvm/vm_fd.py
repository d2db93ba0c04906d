# SPDX-License-Identifier: GPL-2.0-only
"""The capabilities of a VM fd."""

import os

from pyvmm.ioctl import IoctlError
from pyvmm.kvm.device import AttrFd
from pyvmm.uapi.kvm import KVM_CHECK_EXTENSION, KVM_ENABLE_CAP, kvm_enable_cap


class VmFd(AttrFd):
    """The fd that ``KVM_CREATE_VM`` returns, and its capabilities.

    Attributes:
        vm_type: the machine type passed to ``KVM_CREATE_VM``.
        pid: the process that created it; KVM accepts the ioctls of that one alone.
        enabled: the capabilities enabled with `enable`; the kernel has no ioctl to query them.
    """

    kind = "vm"

    def __init__(self, number: int, vm_type: int = 0) -> None:
        """Own fd `number`."""
        super().__init__(number)
        self.vm_type = vm_type
        self.pid = os.getpid()
        self.enabled: set[int] = set()

    def check(self, capability: int) -> int:
        """Call ``KVM_CHECK_EXTENSION`` on the VM: 0 if absent, else a positive value.

        Raises `IoctlError` if the kernel rejects `capability`.
        """
        return self.ioctl(KVM_CHECK_EXTENSION, capability)

    def offers(self, capability: int) -> int:
        """Return the value of `check`, or 0 if the kernel rejects `capability`."""
        try:
            return self.check(capability)
        except IoctlError:
            return 0

    def enable(self, capability: int, *args: int, flags: int = 0) -> None:
        """Enable a capability with ``KVM_ENABLE_CAP``. Raises `IoctlError`."""
        request = kvm_enable_cap(cap=capability, flags=flags)
        for index, arg in enumerate(args):
            request.args[index] = arg
        self.ioctl(KVM_ENABLE_CAP, request)
        self.enabled.add(capability)
