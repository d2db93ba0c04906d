# SPDX-License-Identifier: GPL-2.0-only
"""Device fds (vGIC, ITS, vfio, …) and device attributes, which VMs and vCPUs have too."""

import ctypes
import errno

from pyvmm.ioctl import Fd, IoctlError
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.kvm import (
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
    kvm_device_attr,
)
from pyvmm.uapi.layout import Struct


class AttrFd(Fd):
    """A file descriptor with device attributes, addressed by group and attribute number."""

    def has_attr(self, group: int, attribute: int) -> bool:
        """Return True if the kernel has the attribute (``KVM_HAS_DEVICE_ATTR``)."""
        try:
            self.ioctl(KVM_HAS_DEVICE_ATTR, kvm_device_attr(group=group, attr=attribute))
        except IoctlError as error:
            # ENXIO: no such attribute; ENOTTY: this kind of fd has no attributes.
            if error.errno in (errno.ENXIO, errno.ENOTTY):
                return False
            raise
        return True

    def set_attr(self, group: int, attribute: int, value: int | Struct = 0) -> None:
        """Set an attribute with ``KVM_SET_DEVICE_ATTR``; an int is passed as a u64."""
        data = ctypes.c_uint64(value) if isinstance(value, int) else value
        self._access(KVM_SET_DEVICE_ATTR, group, attribute, data)

    def get_attr(self, group: int, attribute: int) -> int:
        """Read an integer attribute of up to 64 bits with ``KVM_GET_DEVICE_ATTR``."""
        data = ctypes.c_uint64()
        self._access(KVM_GET_DEVICE_ATTR, group, attribute, data)
        return data.value

    def _access(
        self, request: Ioctl, group: int, attribute: int, data: ctypes.c_uint64 | Struct
    ) -> None:
        address = ctypes.addressof(data)
        self.ioctl(request, kvm_device_attr(group=group, attr=attribute, addr=address))


class Device(AttrFd):
    """An in-kernel device, created by `Vm.create_device`.

    Attributes:
        type: its ``KVM_DEV_TYPE_*``.
        attributes: group, number and value of each attribute set to an integer, in order.
    """

    kind = "device"

    def __init__(self, number: int, device_type: int) -> None:
        """Own fd `number`."""
        super().__init__(number)
        self.type = device_type
        self.attributes: list[tuple[int, int, int]] = []

    def set_attr(self, group: int, attribute: int, value: int | Struct = 0) -> None:
        """Set an attribute with ``KVM_SET_DEVICE_ATTR``; an int is passed as a u64."""
        super().set_attr(group, attribute, value)
        if isinstance(value, int):
            self.attributes.append((group, attribute, value))
