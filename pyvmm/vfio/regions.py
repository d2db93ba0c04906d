# SPDX-License-Identifier: GPL-2.0-only
"""Regions of a vfio device: BARs, ROM, config space, VGA and device-specific ones."""

import errno
import os
from collections.abc import Iterable
from itertools import pairwise

from pyvmm.errors import PyvmmError
from pyvmm.ioctl import Fd
from pyvmm.uapi import vfio
from pyvmm.vfio import cap_chains
from pyvmm.vfio.cap_chains import MalformedChainError
from pyvmm.vfio.region_caps import Area, Capability, MsixMappable, SparseMmap, decode

_NAMES = {
    **{vfio.VFIO_PCI_BAR0_REGION_INDEX + bar: f"BAR{bar}" for bar in range(6)},
    vfio.VFIO_PCI_ROM_REGION_INDEX: "ROM",
    vfio.VFIO_PCI_CONFIG_REGION_INDEX: "CONFIG",
    vfio.VFIO_PCI_VGA_REGION_INDEX: "VGA",
}
_FLAGS = {
    "read": vfio.VFIO_REGION_INFO_FLAG_READ,
    "write": vfio.VFIO_REGION_INFO_FLAG_WRITE,
    "mmap": vfio.VFIO_REGION_INFO_FLAG_MMAP,
}


class RegionError(PyvmmError, OSError):
    """A read or write of a region failed.

    `errno` is EIO if memory space is disabled in the command register or the device did not
    respond, ENODEV if it was removed, EINVAL outside the region.
    """

    def __str__(self) -> str:
        """Return the message without the errno."""
        return str(self.strerror)


class Region:
    """A region of a device (``struct vfio_region_info``).

    Attributes:
        index: the region index of vfio; for a BAR, the number of the BAR.
        name: ``BAR0`` … ``BAR5``, ``ROM``, ``CONFIG``, ``VGA``, or ``REGION9`` and above.
        size: the size in bytes; 0 if the device lacks the region.
        offset: the offset of the region in the device's file, in bytes.
        flags: the accesses that the kernel allows, of ``read``, ``write`` and ``mmap``.
        capabilities: the decoded capability chain.
    """

    def __init__(
        self,
        device: Fd,
        index: int,
        *,
        size: int,
        offset: int,
        flags: Iterable[str],
        capabilities: Iterable[Capability] = (),
    ) -> None:
        """Raise `MalformedChainError` if sparse areas overlap or exceed the region."""
        self.device = device
        self.index = index
        self.name = _NAMES.get(index, f"REGION{index}")
        self.size = size
        self.offset = offset
        self.flags = tuple(flags)
        self.capabilities = tuple(capabilities)
        self._check_areas()

    @classmethod
    def query(cls, device: Fd, index: int) -> "Region":
        """Query a region with ``VFIO_DEVICE_GET_REGION_INFO``.

        Raises `IoctlError` (EINVAL: unknown index) and `MalformedChainError`.
        """
        info, chain = cap_chains.query(
            device,
            vfio.VFIO_DEVICE_GET_REGION_INFO,
            vfio.vfio_region_info(index=index),
            vfio.VFIO_REGION_INFO_FLAG_CAPS,
        )
        return cls(
            device,
            index,
            size=info.size,
            offset=info.offset,
            flags=(name for name, bit in _FLAGS.items() if info.flags & bit),
            capabilities=map(decode, chain),
        )

    @property
    def sparse(self) -> tuple[Area, ...] | None:
        """Return the only areas that user space may mmap, or None if there is no restriction."""
        for capability in self.capabilities:
            if isinstance(capability, SparseMmap):
                return capability.areas
        return None

    @property
    def msix_mappable(self) -> bool:
        """Return True if user space may mmap the MSI-X table."""
        return any(isinstance(capability, MsixMappable) for capability in self.capabilities)

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at byte `offset` with pread(2).

        1, 2, 4 or 8 aligned bytes are one access to the device. Raises `RegionError`.
        """
        try:
            data = os.pread(self.device.fileno(), size, self.offset + offset)
        except OSError as error:
            raise self._failure("reading", offset, size, error) from None
        if len(data) < size:
            raise self._failure("reading", offset, size, None)
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write `data` at byte `offset` with pwrite(2).

        1, 2, 4 or 8 aligned bytes are one access to the device. Raises `RegionError`.
        """
        try:
            written = os.pwrite(self.device.fileno(), data, self.offset + offset)
        except OSError as error:
            raise self._failure("writing", offset, len(data), error) from None
        if written < len(data):
            raise self._failure("writing", offset, len(data), None)

    def _failure(self, doing: str, offset: int, size: int, error: OSError | None) -> RegionError:
        number = (error and error.errno) or errno.EIO
        why = os.strerror(number) if error else "beyond the end of the region"
        return RegionError(number, f"{doing} {size} bytes at {self.name}+{offset:#x}: {why}")

    def _check_areas(self) -> None:
        areas = sorted(self.sparse or ())
        for area in areas:
            if area.end > self.size:
                raise MalformedChainError(
                    f"{self.name} has {self.size:#x} bytes, but a sparse area {area}"
                )
        for one, other in pairwise(areas):
            if one.end > other.offset:
                raise MalformedChainError(f"sparse areas {one} and {other} of {self.name} overlap")
