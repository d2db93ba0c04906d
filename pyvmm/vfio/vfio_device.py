# SPDX-License-Identifier: GPL-2.0-only
"""A vfio device: its regions, interrupts and config space, attached to an IO address space."""

import contextlib
import errno
from collections.abc import Iterable
from functools import cached_property

from pyvmm.closeable import Closeable
from pyvmm.errors import SkippedError
from pyvmm.ioctl import Fd, IoctlError
from pyvmm.uapi import vfio
from pyvmm.vfio import bars, cap_chains
from pyvmm.vfio.bars import RegionSplit
from pyvmm.vfio.config import ConfigSpace, Msix
from pyvmm.vfio.dma import IoAddressSpace, VfioDeviceFd
from pyvmm.vfio.irqs import Irq
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction


class VfioDevice(Closeable):
    """An open vfio device. `iommu_modes.open_device` creates it.

    Attributes:
        function: the PCI function in sysfs.
        fd: the device's file descriptor.
        dma: the IO address space that translates the device's DMA. Other devices may share it.
        regions: the regions with a size above 0, by name (``BAR0``, ``CONFIG``, …).
        irqs: the interrupt indexes with at least one vector, by name (``INTx``, ``MSI``,
            ``MSI-X``, ``ERR``, ``REQ``).
        resettable: True if the device supports ``VFIO_DEVICE_RESET``.
    """

    def __init__(
        self, function: PciFunction, fd: VfioDeviceFd, dma: IoAddressSpace, owns_dma: bool
    ) -> None:
        """Query the device's regions and interrupts. `close` closes `dma` if `owns_dma`."""
        self.function = function
        self.fd = fd
        self.dma = dma
        self._owns_dma = owns_dma
        info, _ = cap_chains.query(
            fd, vfio.VFIO_DEVICE_GET_INFO, vfio.vfio_device_info(), vfio.VFIO_DEVICE_FLAGS_CAPS
        )
        self.resettable = bool(info.flags & vfio.VFIO_DEVICE_FLAGS_RESET)
        self.regions = {region.name: region for region in _regions(fd, info.num_regions)}
        self.irqs = {irq.name: irq for irq in _irqs(fd, info.num_irqs)}

    @property
    def kvm_file(self) -> Fd:
        """Return the file for ``KVM_DEV_VFIO_FILE_ADD``: the group's fd, or else the cdev's."""
        return self.fd.group or self.fd

    @cached_property
    def config(self) -> ConfigSpace:
        """Return the PCI config space."""
        return ConfigSpace(self.regions["CONFIG"])

    @cached_property
    def msix(self) -> Msix | None:
        """Return the MSI-X capability, or None if the device has none."""
        return self.config.msix()

    def split(self, region: Region, trap: Iterable[Area] = ()) -> RegionSplit:
        """Split a region into areas to mmap and areas to emulate; `trap` are always emulated."""
        msix = self.msix
        table = msix.table if msix and msix.table_bar == region.index else None
        return bars.split_region(region, msix_table=table, trap=trap)

    def reset(self) -> None:
        """Reset the device with ``VFIO_DEVICE_RESET`` (pci_try_reset_function()).

        Raises `SkippedError` if the device has no reset that leaves other devices alone, and
        `IoctlError`.
        """
        if not self.resettable:
            raise SkippedError(
                f"{self.function} cannot be reset alone: close every device on its bus, and "
                "vfio tries to reset the bus"
            )
        self.fd.ioctl(vfio.VFIO_DEVICE_RESET)

    def close(self) -> None:
        """Disable the interrupts and close the device, and `dma` if the device owns it.

        Mappings of its BARs stay until they are closed.
        """
        with contextlib.ExitStack() as stack:
            if self._owns_dma:
                stack.callback(self.dma.close)
            stack.callback(self.fd.close)
            for irq in self.irqs.values():
                stack.callback(irq.disable)


def _regions(fd: VfioDeviceFd, count: int) -> Iterable[Region]:
    for index in range(count):
        try:
            region = Region.query(fd, index)
        except IoctlError as error:
            if error.errno != errno.EINVAL:  # the device has no such region (VGA)
                raise
        else:
            if region.size:
                yield region


def _irqs(fd: VfioDeviceFd, count: int) -> Iterable[Irq]:
    for index in range(count):
        try:
            irq = Irq(fd, index)
        except IoctlError as error:
            if error.errno != errno.EINVAL:  # ERR needs PCI Express
                raise
        else:
            if irq.count:
                yield irq
