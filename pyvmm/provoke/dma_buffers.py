# SPDX-License-Identifier: GPL-2.0-only
"""dma-bufs of RAM, whose mappings are PFNMAP: from vgem, udmabuf, and the system heap.

Each function returns an owned dma-buf of `size` bytes, a whole number of pages, to be mapped shared
from offset 0. It raises `SkippedError` where the kernel lacks the driver.
"""

import fcntl
import os
from pathlib import Path

from pyvmm.errors import SkippedError
from pyvmm.ioctl import Fd
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.layout import Struct, at, s32, u32, u64

_DRM = Path("/sys/class/drm")
_DEV_DRI = Path("/dev/dri")
_UDMABUF = Path("/dev/udmabuf")
_SYSTEM_HEAP = Path("/dev/dma_heap/system")

_BITS_PER_PIXEL = 32
_UDMABUF_FLAGS_CLOEXEC = 1  # linux/udmabuf.h


class _CreateDumb(Struct, size=32):
    """``struct drm_mode_create_dumb`` of drm/drm_mode.h."""

    height: u32 = at(0)
    width: u32 = at(4)
    bpp: u32 = at(8)
    flags: u32 = at(12)
    handle: u32 = at(16)
    pitch: u32 = at(20)
    size: u64 = at(24)


class _PrimeHandle(Struct, size=12):
    """``struct drm_prime_handle`` of drm/drm.h."""

    handle: u32 = at(0)
    flags: u32 = at(4)
    fd: s32 = at(8)


class _UdmabufCreate(Struct, size=24):
    """``struct udmabuf_create`` of linux/udmabuf.h."""

    memfd: u32 = at(0)
    flags: u32 = at(4)
    offset: u64 = at(8)
    size: u64 = at(16)


class _HeapAllocation(Struct, size=24):
    """``struct dma_heap_allocation_data`` of linux/dma-heap.h."""

    len: u64 = at(0)
    fd: u32 = at(8)
    fd_flags: u32 = at(12)
    heap_flags: u64 = at(16)


_CREATE_DUMB = Ioctl(0xC02064B2, "DRM_IOCTL_MODE_CREATE_DUMB", ())
_PRIME_HANDLE_TO_FD = Ioctl(0xC00C642D, "DRM_IOCTL_PRIME_HANDLE_TO_FD", ())
_UDMABUF_CREATE = Ioctl(0x40187542, "UDMABUF_CREATE", ())
_DMA_HEAP_ALLOC = Ioctl(0xC0184800, "DMA_HEAP_IOCTL_ALLOC", ())


def of_vgem(size: int) -> Fd:
    """Allocate a drm-shmem buffer, as GPU drivers without memory of their own do."""
    with _open(_vgem_node(), "CONFIG_DRM_VGEM") as card:
        dumb = _CreateDumb(height=1, width=size * 8 // _BITS_PER_PIXEL, bpp=_BITS_PER_PIXEL)
        card.ioctl(_CREATE_DUMB, dumb)
        prime = _PrimeHandle(handle=dumb.handle, flags=os.O_CLOEXEC | os.O_RDWR)
        card.ioctl(_PRIME_HANDLE_TO_FD, prime)
        return Fd(prime.fd)


def of_udmabuf(size: int) -> Fd:
    """Turn a memfd into a dma-buf."""
    with (
        _open(_UDMABUF, "CONFIG_UDMABUF") as device,
        Fd(os.memfd_create("pyvmm-udmabuf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)) as memfd,
    ):
        os.ftruncate(memfd.fileno(), size)
        fcntl.fcntl(memfd.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        request = _UdmabufCreate(memfd=memfd.fileno(), flags=_UDMABUF_FLAGS_CLOEXEC, size=size)
        return Fd(device.ioctl(_UDMABUF_CREATE, request))


def of_system_heap(size: int) -> Fd:
    """Allocate a buffer from the system heap."""
    with _open(_SYSTEM_HEAP, "CONFIG_DMABUF_HEAPS_SYSTEM") as heap:
        request = _HeapAllocation(len=size, fd_flags=os.O_CLOEXEC | os.O_RDWR)
        heap.ioctl(_DMA_HEAP_ALLOC, request)
        return Fd(request.fd)


def _vgem_node() -> Path:
    for card in sorted(_DRM.glob("card?")):
        if (card / "device").resolve().name == "vgem":
            return _DEV_DRI / card.name
    raise SkippedError("this kernel has no vgem: it needs CONFIG_DRM_VGEM")


def _open(path: Path, option: str) -> Fd:
    try:
        return Fd(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise SkippedError(f"this kernel has no {path}: it needs {option}") from None
    except PermissionError:
        raise SkippedError(f"permission denied for {path}: run as root") from None
