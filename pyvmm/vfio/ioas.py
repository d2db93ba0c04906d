# SPDX-License-Identifier: GPL-2.0-only
"""The modern way into an IOMMU: /dev/iommu, an IOAS, and a device's own cdev."""

import ctypes
import errno
from typing import Self

from pyvmm.errors import LackingError
from pyvmm.ioctl import Fd, IoctlError
from pyvmm.uapi.iommufd import (
    IOMMU_IOAS_ALLOC,
    IOMMU_IOAS_IOVA_RANGES,
    IOMMU_IOAS_MAP,
    IOMMU_IOAS_MAP_FIXED_IOVA,
    IOMMU_IOAS_MAP_READABLE,
    IOMMU_IOAS_MAP_WRITEABLE,
    IOMMU_IOAS_UNMAP,
    iommu_ioas_alloc,
    iommu_ioas_iova_ranges,
    iommu_ioas_map,
    iommu_ioas_unmap,
    iommu_iova_range,
)
from pyvmm.uapi.vfio import (
    VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    VFIO_DEVICE_BIND_IOMMUFD,
    vfio_device_attach_iommufd_pt,
    vfio_device_bind_iommufd,
)
from pyvmm.vfio import device_nodes
from pyvmm.vfio.dma import IoAddressSpace, IovaRange, VfioDeviceFd
from pyvmm.vfio.dmabuf import export, map_file
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction

_BUSY = (errno.EINVAL, errno.EBUSY)


class Iommufd(IoAddressSpace):
    """An iommufd with one IOAS, which every device enters through its cdev."""

    kind = "iommufd"
    mode = "iommufd"

    def __init__(self, number: int) -> None:
        super().__init__(number)
        request = iommu_ioas_alloc()
        request.size = ctypes.sizeof(request)
        self.ioctl(IOMMU_IOAS_ALLOC, request)
        self.ioas: int = request.out_ioas_id

    @classmethod
    def open(cls) -> Self:
        """``/dev/iommu`` and a fresh IOAS. Raises `LackingError`."""
        return cls(device_nodes.open_node(device_nodes.IOMMUFD))

    def attach(self, function: PciFunction) -> VfioDeviceFd:
        name = function.cdev
        if not name:
            raise LackingError(f"{function} has no vfio cdev: no vfio driver holds it")
        path = device_nodes.CDEVS / name
        device = VfioDeviceFd(device_nodes.open_node(path))
        try:
            self._bind(device)
            request = vfio_device_attach_iommufd_pt(pt_id=self.ioas)
            request.argsz = ctypes.sizeof(request)
            device.ioctl(VFIO_DEVICE_ATTACH_IOMMUFD_PT, request)
        except IoctlError as error:
            device.close()  # or it would be among those that have the device open
            # EINVAL where another cdev fd has it open, EBUSY where its group's has.
            if error.request == VFIO_DEVICE_BIND_IOMMUFD and error.errno in _BUSY:
                raise LackingError(
                    device_nodes.explain_open_error(path, errno.EBUSY, function.require_group())
                ) from None
            raise
        return device

    def _bind(self, device: Fd) -> None:
        request = vfio_device_bind_iommufd(iommufd=self.fileno())
        request.argsz = ctypes.sizeof(request)
        device.ioctl(VFIO_DEVICE_BIND_IOMMUFD, request)

    def ranges(self) -> list[IovaRange]:
        return self._query_ranges()[0]

    @property
    def page_size(self) -> int:
        return self._query_ranges()[1]

    def _query_ranges(self) -> tuple[list[IovaRange], int]:
        request = iommu_ioas_iova_ranges(ioas_id=self.ioas)
        request.size = ctypes.sizeof(request)
        found = (iommu_iova_range * 0)()
        while True:
            request.allowed_iovas = ctypes.addressof(found)
            try:
                self.ioctl(IOMMU_IOAS_IOVA_RANGES, request)
            except IoctlError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                # The kernel says in num_iovas how many there are.
                found = (iommu_iova_range * request.num_iovas)()
            else:
                return [IovaRange(r.start, r.last) for r in found], request.out_iova_alignment

    def _map(self, iova: int, hva: int, size: int, readable: bool, writable: bool) -> None:
        request = iommu_ioas_map(ioas_id=self.ioas, user_va=hva, length=size, iova=iova)
        request.size = ctypes.sizeof(request)
        request.flags = IOMMU_IOAS_MAP_FIXED_IOVA
        request.flags |= IOMMU_IOAS_MAP_READABLE if readable else 0
        request.flags |= IOMMU_IOAS_MAP_WRITEABLE if writable else 0
        self.ioctl(IOMMU_IOAS_MAP, request)

    def _map_bar(self, iova: int, bar: Region, hva: int, at: int, size: int) -> None:
        with export(bar, at, size) as dmabuf:
            map_file(self, self.ioas, dmabuf, iova, size)

    def _unmap(self, iova: int, size: int) -> None:
        request = iommu_ioas_unmap(ioas_id=self.ioas, iova=iova, length=size)
        request.size = ctypes.sizeof(request)
        self.ioctl(IOMMU_IOAS_UNMAP, request)
