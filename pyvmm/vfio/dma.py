# SPDX-License-Identifier: GPL-2.0-only
"""IO address spaces: the interface that iommufd and vfio containers share."""

import errno
import resource
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errors import Status
from pyvmm.ioctl import Fd, IoctlError
from pyvmm.memory import Mapping
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction

_CAP_IPC_LOCK = 14  # linux/capability.h


@dataclass(frozen=True)
class IovaRange:
    """The IOVAs `start` to `last`, inclusive."""

    start: int
    last: int

    def __str__(self) -> str:
        """Return the range in hex."""
        return f"{self.start:#x}-{self.last:#x}"


class VfioDeviceFd(Fd):
    """The file descriptor of a vfio device.

    Closing it closes the device: the kernel resets it and disables its interrupts.

    Attributes:
        group: the descriptor of its group, or None if the device was opened through its cdev.
    """

    kind = "vfio-device"

    def __init__(self, number: int, group: Fd | None = None) -> None:
        """Take the descriptor `number`."""
        super().__init__(number)
        self.group = group


class IoAddressSpace(Fd, ABC):
    """An IO address space and the descriptor that owns it (an iommufd or a vfio container).

    Attributes:
        mode: the IOMMU mode, one of `iommu_modes.MODES`.
        mapped: the size in bytes of every mapping, by IOVA.
    """

    mode: str

    def __init__(self, number: int) -> None:
        """Take the descriptor `number`."""
        super().__init__(number)
        self.mapped: dict[int, int] = {}

    @abstractmethod
    def attach(self, function: PciFunction) -> VfioDeviceFd:
        """Open the device and attach it to this address space.

        Raises `LackingError` and `IoctlError`.
        """

    @abstractmethod
    def ranges(self) -> list[IovaRange]:
        """Return the valid IOVA ranges, lowest first. Each attached device can reduce them."""

    @property
    @abstractmethod
    def page_size(self) -> int:
        """Return the IOMMU page size in bytes, the alignment of every mapping."""

    def map(
        self,
        iova: int,
        memory: Mapping,
        *,
        at: int = 0,
        size: int | None = None,
        readable: bool = True,
        writable: bool = True,
    ) -> None:
        """Map `size` bytes of `memory` from byte `at` at `iova`, with one ioctl.

        The kernel populates and pins the pages. `readable` and `writable` limit the device's
        accesses. Raises `IoctlError`, with the reason in `why`.
        """
        size = memory.size - at if size is None else size
        hva = memory.hva + at
        try:
            self._map(iova, hva, size, readable, writable)
        except IoctlError as error:
            raise self._with_reason(error, iova, size, hva) from None
        self.mapped[iova] = size

    def map_bar(self, iova: int, bar: Region, memory: Mapping, *, at: int, size: int) -> None:
        """Map `size` bytes of another device's BAR from byte `at` at `iova`, in whole pages.

        `memory` is the mapping of the BAR (see `bars.map_bar`). Raises `IoctlError`.
        """
        try:
            self._map_bar(iova, bar, memory.hva + at, at, size)
        except IoctlError as error:
            raise self._with_reason(error, iova, size, memory.hva + at) from None
        self.mapped[iova] = size

    def unmap(self, iova: int) -> None:
        """Remove the mapping that starts at `iova`. Raises `KeyError` if there is none."""
        self._unmap(iova, self.mapped[iova])
        del self.mapped[iova]

    def close(self) -> None:
        """Unmap everything, then close the descriptor. Idempotent.

        Closing alone may keep the mappings: KVM or another process may hold a device's file, and
        with it the kernel's address space.
        """
        try:
            for iova in list(self.mapped):
                self.unmap(iova)
        finally:
            self.mapped.clear()
            super().close()

    @abstractmethod
    def _map(self, iova: int, hva: int, size: int, readable: bool, writable: bool) -> None: ...

    @abstractmethod
    def _map_bar(self, iova: int, bar: Region, hva: int, at: int, size: int) -> None: ...

    @abstractmethod
    def _unmap(self, iova: int, size: int) -> None: ...

    def _with_reason(self, error: IoctlError, iova: int, size: int, hva: int) -> IoctlError:
        error.why = self._reason(error.errno, iova, size, hva)
        if error.errno in (errno.ENOMEM, errno.ENOSPC):
            error.status = Status.LACKING
        return error

    def _reason(self, number: int | None, iova: int, size: int, hva: int) -> str | None:
        """Return the first condition that is broken, in the kernel's order, or None."""
        page = self.page_size
        last = iova + size - 1
        if size <= 0 or (iova | size | hva) % page:
            return f"IOVA, HVA and size must be multiples of the IOMMU page size, {page:#x} bytes"
        if any(iova < start + length and start <= last for start, length in self.mapped.items()):
            return f"part of {IovaRange(iova, last)} is already mapped: unmap it first"
        ranges = self.ranges()
        if not any(allowed.start <= iova and last <= allowed.last for allowed in ranges):
            listed = ", ".join(map(str, ranges))
            return f"{IovaRange(iova, last)} is outside the valid IOVA ranges: {listed}"
        match number:
            case errno.ENOMEM:
                return _explain_enomem(size)
            case errno.ENOSPC:
                return (
                    "the container is at its limit of mappings: raise "
                    "vfio_iommu_type1.dma_entry_limit, or use fewer and larger mappings"
                )
            case errno.EFAULT:
                return (
                    f"cannot pin memory at HVA {hva:#x}: it is unmapped or protected, or a BAR "
                    "(use map_bar)"
                )
        return None


def _explain_enomem(size: int) -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or _has_cap_ipc_lock():
        return f"the host cannot pin {size:#x} bytes: give the guest less RAM"
    return (
        f"pinning {size:#x} bytes exceeds RLIMIT_MEMLOCK, {limit:#x} bytes: raise ulimit -l "
        "(or LimitMEMLOCK=), or give the process CAP_IPC_LOCK"
    )


def _has_cap_ipc_lock() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_IPC_LOCK & 1)
