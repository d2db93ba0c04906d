# SPDX-License-Identifier: GPL-2.0-only
"""An ioctl's number that knows its name: ``fcntl.ioctl(fd, KVM_RUN)`` takes it as it stands."""

from typing import Any, Literal

# What the file descriptor is that an ioctl belongs to.
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
    """An ioctl's number, as the C macro of that name gives it on this architecture.

    ``direction`` and ``size`` are what the number encodes (``_IOC`` in asm-generic/ioctl.h), seen
    from the caller: "write" goes into the kernel. VFIO and iommufd encode neither, and a few of
    KVM's are wrong since their first day, so ``argument`` is what to go by.
    """

    name: str
    fds: tuple[FdKind, ...]
    argument: type[Any] | None  # the ctypes type the ioctl's pointer leads to; None: no pointer

    def __new__(
        cls, number: int, name: str, fds: tuple[FdKind, ...], argument: type[Any] | None = None
    ) -> "Ioctl":
        self = super().__new__(cls, number)
        self.name = name
        self.fds = fds
        self.argument = argument
        return self

    @property
    def direction(self) -> Direction:
        return _DIRECTIONS[self >> 30]

    @property
    def size(self) -> int:
        """Bytes of argument, by the number: 0 where it encodes none."""
        return self >> 16 & 0x3FFF

    def __repr__(self) -> str:
        return self.name
