# SPDX-License-Identifier: GPL-2.0-only
"""The in-kernel vfio device, with which a VMM registers its vfio files with KVM."""

import contextlib

from pyvmm.ioctl import Fd
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import (
    KVM_DEV_TYPE_VFIO,
    KVM_DEV_VFIO_FILE,
    KVM_DEV_VFIO_FILE_ADD,
    KVM_DEV_VFIO_FILE_DEL,
)


class VfioFiles:
    """A ``KVM_DEV_TYPE_VFIO`` device; a VM can have one.

    KVM uses the registered files to handle non-coherent DMA on x86, and to give vfio drivers
    that need it a reference to the VM (virt/kvm/vfio.c).
    """

    def __init__(self, vm: Vm) -> None:
        """Create the device. Raises `IoctlError`: EBUSY if the VM already has one."""
        self._device = vm.create_device(KVM_DEV_TYPE_VFIO)

    def add(self, file: Fd) -> None:
        """Register a vfio group or device cdev (``KVM_DEV_VFIO_FILE_ADD``). Raises `IoctlError`."""
        self._device.set_attr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, file.fileno())

    def remove(self, file: Fd) -> None:
        """Unregister the file (``KVM_DEV_VFIO_FILE_DEL``), so that KVM drops its reference.

        Until then closing the fd does not close the device, and unbinding it from its vfio driver
        blocks.
        """
        with contextlib.suppress(ValueError):  # the VM is closed, which unregistered the file
            self._device.set_attr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_DEL, file.fileno())
