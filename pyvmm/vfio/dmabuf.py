# SPDX-License-Identifier: GPL-2.0-only
"""BARs as DMA targets of other devices, with iommufd: export a dma-buf and map it.

iommufd pins pages, and the VMA of a BAR has none (VM_PFNMAP). A dma-buf names the BAR instead.
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
    """A part of a BAR as a dma-buf. The kernel revokes it while memory space is disabled."""

    kind = "dma-buf"


def export_dmabuf(bar: Region, at: int, size: int) -> DmaBuf:
    """Export `size` bytes of a BAR from byte `at`, in whole pages, as a dma-buf.

    This is ``VFIO_DEVICE_FEATURE_DMA_BUF``. Raises `IoctlError`: ENOTTY if the kernel lacks the
    feature (it needs CONFIG_PCI_P2PDMA), EOPNOTSUPP if the driver does (it has no
    get_dmabuf_phys), EINVAL for partial pages, ENODEV for a region that is not a BAR.
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


def map_dmabuf(iommufd: Fd, ioas: int, file: Fd, iova: int, size: int) -> None:
    """Map the first `size` bytes of a dma-buf at `iova`, readable and writable by devices.

    This is ``IOMMU_IOAS_MAP_FILE``. Raises `IoctlError`.
    """
    request = iommu_ioas_map_file(ioas_id=ioas, fd=file.fileno(), length=size, iova=iova)
    request.size = ctypes.sizeof(request)
    request.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE
    iommufd.ioctl(IOMMU_IOAS_MAP_FILE, request)
