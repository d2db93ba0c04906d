# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts of a vfio device, delivered through eventfds."""

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from pyvmm.ioctl import Fd
from pyvmm.uapi import vfio
from pyvmm.vfio.sysfs import PciFunction

_INTERRUPTS = Path("/proc/interrupts")

_NAMES = {
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
    """An interrupt index of a device (``struct vfio_irq_info``).

    INTx, MSI and MSI-X exclude each other: `disable` one before you enable another. ERR signals
    uncorrectable PCIe errors. REQ signals that the host wants the device back.

    Attributes:
        name: ``INTx``, ``MSI``, ``MSI-X``, ``ERR`` or ``REQ``.
        count: the number of vectors; 0 if the device lacks this index.
        flags: ``eventfd``, ``maskable``, ``automasked`` (the kernel masks the interrupt when it
            fires, as for level-triggered INTx), ``noresize`` (enable all vectors with one call).
        enabled: True between `enable` and `disable`.
    """

    def __init__(self, device: Fd, index: int) -> None:
        """Query an index with ``VFIO_DEVICE_GET_IRQ_INFO``.

        Raises `IoctlError` (EINVAL: unknown index).
        """
        info = vfio.vfio_irq_info(index=index)
        info.argsz = ctypes.sizeof(info)
        device.ioctl(vfio.VFIO_DEVICE_GET_IRQ_INFO, info)
        self.device = device
        self.index = index
        self.name = _NAMES.get(index, f"IRQ{index}")
        self.count: int = info.count
        self.flags = tuple(name for name, bit in _FLAGS.items() if info.flags & bit)
        self.enabled = False

    def enable(self, eventfds: Sequence[int | None], *, start: int = 0) -> None:
        """Deliver vectors from `start` to these eventfds (descriptor numbers); None skips one.

        If the flags have ``noresize``, the first call must enable every vector that later calls
        use. Raises `IoctlError`.
        """
        self._set(vfio.VFIO_IRQ_SET_ACTION_TRIGGER, start, eventfds)
        self.enabled = True

    def disable(self) -> None:
        """Disable all vectors. Idempotent."""
        if self.enabled:
            self._act(vfio.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0)
            self.enabled = False

    def mask(self, vector: int = 0) -> None:
        """Mask a vector. vfio-pci supports this for INTx only. Raises `IoctlError`."""
        self._act(vfio.VFIO_IRQ_SET_ACTION_MASK, vector, 1)

    def unmask(self, vector: int = 0) -> None:
        """Unmask a vector; an automasked one after each interrupt. Raises `IoctlError`."""
        self._act(vfio.VFIO_IRQ_SET_ACTION_UNMASK, vector, 1)

    def unmask_on(self, eventfd: int | None) -> None:
        """Unmask vector 0 whenever `eventfd`, such as KVM's resamplefd, is signalled.

        None stops that. Raises `IoctlError`.
        """
        self._set(vfio.VFIO_IRQ_SET_ACTION_UNMASK, 0, [eventfd])

    def trigger(self, vector: int = 0) -> None:
        """Signal the eventfd of a vector as if the device had raised it. Raises `IoctlError`."""
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


def count_interrupts(function: PciFunction) -> int:
    """Return the number of interrupts in /proc/interrupts that vfio received from `function`.

    Disabling an interrupt index removes its counts.
    """
    lines = _INTERRUPTS.read_text().splitlines() if _INTERRUPTS.exists() else []
    return sum(
        int(word)
        for line in lines
        if line.endswith(f"({function})") and "vfio" in line
        for word in line.partition(":")[2].split()[: os.cpu_count()]
        if word.isdigit()
    )
