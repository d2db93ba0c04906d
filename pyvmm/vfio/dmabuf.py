# SPDX-License-Identifier: GPL-2.0-only
"""BAR-to-BAR DMA with an iommufd: a piece of BAR becomes a dma-buf, the dma-buf becomes IOVAs.

An iommufd pins memory, and a BAR's HVA leads to none; the dma-buf names the BAR itself.
"""

import ctypes
import os

from pyvmm.ioctl import Fd
from pyvmm.uapi.iommufd import (
    IOMMU_IOAS_MAP_FILE,
    IOMMU_IOAS_MAP_FIXED_IOVA,
    IOMMU_IOAS_MAP_READABLE,
    IOMMU_IOAS_MAP_WRITEABLE,
    iommu_ioas_map_file,
)
from pyvmm.uapi.vfio import (
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_FEATURE_DMA_BUF,
    VFIO_DEVICE_FEATURE_GET,
    vfio_device_feature,
    vfio_device_feature_dma_buf,
    vfio_region_dma_range,
)
from pyvmm.vfio.regions import Region


class DmaBuf(Fd):
    """A piece of a BAR as a file. The kernel empties it while the device's memory space is off."""

    kind = "dma-buf"


def export(bar: Region, at: int, size: int) -> DmaBuf:
    """``VFIO_DEVICE_FEATURE_DMA_BUF``: `size` bytes of a BAR from byte `at`, both whole pages.

    Raises `IoctlError`: ENOTTY where the kernel or the driver has no such feature (it needs
    CONFIG_PCI_P2PDMA), EINVAL for parts of pages, ENODEV for a region that is no BAR.
    """
    buffer_type = vfio_device_feature.with_room(ctypes.sizeof(vfio_device_feature_dma_buf) + 16)
    request = buffer_type(flags=VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF)
    request.argsz = ctypes.sizeof(request)
    wanted = vfio_device_feature_dma_buf.with_room(1).from_buffer(request.data)
    wanted.region_index = bar.index
    wanted.open_flags = os.O_RDWR | os.O_CLOEXEC
    wanted.nr_ranges = 1
    wanted.dma_ranges[0] = vfio_region_dma_range(offset=at, length=size)
    return DmaBuf(bar.device.ioctl(VFIO_DEVICE_FEATURE, request))


def map_file(iommufd: Fd, ioas: int, file: Fd, iova: int, size: int) -> None:
    """``IOMMU_IOAS_MAP_FILE``: the first `size` bytes of a dma-buf, readable and writable for DMA.

    Raises `IoctlError`.
    """
    request = iommu_ioas_map_file(ioas_id=ioas, fd=file.fileno(), length=size, iova=iova)
    request.size = ctypes.sizeof(request)
    request.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE
    iommufd.ioctl(IOMMU_IOAS_MAP_FILE, request)
