# SPDX-License-Identifier: GPL-2.0-only
"""IO address spaces of vfio containers and groups, with the mapping ioctls of type1.

A container is a descriptor of /dev/vfio/vfio, or of /dev/iommu, which emulates it (iommufd's
vfio compatibility mode). Groups work the same with both.
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
from pyvmm.vfio.dmabuf import export_dmabuf, map_dmabuf
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import IommuGroup, PciFunction

# The device node and the argument of VFIO_SET_IOMMU, by mode.
CONTAINER_MODES = {
    "vfio_type1v2_iommu": (device_nodes.CONTAINER, VFIO_TYPE1v2_IOMMU),
    "vfio_type1_iommu": (device_nodes.CONTAINER, VFIO_TYPE1_IOMMU),
    "iommufd_compat_type1v2": (device_nodes.IOMMUFD, VFIO_TYPE1v2_IOMMU),
    "iommufd_compat_type1": (device_nodes.IOMMUFD, VFIO_TYPE1_IOMMU),
}


class _ContainerFd(Struct, size=4):
    container: s32 = at(0)


class _DeviceName(Struct, size=32):
    text: Annotated[bytes, ctypes.c_char * 32] = at(0)


class _GroupFd(Fd):
    kind = "vfio-group"


class Container(IoAddressSpace):
    """A vfio container, to which devices attach through their groups.

    `close` closes the groups too; close the devices before it.
    """

    kind = "vfio-container"

    def __init__(self, number: int, mode: str) -> None:
        """Take the descriptor `number`."""
        super().__init__(number)
        self.mode = mode
        self._groups: dict[IommuGroup, Fd] = {}

    @classmethod
    def open(cls, mode: str) -> Self:
        """Open a container for a mode of `CONTAINER_MODES`. Raises `LackingError`."""
        path, type1 = CONTAINER_MODES[mode]
        container = cls(device_nodes.open_node(path), mode)
        try:
            container._check_support(path, type1)
        except BaseException:
            container.close()
            raise
        return container

    def _check_support(self, path: Path, type1: int) -> None:
        if self.ioctl(VFIO_GET_API_VERSION) != VFIO_API_VERSION:
            raise LackingError(f"{path} does not have vfio API version {VFIO_API_VERSION}")
        if not self.ioctl(VFIO_CHECK_EXTENSION, type1):
            raise LackingError(
                f"{path} does not support IOMMU type {type1}: load module vfio_iommu_type1"
            )

    def attach(self, function: PciFunction) -> VfioDeviceFd:
        """Add the device's group to the container, if needed, and open the device.

        Raises `LackingError` and `IoctlError`.
        """
        group = function.require_group()
        if group not in self._groups:
            self._groups[group] = self._add_group(group)
        name = _DeviceName(text=str(function).encode())
        return VfioDeviceFd(
            self._groups[group].ioctl(VFIO_GROUP_GET_DEVICE_FD, name), self._groups[group]
        )

    def _add_group(self, group: IommuGroup) -> Fd:
        fd = _GroupFd(device_nodes.open_node(device_nodes.GROUPS / str(group.number), group))
        try:
            status = vfio_group_status()
            status.argsz = ctypes.sizeof(status)
            fd.ioctl(VFIO_GROUP_GET_STATUS, status)
            if not status.flags & VFIO_GROUP_FLAGS_VIABLE:
                raise LackingError(
                    f"IOMMU group {group.number} is not viable: unbind the host drivers of its "
                    "devices, or bind them to vfio-pci"
                )
            fd.ioctl(VFIO_GROUP_SET_CONTAINER, _ContainerFd(container=self.fileno()))
            if not self._groups:
                self.ioctl(VFIO_SET_IOMMU, CONTAINER_MODES[self.mode][1])
        except BaseException:
            fd.close()
            raise
        return fd

    def ranges(self) -> list[IovaRange]:
        """Return the valid IOVA ranges from ``VFIO_IOMMU_GET_INFO``, lowest first."""
        for capability in self._info()[1]:
            if capability.id == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
                return _ranges(capability)
        return [IovaRange(0, 2**64 - 1)]  # before v5.4 the kernel does not return them

    @property
    def page_size(self) -> int:
        """Return the smallest page size of ``iova_pgsizes`` in bytes."""
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
            with export_dmabuf(bar, at, size) as dmabuf:
                map_dmabuf(self, self._compat_ioas(), dmabuf, iova, size)
        else:
            # vfio_iommu_type1 resolves the PFNs of VM_PFNMAP VMAs (follow_fault_pfn).
            self._map(iova, hva, size, readable=True, writable=True)

    def _compat_ioas(self) -> int:
        """Return the ID of the IOAS that emulates the container (``IOMMU_VFIO_IOAS_GET``)."""
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
        """Unmap everything, and close the container and its groups. Idempotent."""
        super().close()
        while self._groups:
            self._groups.popitem()[1].close()


def _ranges(capability: RawCapability) -> list[IovaRange]:
    # struct vfio_iommu_type1_info_cap_iova_range after the header: nr_iovas, reserved, ranges[].
    if len(capability.data) < 8 or len(capability.data) < 8 + 16 * (
        count := int.from_bytes(capability.data[:4], "little")
    ):
        raise MalformedChainError(
            f"the IOVA range capability is cut off after {len(capability.data)} bytes"
        )
    pairs = struct.iter_unpack("=QQ", capability.data[8 : 8 + 16 * count])
    return [IovaRange(start, last) for start, last in pairs]
