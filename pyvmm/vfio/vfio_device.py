# SPDX-License-Identifier: GPL-2.0-only
"""An assigned device: its regions, interrupts and config space, in an IO address space."""

import contextlib
import errno
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pyvmm.closing import Closing
from pyvmm.errors import SkippedError
from pyvmm.ioctl import Fd, IoctlError
from pyvmm.uapi import vfio
from pyvmm.vfio import bars, cap_chains, device_features
from pyvmm.vfio.bars import RegionSplit
from pyvmm.vfio.config import ConfigSpace, Msix
from pyvmm.vfio.device_features import DeviceFeature
from pyvmm.vfio.dma import IoAddressSpace, VfioDeviceFd
from pyvmm.vfio.irqs import Irq
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction


@dataclass(frozen=True)
class RegionReport:
    """A region as the JSON report has it; `areas` are the parts that can be mapped."""

    name: str
    index: int
    size: int
    flags: tuple[str, ...]
    areas: tuple[Area, ...]
    emulated: tuple[bars.EmulatedArea, ...]
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class IrqReport:
    """A kind of interrupt as the JSON report has it."""

    name: str
    count: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class DeviceReport:
    """The ``device`` part of the run report; ``dataclasses.asdict`` makes the JSON's dict."""

    bdf: str
    vendor: str
    device: str
    driver: str | None
    iommu_mode: str
    iommu_group: int | None
    regions: tuple[RegionReport, ...]
    irqs: tuple[IrqReport, ...]
    features: tuple[DeviceFeature, ...]


class VfioDevice(Closing):
    """A PCI function that vfio gave us, made by `modes.open_device`.

    Attributes:
        function: what sysfs says of it.
        fd: its descriptor.
        dma: the address space that its DMA goes through; other devices may be in it too.
        regions: by name (``BAR0``, ``CONFIG``…), those that the device has.
        irqs: by name (``INTx``, ``MSI``, ``MSI-X``, ``ERR``, ``REQ``), those that it has.
        resettable: whether `reset` can be used.
    """

    def __init__(
        self, function: PciFunction, fd: VfioDeviceFd, dma: IoAddressSpace, owns_dma: bool
    ) -> None:
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
        """What ``KVM_DEV_VFIO_FILE_ADD`` wants to know of: the group's fd, or the cdev's own."""
        return self.fd.group or self.fd

    @cached_property
    def config(self) -> ConfigSpace:
        return ConfigSpace(self.regions["CONFIG"])

    @cached_property
    def msix(self) -> Msix | None:
        """Where the MSI-X table and PBA are; None where the device has no MSI-X."""
        return self.config.msix()

    def split(self, region: Region, trap: Iterable[Area] = ()) -> RegionSplit:
        """Which parts of `region` can be mapped; `trap` are those to emulate in any case."""
        here = self.msix if self.msix and self.msix.table_bar == region.index else None
        return bars.split_region(region, msix_table=here.table if here else None, trap=trap)

    def reset(self) -> None:
        """``VFIO_DEVICE_RESET``: a function-level reset, or what stands in for one.

        Raises `SkippedError` where the device has no reset that spares its neighbours, and
        `IoctlError`.
        """
        if not self.resettable:
            raise SkippedError(f"{self.function} can't be reset alone")
        self.fd.ioctl(vfio.VFIO_DEVICE_RESET)

    def report(self) -> DeviceReport:
        """What there is to say of the device."""
        group = self.function.group
        return DeviceReport(
            bdf=str(self.function),
            vendor=f"{self.function.vendor:#06x}",
            device=f"{self.function.device:#06x}",
            driver=self.function.driver,
            iommu_mode=self.dma.mode,
            iommu_group=group.number if group else None,
            regions=tuple(self._region_report(region) for region in self.regions.values()),
            irqs=tuple(IrqReport(i.name, i.count, i.flags) for i in self.irqs.values()),
            features=tuple(device_features.probe(self.fd)),
        )

    def _region_report(self, region: Region) -> RegionReport:
        division = self.split(region)
        return RegionReport(
            name=region.name,
            index=region.index,
            size=region.size,
            flags=region.flags,
            areas=division.mapped,
            emulated=division.emulated,
            capabilities=tuple(map(str, region.capabilities)),
        )

    def close(self) -> None:
        """Disable the interrupts and close the device; its address space too, if none shares it.

        Mappings of its BARs stay until they are closed themselves.
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
            if error.errno != errno.EINVAL:  # this kind of device has no such region (VGA)
                raise
        else:
            if region.size:
                yield region


def _irqs(fd: VfioDeviceFd, count: int) -> Iterable[Irq]:
    for index in range(count):
        try:
            irq = Irq(fd, index)
        except IoctlError as error:
            if error.errno != errno.EINVAL:  # ERR, where the device is not PCI Express
                raise
        else:
            if irq.count:
                yield irq
