# SPDX-License-Identifier: GPL-2.0-only
"""Capability chains: how vfio's INFO ioctls say more than their fixed structs have room for.

``struct vfio_info_cap_header`` {u16 id, u16 version, u32 next}; ``next`` counts bytes from the
start of the whole INFO buffer, 0 ends the chain, and no header tells its capability's length.
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


class _Room(layout.Struct, size=0):
    data: Annotated[Array[c_uint8], c_uint8 * 0] = layout.at(0)


class MalformedChainError(PyvmmError):
    """A capability chain, or a capability in it, that no kernel should send: it is not trusted."""


@dataclass(frozen=True)
class RawCapability:
    """One capability, undecoded: `data` is what follows the header, up to the next capability."""

    id: int
    version: int
    data: bytes


def walk(buffer: bytes, first: int, fixed: int) -> list[RawCapability]:
    """The chain in `buffer` (what an INFO ioctl filled in) that starts `first` bytes into it.

    `fixed` is the size in bytes of the struct that the chain follows; `first` 0 is no chain.
    Raises `MalformedChainError` for a header inside the struct, out of the buffer or cut off by its
    end, and for a chain that comes back to itself.
    """
    headers = list(_headers(buffer, first, fixed))
    starts = [at for at, _, _ in headers]
    links = []
    for at, id, version in headers:
        end = min((start for start in starts if start > at), default=len(buffer))
        links.append(RawCapability(id, version, buffer[at + _HEADER.size : end]))
    return links


def _headers(buffer: bytes, first: int, fixed: int) -> Iterator[tuple[int, int, int]]:
    at, seen = first, set[int]()
    while at:
        where = f"a capability header at byte {at:#x} of {len(buffer):#x}"
        if at < fixed:
            raise MalformedChainError(f"{where} lies within the struct before the chain")
        if at + _HEADER.size > len(buffer):
            raise MalformedChainError(f"{where} is cut off")
        # Headers may not share bytes either: then one's data would be another's header.
        if any(abs(at - other) < _HEADER.size for other in seen):
            raise MalformedChainError(f"{where} was there before: the chain loops")
        seen.add(at)
        id, version, following = _HEADER.unpack_from(buffer, at)
        yield at, id, version
        at = following


def query(fd: Fd, request: Ioctl, info: _Info, caps_flag: int) -> tuple[_Info, list[RawCapability]]:
    """Ask an INFO ioctl, with as much room as it wants: its struct, filled in, and its chain.

    `info` has the input members set (``argsz`` is seen to here); `caps_flag` is the bit of
    ``flags`` that says a chain follows. Raises `IoctlError` and `MalformedChainError`.
    """
    fixed = room = ctypes.sizeof(info)
    info.argsz = room
    fd.ioctl(request, info)
    raw = bytes(info)
    while info.argsz > room:
        # The kernel said how much it would have written.
        room = info.argsz
        larger = _Room.with_room(room)()
        ctypes.memmove(ctypes.addressof(larger), raw, len(raw))
        type(info).from_buffer(larger).argsz = room
        fd.ioctl(request, larger)
        raw = bytes(larger)
        info = type(info).from_buffer(larger)
    return info, walk(raw, info.cap_offset, fixed) if info.flags & caps_flag else []
