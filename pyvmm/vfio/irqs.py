# SPDX-License-Identifier: GPL-2.0-only
"""A device's interrupts, each delivered by counting up an eventfd."""

import ctypes
import struct
from collections.abc import Sequence

from pyvmm.ioctl import Fd
from pyvmm.uapi import vfio

NAMES = {
    vfio.VFIO_PCI_INTX_IRQ_INDEX: "INTx",
    vfio.VFIO_PCI_MSI_IRQ_INDEX: "MSI",
    vfio.VFIO_PCI_MSIX_IRQ_INDEX: "MSI-X",
    vfio.VFIO_PCI_ERR_IRQ_INDEX: "ERR",
    vfio.VFIO_PCI_REQ_IRQ_INDEX: "REQ",
}
_FLAGS = {
    "eventfd": vfio.VFIO_IRQ_INFO_EVENTFD,
    "maskable": vfio.VFIO_IRQ_INFO_MASKABLE,
    "automasked": vfio.VFIO_IRQ_INFO_AUTOMASKED,
    "noresize": vfio.VFIO_IRQ_INFO_NORESIZE,
}


class Irq:
    """One kind of interrupt of a device (``struct vfio_irq_info``).

    INTx, MSI and MSI-X exclude each other: `disable` one before another is enabled. ERR counts
    uncorrectable PCIe errors, REQ is the host asking for the device back.

    Attributes:
        name: ``INTx``, ``MSI``, ``MSI-X``, ``ERR`` or ``REQ``.
        count: how many vectors there are; 0 where the device has none of this kind.
        flags: ``eventfd``, ``maskable``, ``automasked`` (the kernel masks it at each interrupt,
            as level-triggered ones need), ``noresize`` (all vectors are enabled in one go).
    """

    def __init__(self, device: Fd, index: int) -> None:
        """``VFIO_DEVICE_GET_IRQ_INFO``. Raises `IoctlError` (EINVAL: no such index)."""
        info = vfio.vfio_irq_info(index=index)
        info.argsz = ctypes.sizeof(info)
        device.ioctl(vfio.VFIO_DEVICE_GET_IRQ_INFO, info)
        self.device = device
        self.index = index
        self.name = NAMES.get(index, f"IRQ{index}")
        self.count: int = info.count
        self.flags = tuple(name for name, bit in _FLAGS.items() if info.flags & bit)
        self.enabled = False

    def enable(self, eventfds: Sequence[int | None]) -> None:
        """Deliver vector 0, 1, … to these eventfds (numbers); None leaves a vector out.

        Raises `IoctlError`.
        """
        self._set(vfio.VFIO_IRQ_SET_ACTION_TRIGGER, 0, eventfds)
        self.enabled = True

    def disable(self) -> None:
        """Deliver nothing any more; harmless where nothing was."""
        if self.enabled:
            self._act(vfio.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0)
            self.enabled = False

    def mask(self, vector: int = 0) -> None:
        """Hold a vector's interrupts back. vfio-pci can only do that to INTx."""
        self._act(vfio.VFIO_IRQ_SET_ACTION_MASK, vector, 1)

    def unmask(self, vector: int = 0) -> None:
        """Let a vector's interrupts through again, an automasked one's after each."""
        self._act(vfio.VFIO_IRQ_SET_ACTION_UNMASK, vector, 1)

    def unmask_on(self, eventfd: int | None) -> None:
        """Unmask vector 0 whenever `eventfd` counts up (KVM's resamplefd does); None ends it."""
        self._set(vfio.VFIO_IRQ_SET_ACTION_UNMASK, 0, [eventfd])

    def trigger(self, vector: int = 0) -> None:
        """Pretend that the device raised a vector: its eventfd counts up."""
        self._act(vfio.VFIO_IRQ_SET_ACTION_TRIGGER, vector, 1)

    def _act(self, action: int, start: int, count: int) -> None:
        request = vfio.vfio_irq_set(start=start, count=count, index=self.index)
        request.argsz = ctypes.sizeof(request)
        request.flags = vfio.VFIO_IRQ_SET_DATA_NONE | action
        self.device.ioctl(vfio.VFIO_DEVICE_SET_IRQS, request)

    def _set(self, action: int, start: int, eventfds: Sequence[int | None]) -> None:
        data = struct.pack(f"={len(eventfds)}i", *(-1 if fd is None else fd for fd in eventfds))
        request = vfio.vfio_irq_set.with_room(len(data))(
            start=start, count=len(eventfds), index=self.index
        )
        request.argsz = ctypes.sizeof(request)
        request.flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | action
        request.data[:] = list(data)
        self.device.ioctl(vfio.VFIO_DEVICE_SET_IRQS, request)
