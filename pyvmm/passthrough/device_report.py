# SPDX-License-Identifier: GPL-2.0-only
"""An assigned device as the ``device`` part of schema ``pyvmm.run/1``."""

import os
from dataclasses import dataclass

from pyvmm.memory import PAGE_SIZE
from pyvmm.vfio.bars import EmulatedArea, Unmappable
from pyvmm.vfio.device_features import DeviceFeature, probe_features
from pyvmm.vfio.region_caps import Area
from pyvmm.vfio.regions import Region
from pyvmm.vfio.vfio_device import VfioDevice

_WHY = {
    Unmappable.NO_MMAP_FLAG: "the kernel does not let user space map it",
    Unmappable.BELOW_PAGE_SIZE: "it is smaller than the host's page of {page:#x} bytes",
    Unmappable.TRAPPED: "the VMM traps it",
    Unmappable.NOT_SPARSE_AREA: "the kernel lets user space map only other parts",
    Unmappable.MSIX_TABLE: "the kernel does not let user space map the MSI-X table's page",
    Unmappable.PARTIAL_PAGE: "its page reaches beyond the region",
    Unmappable.MMAP_FAILED: "the kernel refused to map it: {error}",
}


@dataclass(frozen=True)
class EmulatedReport:
    """A part of a region that the guest reaches through the VMM, and why."""

    area: Area
    why: str


@dataclass(frozen=True)
class RegionReport:
    """A region; `areas` are the parts that user space can mmap."""

    name: str
    index: int
    size: int
    flags: tuple[str, ...]
    areas: tuple[Area, ...]
    emulated: tuple[EmulatedReport, ...]
    capabilities: tuple[str, ...]


@dataclass(frozen=True)
class IrqReport:
    """An interrupt index of the device, such as MSI-X."""

    name: str
    count: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class DeviceReport:
    """The ``device`` object of the JSON document, which `dataclasses.asdict` makes of this."""

    bdf: str
    vendor: str
    device: str
    driver: str | None
    iommu_mode: str
    iommu_group: int | None
    regions: tuple[RegionReport, ...]
    irqs: tuple[IrqReport, ...]
    features: tuple[DeviceFeature, ...]


def report_device(device: VfioDevice) -> DeviceReport:
    """Return the report of an open device. Probes its features."""
    function, group = device.function, device.function.group
    return DeviceReport(
        bdf=str(function),
        vendor=f"{function.vendor:#06x}",
        device=f"{function.device:#06x}",
        driver=function.driver,
        iommu_mode=device.dma.mode,
        iommu_group=group.number if group else None,
        regions=tuple(_report_region(device, region) for region in device.regions.values()),
        irqs=tuple(IrqReport(irq.name, irq.count, irq.flags) for irq in device.irqs.values()),
        features=tuple(probe_features(device.fd)),
    )


def report_emulated(emulated: EmulatedArea) -> EmulatedReport:
    """Return the area with the reason as a phrase."""
    why = _WHY[emulated.reason].format(page=PAGE_SIZE, error=os.strerror(emulated.errno))
    return EmulatedReport(emulated.area, why)


def _report_region(device: VfioDevice, region: Region) -> RegionReport:
    split = device.split(region)
    return RegionReport(
        name=region.name,
        index=region.index,
        size=region.size,
        flags=region.flags,
        areas=split.mapped,
        emulated=tuple(map(report_emulated, split.emulated)),
        capabilities=tuple(map(str, region.capabilities)),
    )
