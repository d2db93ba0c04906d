# SPDX-License-Identifier: GPL-2.0-only
"""The open ``/dev/kvm``: API version and capabilities."""

import errno
import os
from pathlib import Path
from typing import Self

from pyvmm.errors import LackingError
from pyvmm.ioctl import Fd
from pyvmm.uapi.kvm import KVM_API_VERSION, KVM_CHECK_EXTENSION, KVM_GET_API_VERSION

DEVICE = Path("/dev/kvm")

_REMEDIES = {
    errno.ENOENT: "load the kvm module of this CPU, or run in the emulated arm64 host: "
    "python -m pyvmm lab run -- …",
    errno.EACCES: "join the group that owns it (usually kvm), or run as root",
    errno.ENODEV: "this CPU or hypervisor has no virtualization; use python -m pyvmm lab run",
}


class SystemFd(Fd):
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
