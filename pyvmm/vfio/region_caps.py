# SPDX-License-Identifier: GPL-2.0-only
"""What the capabilities in a region's chain say, the unknown ones included."""

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
    """A part of a region: `size` bytes from byte `offset`."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size

    def __str__(self) -> str:
        return f"{self.offset:#x}-{self.end:#x}"


@dataclass(frozen=True)
class SparseMmap:
    """``VFIO_REGION_INFO_CAP_SPARSE_MMAP``: only these parts may be mmapped."""

    areas: tuple[Area, ...]

    def __str__(self) -> str:
        return f"sparse-mmap {', '.join(map(str, self.areas)) or 'nothing'}"


@dataclass(frozen=True)
class RegionType:
    """``VFIO_REGION_INFO_CAP_TYPE``: what a device-specific region is for."""

    type: int
    subtype: int

    @property
    def vendor(self) -> int | None:
        """The PCI vendor that defined the type; None for a type of vfio's own."""
        if self.type & _PCI:
            return self.type & vfio.VFIO_REGION_TYPE_PCI_VENDOR_MASK
        return None

    def __str__(self) -> str:
        owner = f"vendor {self.vendor:#06x}" if self.vendor is not None else f"type {self.type}"
        return (
            f"{_SUBTYPES.get((self.type, self.subtype), 'type')} ({owner}, subtype {self.subtype})"
        )


@dataclass(frozen=True)
class MsixMappable:
    """``VFIO_REGION_INFO_CAP_MSIX_MAPPABLE``: the MSI-X table's page may be mmapped too."""

    def __str__(self) -> str:
        return "msix-mappable"


@dataclass(frozen=True)
class NvlinkTarget:
    """``VFIO_REGION_INFO_CAP_NVLINK2_SSATGT``: the NVLink's address on the host's fabric."""

    address: int

    def __str__(self) -> str:
        return f"nvlink2-target {self.address:#x}"


@dataclass(frozen=True)
class NvlinkSpeed:
    """``VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD``: the link's speed, in the device's own units."""

    speed: int

    def __str__(self) -> str:
        return f"nvlink2-speed {self.speed:#x}"


@dataclass(frozen=True)
class UnknownCapability:
    """A capability, or a version of one, newer than this program: shown as it came."""

    id: int
    version: int
    data: bytes

    def __str__(self) -> str:
        return (
            f"unknown capability {self.id} version {self.version}: {self.data.hex(' ') or 'empty'}"
        )


Capability = SparseMmap | RegionType | MsixMappable | NvlinkTarget | NvlinkSpeed | UnknownCapability


def decode(link: RawCapability) -> Capability:
    """What a link of a region's chain says. Raises `MalformedChainError` where it is cut short."""
    if link.version == 1:
        match link.id:
            case vfio.VFIO_REGION_INFO_CAP_SPARSE_MMAP:
                return _sparse(link.data)
            case vfio.VFIO_REGION_INFO_CAP_TYPE:
                return RegionType(*_unpack("=II", link.data, "a region type"))
            case vfio.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE:
                return MsixMappable()
            case vfio.VFIO_REGION_INFO_CAP_NVLINK2_SSATGT:
                return NvlinkTarget(*_unpack("=Q", link.data, "an NVLink target"))
            case vfio.VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD:
                return NvlinkSpeed(*_unpack("=I", link.data, "an NVLink speed"))
    return UnknownCapability(link.id, link.version, link.data)


def _sparse(data: bytes) -> SparseMmap:
    # struct vfio_region_info_cap_sparse_mmap after its header: nr_areas, reserved, areas[].
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
