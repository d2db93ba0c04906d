# SPDX-License-Identifier: GPL-2.0-only
"""The in-kernel vfio device: tells KVM which vfio files this VM uses."""

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
    """``KVM_DEV_TYPE_VFIO``; a VM can have one.

    KVM needs the files for what a device does to a VM as a whole: non-coherent DMA on x86, and
    drivers that ask for the VM they serve.
    """

    def __init__(self, vm: Vm) -> None:
        self._device = vm.create_device(KVM_DEV_TYPE_VFIO)

    def add(self, file: Fd) -> None:
        """``KVM_DEV_VFIO_FILE_ADD`` of a vfio group or device cdev. Raises `IoctlError`."""
        self._device.set_attr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, file.fileno())

    def remove(self, file: Fd) -> None:
        """``KVM_DEV_VFIO_FILE_DEL``: KVM lets go of the file.

        Until then the device stays open whatever user space closes, and taking it from its vfio
        driver waits for ever.
        """
        with contextlib.suppress(ValueError):  # the VM was closed first, and let go of everything
            self._device.set_attr(KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_DEL, file.fileno())
