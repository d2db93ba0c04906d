# SPDX-License-Identifier: GPL-2.0-only
"""Ioctl numbers with a name: ``fcntl.ioctl(fd, KVM_RUN)`` accepts one as an int."""

from typing import Any, Literal

# The kinds of file descriptors that implement ioctls.
FdKind = Literal[
    "system",  # /dev/kvm
    "vm",  # from KVM_CREATE_VM
    "vcpu",  # from KVM_CREATE_VCPU
    "device",  # from KVM_CREATE_DEVICE
    "vfio-container",  # /dev/vfio/vfio, or an iommufd that stands in for it
    "vfio-group",  # /dev/vfio/GROUP
    "vfio-device",  # from VFIO_GROUP_GET_DEVICE_FD, or /dev/vfio/devices/vfioN
    "vfio-migration",  # from VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
    "iommufd",  # /dev/iommu
]
Direction = Literal["none", "write", "read", "read-write"]

_DIRECTIONS: tuple[Direction, ...] = ("none", "write", "read", "read-write")


class Ioctl(int):
    """An ioctl number: the value of the C macro of that name on this architecture.

    ``direction`` is encoded in the number (``_IOC`` in asm-generic/ioctl.h), from the caller's
    view: "write" copies to the kernel. VFIO and iommufd do not encode it, and a few of KVM's
    numbers have always been wrong.
    """

    name: str
    fds: tuple[FdKind, ...]
    argument: type[Any] | None  # the ctypes type of the argument; None: no pointer

    def __new__(
        cls, number: int, name: str, fds: tuple[FdKind, ...], argument: type[Any] | None = None
    ) -> "Ioctl":
        """Create the ioctl `name`, which `fds` implement."""
        self = super().__new__(cls, number)
        self.name = name
        self.fds = fds
        self.argument = argument
        return self

    @property
    def direction(self) -> Direction:
        """Return the encoded direction of the argument."""
        return _DIRECTIONS[self >> 30]

    def __repr__(self) -> str:
        """Return the ioctl's name."""
        return self.name
