# SPDX-License-Identifier: GPL-2.0-only
"""A device's regions: BARs, ROM, config space, VGA and device-specific ones."""

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
    """A region could not be read or written; `errno` is the kernel's answer.

    EIO where the device's memory space is switched off in its command register or the device
    did not answer, ENODEV where it has gone, EINVAL outside the region.
    """

    def __str__(self) -> str:
        return str(self.strerror)


class Region:
    """A region of a device (``struct vfio_region_info``), read and written by pread and pwrite.

    Attributes:
        index: vfio's number of the region; a BAR's is the BAR's own.
        name: ``BAR0`` … ``BAR5``, ``ROM``, ``CONFIG``, ``VGA``, or ``REGION9`` onwards.
        size: bytes; a region that the device does not have has none.
        offset: where the region starts in the device's file, in bytes; for mmap too.
        flags: which of ``read``, ``write`` and ``mmap`` the kernel allows.
        capabilities: the chain, decoded.
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
        """Raises `MalformedChainError` where sparse areas overlap or leave the region."""
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
        """``VFIO_DEVICE_GET_REGION_INFO``. Raises `IoctlError` (EINVAL: no such index)."""
        info, links = cap_chains.query(
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
            capabilities=map(decode, links),
        )

    @property
    def sparse(self) -> tuple[Area, ...] | None:
        """The only parts that may be mmapped; None where the kernel restricts nothing."""
        for capability in self.capabilities:
            if isinstance(capability, SparseMmap):
                return capability.areas
        return None

    @property
    def msix_mappable(self) -> bool:
        return any(isinstance(capability, MsixMappable) for capability in self.capabilities)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from byte `offset`; 1, 2, 4 or 8 aligned bytes are one access.

        Raises `RegionError`.
        """
        try:
            data = os.pread(self.device.fileno(), size, self.offset + offset)
        except OSError as error:
            raise self._failure("reading", offset, size, error) from None
        if len(data) < size:
            raise self._failure("reading", offset, size, None)
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write `data` at byte `offset`; 1, 2, 4 or 8 aligned bytes are one access.

        Raises `RegionError`.
        """
        try:
            written = os.pwrite(self.device.fileno(), data, self.offset + offset)
        except OSError as error:
            raise self._failure("writing", offset, len(data), error) from None
        if written < len(data):
            raise self._failure("writing", offset, len(data), None)

    def _failure(self, doing: str, offset: int, size: int, error: OSError | None) -> RegionError:
        number = (error and error.errno) or errno.EIO
        why = os.strerror(number) if error else "it ends before that"
        return RegionError(number, f"{doing} {size} bytes at {self.name}+{offset:#x}: {why}")

    def _check_areas(self) -> None:
        areas = sorted(self.sparse or ())
        for area in areas:
            if area.end > self.size:
                raise MalformedChainError(
                    f"{self.name} has {self.size:#x} bytes, but an area {area}"
                )
        for one, other in pairwise(areas):
            if one.end > other.offset:
                raise MalformedChainError(f"areas {one} and {other} of {self.name} overlap")
