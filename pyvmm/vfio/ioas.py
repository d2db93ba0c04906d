# SPDX-License-Identifier: GPL-2.0-only
"""IO address spaces of iommufd: /dev/iommu, an IOAS, and the cdevs of the devices."""

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
from pyvmm.vfio.dmabuf import export_dmabuf, map_dmabuf
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction

_BUSY = (errno.EINVAL, errno.EBUSY)


class Iommufd(IoAddressSpace):
    """An iommufd with one IOAS, to which devices attach through their cdevs."""

    kind = "iommufd"
    mode = "iommufd"

    def __init__(self, number: int) -> None:
        """Take the descriptor `number` and allocate an IOAS (``IOMMU_IOAS_ALLOC``)."""
        super().__init__(number)
        request = iommu_ioas_alloc()
        request.size = ctypes.sizeof(request)
        self.ioctl(IOMMU_IOAS_ALLOC, request)
        self.ioas: int = request.out_ioas_id

    @classmethod
    def open(cls) -> Self:
        """Open ``/dev/iommu`` and allocate an IOAS. Raises `LackingError`."""
        return cls(device_nodes.open_node(device_nodes.IOMMUFD))

    def attach(self, function: PciFunction) -> VfioDeviceFd:
        """Open the device's cdev, bind it to the iommufd and attach it to the IOAS.

        Raises `LackingError` and `IoctlError`.
        """
        name = function.cdev
        if not name:
            raise LackingError(
                f"{function} has no vfio cdev: bind it to a vfio driver "
                "(the kernel needs CONFIG_VFIO_DEVICE_CDEV)"
            )
        path = device_nodes.CDEVS / name
        device = VfioDeviceFd(device_nodes.open_node(path))
        try:
            self._bind(device)
            request = vfio_device_attach_iommufd_pt(pt_id=self.ioas)
            request.argsz = ctypes.sizeof(request)
            device.ioctl(VFIO_DEVICE_ATTACH_IOMMUFD_PT, request)
        except IoctlError as error:
            device.close()  # so that the error does not name this process
            # EINVAL: another fd of the cdev is bound. EBUSY: the group is open.
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
        """Return the valid IOVA ranges (``IOMMU_IOAS_IOVA_RANGES``), lowest first."""
        return self._query_ranges()[0]

    @property
    def page_size(self) -> int:
        """Return the alignment of mappings in bytes (``out_iova_alignment``)."""
        return self._query_ranges()[1]

    def _query_ranges(self) -> tuple[list[IovaRange], int]:
        request = iommu_ioas_iova_ranges(ioas_id=self.ioas)
        request.size = ctypes.sizeof(request)
        ranges = (iommu_iova_range * 0)()
        while True:
            request.allowed_iovas = ctypes.addressof(ranges)
            try:
                self.ioctl(IOMMU_IOAS_IOVA_RANGES, request)
            except IoctlError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                # The kernel wrote the required number to num_iovas.
                ranges = (iommu_iova_range * request.num_iovas)()
            else:
                return [IovaRange(r.start, r.last) for r in ranges], request.out_iova_alignment

    def _map(self, iova: int, hva: int, size: int, readable: bool, writable: bool) -> None:
        request = iommu_ioas_map(ioas_id=self.ioas, user_va=hva, length=size, iova=iova)
        request.size = ctypes.sizeof(request)
        request.flags = IOMMU_IOAS_MAP_FIXED_IOVA
        request.flags |= IOMMU_IOAS_MAP_READABLE if readable else 0
        request.flags |= IOMMU_IOAS_MAP_WRITEABLE if writable else 0
        self.ioctl(IOMMU_IOAS_MAP, request)

    def _map_bar(self, iova: int, bar: Region, hva: int, at: int, size: int) -> None:
        with export_dmabuf(bar, at, size) as dmabuf:
            map_dmabuf(self, self.ioas, dmabuf, iova, size)

    def _unmap(self, iova: int, size: int) -> None:
        request = iommu_ioas_unmap(ioas_id=self.ioas, iova=iova, length=size)
        request.size = ctypes.sizeof(request)
        self.ioctl(IOMMU_IOAS_UNMAP, request)
