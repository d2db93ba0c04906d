# SPDX-License-Identifier: GPL-2.0-only
"""The VM fd: memslots, vCPUs, in-kernel devices, capabilities."""

import errno
from functools import cached_property

from pyvmm.ioctl import Fd, IoctlError
from pyvmm.kvm.device import AttrFd, Device
from pyvmm.kvm.guest_memfd import GuestMemfd
from pyvmm.kvm.host_facts import host_facts
from pyvmm.kvm.memslots import Memslots
from pyvmm.kvm.private_ranges import PrivateRanges
from pyvmm.kvm.vcpu import Vcpu
from pyvmm.uapi.kvm import (
    KVM_CHECK_EXTENSION,
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_TEST,
    KVM_CREATE_GUEST_MEMFD,
    KVM_CREATE_VCPU,
    KVM_ENABLE_CAP,
    KVM_SET_MEMORY_ATTRIBUTES,
    kvm_create_device,
    kvm_create_guest_memfd,
    kvm_enable_cap,
    kvm_memory_attributes,
)
from pyvmm.why import Host


class Vm(AttrFd):
    """A virtual machine, created by `System.create_vm`.

    `close` closes its vCPUs, devices and guest_memfds too, because the kernel destroys a VM only
    after all its file descriptors are closed.

    Attributes:
        vm_type: the machine type passed to ``KVM_CREATE_VM``.
        enabled: the capabilities enabled with `enable`; the kernel has no ioctl to query them.
        memslots: the memslots registered through this object.
        private: the memory made private with `set_memory_attributes`.
    """

    kind = "vm"

    def __init__(self, number: int, run_size: int, vm_type: int = 0) -> None:
        """Own fd `number`; `run_size` is ``KVM_GET_VCPU_MMAP_SIZE``, in bytes."""
        super().__init__(number)
        self._run_size = run_size
        self.vm_type = vm_type
        self.enabled: set[int] = set()
        self.memslots = Memslots(self)
        self.private = PrivateRanges()
        self._children: list[Fd] = []

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

    @cached_property
    def host(self) -> Host:
        """Return the facts of this kernel and CPU on which KVM's conditions depend."""
        return host_facts(self)

    def enable(self, capability: int, *args: int, flags: int = 0) -> None:
        """Enable a capability with ``KVM_ENABLE_CAP``. Raises `IoctlError`."""
        request = kvm_enable_cap(cap=capability, flags=flags)
        for index, arg in enumerate(args):
            request.args[index] = arg
        self.ioctl(KVM_ENABLE_CAP, request)
        self.enabled.add(capability)

    def set_memory_attributes(self, gpa: int, size: int, attributes: int) -> None:
        """Set the attributes of `size` bytes at `gpa`: 0 or KVM_MEMORY_ATTRIBUTE_PRIVATE.

        ``KVM_SET_MEMORY_ATTRIBUTES``. Raises `IoctlError`.
        """
        request = kvm_memory_attributes(address=gpa, size=size, attributes=attributes)
        self.ioctl(KVM_SET_MEMORY_ATTRIBUTES, request)
        self.private.set(gpa, size, attributes)

    def create_vcpu(self, index: int = 0) -> Vcpu:
        """Create a vCPU with ``KVM_CREATE_VCPU``; on arm64 `arch.arm64.setup` initializes it."""
        vcpu = Vcpu(self.ioctl(KVM_CREATE_VCPU, index), self._run_size)
        self._children.append(vcpu)
        return vcpu

    def create_device(self, device_type: int) -> Device:
        """Create an in-kernel device (``KVM_CREATE_DEVICE``) of a ``KVM_DEV_TYPE_*``."""
        request = kvm_create_device(type=device_type)
        self.ioctl(KVM_CREATE_DEVICE, request)
        device = Device(request.fd)
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
