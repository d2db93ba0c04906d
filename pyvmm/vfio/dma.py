# SPDX-License-Identifier: GPL-2.0-only
"""An IO address space: what the IOVAs of a device's DMA mean. One face, two kernel interfaces."""

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
    """IOVAs `start` to `last`, both included."""

    start: int
    last: int

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.last:#x}"


class VfioDeviceFd(Fd):
    """A vfio device's own descriptor; `group` is its group's, where it was opened through that.

    Closing it closes the device for the kernel: it is reset, and its interrupts are disabled.
    """

    kind = "vfio-device"

    def __init__(self, number: int, group: Fd | None = None) -> None:
        super().__init__(number)
        self.group = group


class IoAddressSpace(Fd, ABC):
    """An IO address space, and the descriptor that owns it (an iommufd or a vfio container).

    `close` unmaps everything first: KVM or another process may hold a device's file longer, and
    with it the kernel's address space.
    """

    mode: str  # which of the kernel selftests' IOMMU modes this is

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.mapped: dict[int, int] = {}  # IOVA to size in bytes, of every mapping

    @abstractmethod
    def attach(self, function: PciFunction) -> VfioDeviceFd:
        """Open the device and put it into this address space.

        Raises `LackingError` and `IoctlError`.
        """

    @abstractmethod
    def ranges(self) -> list[IovaRange]:
        """The IOVAs that may be mapped, lowest first; each attached device narrows them."""

    @property
    @abstractmethod
    def page_size(self) -> int:
        """The smallest mapping, and the alignment of all, in bytes."""

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
        """Let devices reach `size` bytes of `memory` from byte `at` on, in one call.

        The pages are populated and pinned. `readable` and `writable` are seen from the device.
        Raises `IoctlError` whose `why` names what is wrong.
        """
        size = memory.size - at if size is None else size
        hva = memory.hva + at
        try:
            self._map(iova, hva, size, readable, writable)
        except IoctlError as error:
            raise self._explained(error, iova, size, hva) from None
        self.mapped[iova] = size

    def map_bar(self, iova: int, bar: Region, memory: Mapping, *, at: int, size: int) -> None:
        """Let devices reach another's BAR: `size` bytes of it from byte `at` on, both whole pages.

        `memory` is the BAR's mapping, byte for byte (see `bars.map_bar`). Raises `IoctlError`.
        """
        try:
            self._map_bar(iova, bar, memory.hva + at, at, size)
        except IoctlError as error:
            raise self._explained(error, iova, size, memory.hva + at) from None
        self.mapped[iova] = size

    def unmap(self, iova: int) -> None:
        """Undo the mapping that starts at `iova`. Raises `KeyError` where none does."""
        self._unmap(iova, self.mapped[iova])
        del self.mapped[iova]

    def close(self) -> None:
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

    def _explained(self, error: IoctlError, iova: int, size: int, hva: int) -> IoctlError:
        error.why = self._why(error.errno, iova, size, hva)
        if error.errno in (errno.ENOMEM, errno.ENOSPC):
            error.status = Status.LACKING
        return error

    def _why(self, number: int | None, iova: int, size: int, hva: int) -> str | None:
        """Each condition that the kernel checks, in its order."""
        page = self.page_size
        last = iova + size - 1
        if size <= 0 or (iova | size | hva) % page:
            return f"IOVA, HVA and size must be multiples of the IOMMU's {page:#x} bytes"
        if any(iova < start + length and start <= last for start, length in self.mapped.items()):
            return f"a part of {IovaRange(iova, last)} is mapped already: unmap it first"
        ranges = self.ranges()
        if not any(allowed.start <= iova and last <= allowed.last for allowed in ranges):
            listed = ", ".join(map(str, ranges))
            return (
                f"{IovaRange(iova, last)} is not within the IOVAs that the IOMMU allows: {listed}"
            )
        match number:
            case errno.ENOMEM:
                return _why_no_memory(size)
            case errno.ENOSPC:
                return (
                    "the container has no mapping left: raise the parameter dma_entry_limit of "
                    "vfio_iommu_type1, or map fewer and larger pieces"
                )
            case errno.EFAULT:
                return (
                    f"no memory can be pinned at HVA {hva:#x}: nothing is mapped there, or a BAR "
                    "(which map_bar maps)"
                )
        return None


def _why_no_memory(size: int) -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or _may_lock_any():
        return f"the host can't pin {size:#x} bytes: give the guest less RAM"
    return (
        f"pinning {size:#x} bytes goes beyond the limit of {limit:#x} locked bytes: raise "
        "ulimit -l (or LimitMEMLOCK=), or give the process CAP_IPC_LOCK"
    )


def _may_lock_any() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_IPC_LOCK & 1)
