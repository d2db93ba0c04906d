# SPDX-License-Identifier: GPL-2.0-only
"""Device fds (vGIC, ITS, vfio…), and the attributes that VMs and vCPUs have as well."""

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
    """A descriptor with device attributes: each a value under a group and a number."""

    def has_attr(self, group: int, attribute: int) -> bool:
        """``KVM_HAS_DEVICE_ATTR``: does this kernel know the attribute?"""
        try:
            self.ioctl(KVM_HAS_DEVICE_ATTR, kvm_device_attr(group=group, attr=attribute))
        except IoctlError as error:
            # ENXIO: no such attribute; ENOTTY: this kind of fd has none at all.
            if error.errno in (errno.ENXIO, errno.ENOTTY):
                return False
            raise
        return True

    def set_attr(self, group: int, attribute: int, value: int | Struct = 0) -> None:
        """``KVM_SET_DEVICE_ATTR``. An int is passed as a 64-bit little-endian word."""
        data = ctypes.c_uint64(value) if isinstance(value, int) else value
        self._access(KVM_SET_DEVICE_ATTR, group, attribute, data)

    def get_attr(self, group: int, attribute: int) -> int:
        """``KVM_GET_DEVICE_ATTR`` of an attribute that is an integer of up to 64 bits."""
        data = ctypes.c_uint64()
        self._access(KVM_GET_DEVICE_ATTR, group, attribute, data)
        return data.value

    def _access(
        self, request: Ioctl, group: int, attribute: int, data: ctypes.c_uint64 | Struct
    ) -> None:
        address = ctypes.addressof(data)
        self.ioctl(request, kvm_device_attr(group=group, attr=attribute, addr=address))


class Device(AttrFd):
    """An in-kernel device, made by `Vm.create_device`."""

    kind = "device"
