# SPDX-License-Identifier: GPL-2.0-only
"""The older way into an IOMMU: containers and groups, with type1's mapping ioctls.

The container is vfio's own (/dev/vfio/vfio), or an iommufd that speaks its language; the group
works the same with both.
"""

import ctypes
import struct
from pathlib import Path
from typing import Annotated, Self

from pyvmm.errors import LackingError
from pyvmm.ioctl import Fd
from pyvmm.uapi.iommufd import IOMMU_VFIO_IOAS, IOMMU_VFIO_IOAS_GET, iommu_vfio_ioas
from pyvmm.uapi.layout import Struct, at, s32
from pyvmm.uapi.vfio import (
    VFIO_API_VERSION,
    VFIO_CHECK_EXTENSION,
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_GET_API_VERSION,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_INFO_CAPS,
    VFIO_IOMMU_MAP_DMA,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    VFIO_IOMMU_UNMAP_DMA,
    VFIO_SET_IOMMU,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU,
    vfio_group_status,
    vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info,
)
from pyvmm.vfio import cap_chains, device_nodes
from pyvmm.vfio.cap_chains import MalformedChainError, RawCapability
from pyvmm.vfio.dma import IoAddressSpace, IovaRange, VfioDeviceFd
from pyvmm.vfio.dmabuf import export, map_file
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import IommuGroup, PciFunction

# Each container mode: the node that is the container, and the IOMMU type that is set on it.
CONTAINER_MODES = {
    "vfio_type1v2_iommu": (device_nodes.CONTAINER, VFIO_TYPE1v2_IOMMU),
    "vfio_type1_iommu": (device_nodes.CONTAINER, VFIO_TYPE1_IOMMU),
    "iommufd_compat_type1v2": (device_nodes.IOMMUFD, VFIO_TYPE1v2_IOMMU),
    "iommufd_compat_type1": (device_nodes.IOMMUFD, VFIO_TYPE1_IOMMU),
}


class _Number(Struct, size=4):
    container: s32 = at(0)


class _Name(Struct, size=32):
    text: Annotated[bytes, ctypes.c_char * 32] = at(0)


class _GroupFd(Fd):
    kind = "vfio-group"


class Container(IoAddressSpace):
    """A vfio container, which devices enter through their groups.

    Closing it closes the groups; close the devices before.
    """

    kind = "vfio-container"

    def __init__(self, number: int, mode: str) -> None:
        super().__init__(number)
        self.mode = mode
        self._groups: dict[IommuGroup, Fd] = {}

    @classmethod
    def open(cls, mode: str) -> Self:
        """A new container for one of the modes in `CONTAINER_MODES`. Raises `LackingError`."""
        path, type1 = CONTAINER_MODES[mode]
        container = cls(device_nodes.open_node(path), mode)
        try:
            container._check(path, type1)
        except BaseException:
            container.close()
            raise
        return container

    def _check(self, path: Path, type1: int) -> None:
        if self.ioctl(VFIO_GET_API_VERSION) != VFIO_API_VERSION:
            raise LackingError(f"{path} speaks another vfio API than version {VFIO_API_VERSION}")
        if not self.ioctl(VFIO_CHECK_EXTENSION, type1):
            raise LackingError(f"{path} offers no IOMMU of that type: load vfio_iommu_type1")

    def attach(self, function: PciFunction) -> VfioDeviceFd:
        group = function.require_group()
        if group not in self._groups:
            self._groups[group] = self._enter(group)
        name = _Name(text=str(function).encode())
        return VfioDeviceFd(
            self._groups[group].ioctl(VFIO_GROUP_GET_DEVICE_FD, name), self._groups[group]
        )

    def _enter(self, group: IommuGroup) -> Fd:
        fd = _GroupFd(device_nodes.open_node(device_nodes.GROUPS / str(group.number), group))
        try:
            status = vfio_group_status()
            status.argsz = ctypes.sizeof(status)
            fd.ioctl(VFIO_GROUP_GET_STATUS, status)
            if not status.flags & VFIO_GROUP_FLAGS_VIABLE:
                raise LackingError(
                    f"IOMMU group {group.number} is not viable: a driver holds one of its devices"
                )
            fd.ioctl(VFIO_GROUP_SET_CONTAINER, _Number(container=self.fileno()))
            if not self._groups:
                self.ioctl(VFIO_SET_IOMMU, CONTAINER_MODES[self.mode][1])
        except BaseException:
            fd.close()
            raise
        return fd

    def ranges(self) -> list[IovaRange]:
        for link in self._info()[1]:
            if link.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
                return _ranges(link)
        return [IovaRange(0, 2**64 - 1)]  # a kernel before v5.4 keeps them to itself

    @property
    def page_size(self) -> int:
        sizes: int = self._info()[0].iova_pgsizes
        return sizes & -sizes

    def _info(self) -> tuple[vfio_iommu_type1_info, list[RawCapability]]:
        info = vfio_iommu_type1_info()
        return cap_chains.query(self, VFIO_IOMMU_GET_INFO, info, VFIO_IOMMU_INFO_CAPS)

    def _map(self, iova: int, hva: int, size: int, readable: bool, writable: bool) -> None:
        request = vfio_iommu_type1_dma_map(vaddr=hva, iova=iova, size=size)
        request.argsz = ctypes.sizeof(request)
        request.flags = VFIO_DMA_MAP_FLAG_READ if readable else 0
        request.flags |= VFIO_DMA_MAP_FLAG_WRITE if writable else 0
        self.ioctl(VFIO_IOMMU_MAP_DMA, request)

    def _map_bar(self, iova: int, bar: Region, hva: int, at: int, size: int) -> None:
        if CONTAINER_MODES[self.mode][0] == device_nodes.IOMMUFD:
            with export(bar, at, size) as dmabuf:
                map_file(self, self._compat_ioas(), dmabuf, iova, size)
        else:
            # vfio's own type1 follows PFNMAP VMAs to the BAR behind them.
            self._map(iova, hva, size, readable=True, writable=True)

    def _compat_ioas(self) -> int:
        """The IOAS behind an iommufd's container face."""
        request = iommu_vfio_ioas(op=IOMMU_VFIO_IOAS_GET)
        request.size = ctypes.sizeof(request)
        self.ioctl(IOMMU_VFIO_IOAS, request)
        ioas: int = request.ioas_id
        return ioas

    def _unmap(self, iova: int, size: int) -> None:
        request = vfio_iommu_type1_dma_unmap(iova=iova, size=size)
        request.argsz = ctypes.sizeof(request)
        self.ioctl(VFIO_IOMMU_UNMAP_DMA, request)

    def close(self) -> None:
        super().close()
        while self._groups:
            self._groups.popitem()[1].close()


def _ranges(link: RawCapability) -> list[IovaRange]:
    # struct vfio_iommu_type1_info_cap_iova_range after its header: nr_iovas, reserved, ranges[].
    if len(link.data) < 8 or len(link.data) < 8 + 16 * (
        count := int.from_bytes(link.data[:4], "little")
    ):
        raise MalformedChainError(f"the IOVA ranges are cut off after {len(link.data)} bytes")
    pairs = struct.iter_unpack("=QQ", link.data[8 : 8 + 16 * count])
    return [IovaRange(start, last) for start, last in pairs]
