# SPDX-License-Identifier: GPL-2.0-only
"""Decoded capabilities of a region (``VFIO_DEVICE_GET_REGION_INFO``)."""

import struct
from dataclasses import dataclass

from pyvmm.uapi import vfio
from pyvmm.vfio.cap_chains import MalformedChainError, RawCapability

_PCI = vfio.VFIO_REGION_TYPE_PCI_VENDOR_TYPE & 0xFFFFFFFF  # 1 << 31 is negative in C
_SUBTYPES = {
    (_PCI | 0x8086, vfio.VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION): "igd-opregion",
    (_PCI | 0x8086, vfio.VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG): "igd-host-bridge",
    (_PCI | 0x8086, vfio.VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG): "igd-lpc-bridge",
    (_PCI | 0x10DE, vfio.VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM): "nvlink2-ram",
    (_PCI | 0x1014, vfio.VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD): "nvlink2-atsd",
    (vfio.VFIO_REGION_TYPE_GFX, vfio.VFIO_REGION_SUBTYPE_GFX_EDID): "gfx-edid",
}


@dataclass(frozen=True, order=True)
class Area:
    """A part of a region: `size` bytes at byte `offset` (``vfio_region_sparse_mmap_area``)."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Return the offset of the first byte after the area."""
        return self.offset + self.size

    def __str__(self) -> str:
        """Return the offsets in hex; the end is exclusive."""
        return f"{self.offset:#x}-{self.end:#x}"


@dataclass(frozen=True)
class SparseMmap:
    """``VFIO_REGION_INFO_CAP_SPARSE_MMAP``: the only areas that user space may mmap."""

    areas: tuple[Area, ...]

    def __str__(self) -> str:
        """Return a phrase for reports."""
        return f"sparse-mmap {', '.join(map(str, self.areas)) or 'nothing'}"


@dataclass(frozen=True)
class RegionType:
    """``VFIO_REGION_INFO_CAP_TYPE``: the type of a device-specific region."""

    type: int
    subtype: int

    def __str__(self) -> str:
        """Return a phrase for reports."""
        owner = f"type {self.type}"
        if self.type & _PCI:  # defined by a PCI vendor, not by vfio
            owner = f"vendor {self.type & vfio.VFIO_REGION_TYPE_PCI_VENDOR_MASK:#06x}"
        name = _SUBTYPES.get((self.type, self.subtype), "type")
        return f"{name} ({owner}, subtype {self.subtype})"


@dataclass(frozen=True)
class MsixMappable:
    """``VFIO_REGION_INFO_CAP_MSIX_MAPPABLE``: user space may mmap the MSI-X table."""

    def __str__(self) -> str:
        """Return a phrase for reports."""
        return "msix-mappable"


@dataclass(frozen=True)
class NvlinkTarget:
    """``VFIO_REGION_INFO_CAP_NVLINK2_SSATGT``: the NVLink target address."""

    address: int

    def __str__(self) -> str:
        """Return a phrase for reports."""
        return f"nvlink2-target {self.address:#x}"


@dataclass(frozen=True)
class NvlinkSpeed:
    """``VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD``: the link speed, in units of the device."""

    speed: int

    def __str__(self) -> str:
        """Return a phrase for reports."""
        return f"nvlink2-speed {self.speed:#x}"


@dataclass(frozen=True)
class UnknownCapability:
    """A capability with an unknown ID or version."""

    id: int
    version: int
    data: bytes

    def __str__(self) -> str:
        """Return a phrase for reports."""
        return (
            f"unknown capability {self.id} version {self.version}: {self.data.hex(' ') or 'empty'}"
        )


Capability = SparseMmap | RegionType | MsixMappable | NvlinkTarget | NvlinkSpeed | UnknownCapability


def decode(raw: RawCapability) -> Capability:
    """Decode a capability of a region. Raises `MalformedChainError` if it is too short."""
    if raw.version == 1:
        match raw.id:
            case vfio.VFIO_REGION_INFO_CAP_SPARSE_MMAP:
                return _sparse(raw.data)
            case vfio.VFIO_REGION_INFO_CAP_TYPE:
                return RegionType(*_unpack("=II", raw.data, "a region type"))
            case vfio.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE:
                return MsixMappable()
            case vfio.VFIO_REGION_INFO_CAP_NVLINK2_SSATGT:
                return NvlinkTarget(*_unpack("=Q", raw.data, "an NVLink target"))
            case vfio.VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD:
                return NvlinkSpeed(*_unpack("=I", raw.data, "an NVLink speed"))
    return UnknownCapability(raw.id, raw.version, raw.data)


def _sparse(data: bytes) -> SparseMmap:
    # struct vfio_region_info_cap_sparse_mmap after the header: nr_areas, reserved, areas[].
    count, _ = _unpack("=II", data, "a sparse mmap capability")
    if 8 + 16 * count > len(data):
        raise MalformedChainError(f"{count} sparse mmap areas do not fit into {len(data)} bytes")
    return SparseMmap(
        tuple(Area(*pair) for pair in struct.iter_unpack("=QQ", data[8 : 8 + 16 * count]))
    )


def _unpack(form: str, data: bytes, what: str) -> tuple[int, ...]:
    if len(data) < struct.calcsize(form):
        raise MalformedChainError(f"{what} is cut off after {len(data)} bytes")
    return struct.unpack_from(form, data)
