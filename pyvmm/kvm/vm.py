# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine: memslots, in-kernel devices, guest_memfds."""

import errno
from functools import cached_property

from pyvmm.ioctl import Fd, IoctlError
from pyvmm.kvm.device import Device
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.kvm.host_facts import host_facts
from pyvmm.kvm.memslots import Memslots
from pyvmm.kvm.private_ranges import PrivateRanges
from pyvmm.kvm.vm_fd import VmFd
from pyvmm.uapi.kvm import (
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_TEST,
    KVM_CREATE_GUEST_MEMFD,
    KVM_SET_MEMORY_ATTRIBUTES,
    kvm_create_device,
    kvm_create_guest_memfd,
    kvm_memory_attributes,
)
from pyvmm.why import Host


class Vm(VmFd):
    """A virtual machine, created by `System.create_vm`.

    `close` closes its vCPUs, devices and guest_memfds too, because the kernel destroys a VM only
    after all its file descriptors are closed.

    Attributes:
        memslots: the memslots registered through this object.
        private: the memory made private with `set_memory_attributes`.
    """

    def __init__(self, number: int, run_size: int, vm_type: int = 0) -> None:
        """Own fd `number`; `run_size` is ``KVM_GET_VCPU_MMAP_SIZE``, in bytes."""
        super().__init__(number, run_size, vm_type)
        self.memslots = Memslots(self, lambda: self.host)
        self.private = PrivateRanges()
        self._children: list[Fd] = []

    @cached_property
    def host(self) -> Host:
        """Return the facts of this kernel and CPU on which KVM's conditions depend."""
        return host_facts(self)

    def set_memory_attributes(self, gpa: int, size: int, attributes: int) -> None:
        """Set the attributes of `size` bytes at `gpa`: 0 or KVM_MEMORY_ATTRIBUTE_PRIVATE.

        ``KVM_SET_MEMORY_ATTRIBUTES``. Raises `IoctlError`.
        """
        request = kvm_memory_attributes(address=gpa, size=size, attributes=attributes)
        self.ioctl(KVM_SET_MEMORY_ATTRIBUTES, request)
        self.private.set(gpa, size, attributes)

    @property
    def devices(self) -> list[Device]:
        """Return the in-kernel devices, in the order of their creation."""
        return [child for child in self._children if isinstance(child, Device)]

    def create_device(self, device_type: int) -> Device:
        """Create an in-kernel device (``KVM_CREATE_DEVICE``) of a ``KVM_DEV_TYPE_*``."""
        request = kvm_create_device(type=device_type)
        self.ioctl(KVM_CREATE_DEVICE, request)
        device = Device(request.fd, device_type)
        self._children.append(device)
        return device

    def has_device(self, device_type: int) -> bool:
        """Return True if `create_device` would succeed (``KVM_CREATE_DEVICE_TEST``)."""
        try:
            test = kvm_create_device(type=device_type, flags=KVM_CREATE_DEVICE_TEST)
            self.ioctl(KVM_CREATE_DEVICE, test)
        except IoctlError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def create_guest_memfd(self, size: int, flags: int = 0) -> GuestMemfd:
        """Create a guest_memfd of `size` bytes; `flags` are ``GUEST_MEMFD_FLAG_*``."""
        number = self.ioctl(KVM_CREATE_GUEST_MEMFD, kvm_create_guest_memfd(size=size, flags=flags))
        memfd = GuestMemfd(number, size, flags, self)
        # Drop those that the caller closed: the list would grow with each new guest_memfd.
        self._children = [child for child in self._children if not child.closed]
        self._children.append(memfd)
        return memfd

    def close(self) -> None:
        """Close the VM fd and the fds created from it, and clear `memslots`."""
        for child in reversed(self._children):
            child.close()
        self._children.clear()
        super().close()
        self.memslots.forget()
