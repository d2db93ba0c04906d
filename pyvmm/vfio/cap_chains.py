# SPDX-License-Identifier: GPL-2.0-only
"""Capability chains, which follow the fixed structs of vfio's INFO ioctls.

``struct vfio_info_cap_header`` is {u16 id, u16 version, u32 next}. ``next`` is an offset in bytes
from the start of the INFO buffer; 0 ends the chain. No header has the capability's length.
"""

import ctypes
import struct
from collections.abc import Iterator
from ctypes import Array, c_uint8
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pyvmm.errors import PyvmmError
from pyvmm.ioctl import Fd
from pyvmm.uapi import layout
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.vfio import vfio_device_info, vfio_iommu_type1_info, vfio_region_info

_HEADER = struct.Struct("=HHI")
_Info = TypeVar("_Info", vfio_device_info, vfio_region_info, vfio_iommu_type1_info)


class _Buffer(layout.Struct, size=0):
    data: Annotated[Array[c_uint8], c_uint8 * 0] = layout.at(0)


class MalformedChainError(PyvmmError):
    """A capability chain, or a capability in it, that is invalid."""


@dataclass(frozen=True)
class RawCapability:
    """A capability before decoding: `data` are the bytes from its header to the next one."""

    id: int
    version: int
    data: bytes


def walk(buffer: bytes, first: int, fixed: int) -> list[RawCapability]:
    """Return the capabilities of the chain at byte `first` of an INFO ioctl's `buffer`.

    `fixed` is the size in bytes of the fixed struct. `first` is 0 if there is no chain.
    Raises `MalformedChainError` if a header is within the struct or not within the buffer, and
    if the chain loops.
    """
    headers = list(_headers(buffer, first, fixed))
    starts = [at for at, _, _ in headers]
    capabilities = []
    for at, id, version in headers:
        end = min((start for start in starts if start > at), default=len(buffer))
        capabilities.append(RawCapability(id, version, buffer[at + _HEADER.size : end]))
    return capabilities


def _headers(buffer: bytes, first: int, fixed: int) -> Iterator[tuple[int, int, int]]:
    at, starts = first, set[int]()
    while at:
        header = f"the capability header at byte {at:#x} of {len(buffer):#x}"
        if at < fixed:
            raise MalformedChainError(f"{header} is within the struct before the chain")
        if at + _HEADER.size > len(buffer):
            raise MalformedChainError(f"{header} is cut off")
        # Headers must not overlap either, or one would be part of another's data.
        if any(abs(at - other) < _HEADER.size for other in starts):
            raise MalformedChainError(f"{header} repeats an earlier one: the chain loops")
        starts.add(at)
        id, version, following = _HEADER.unpack_from(buffer, at)
        yield at, id, version
        at = following


def query(fd: Fd, request: Ioctl, info: _Info, caps_flag: int) -> tuple[_Info, list[RawCapability]]:
    """Call an INFO ioctl with a large enough buffer. Return its struct and its capabilities.

    `info` has the input members set, except ``argsz``. `caps_flag` is the bit of ``flags`` for a
    capability chain. Raises `IoctlError` and `MalformedChainError`.
    """
    fixed = room = ctypes.sizeof(info)
    info.argsz = room
    fd.ioctl(request, info)
    raw = bytes(info)
    while info.argsz > room:
        # The kernel wrote the required size to argsz.
        room = info.argsz
        larger = _Buffer.with_room(room)()
        ctypes.memmove(ctypes.addressof(larger), raw, len(raw))
        type(info).from_buffer(larger).argsz = room
        fd.ioctl(request, larger)
        raw = bytes(larger)
        info = type(info).from_buffer(larger)
    return info, walk(raw, info.cap_offset, fixed) if info.flags & caps_flag else []
