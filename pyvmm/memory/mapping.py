# SPDX-License-Identifier: GPL-2.0-only
"""Host virtual memory that is owned: a mapping keeps its range until it is closed.

The standard library's ``mmap`` can neither place a mapping at an address (``MAP_FIXED``) nor
tell the address of one, and memslots need both; so this calls mmap(2) itself.
"""

import ctypes
import errno
import mmap
from typing import Protocol, Self

from pyvmm import libc
from pyvmm.closeable import Closeable
from pyvmm.memory.placements import Placement, Placements

PAGE_SIZE = mmap.PAGESIZE

PROT_READ = mmap.PROT_READ
PROT_WRITE = mmap.PROT_WRITE
PROT_NONE = 0
_READ_WRITE = PROT_READ | PROT_WRITE

# asm-generic/mman.h and linux/mman.h; the mmap module of Python 3.11 does not name them.
_MAP_FIXED = 0x10
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000


def round_up(value: int, to: int = PAGE_SIZE) -> int:
    """The next multiple of `to` (a power of two) at or above `value`."""
    return (value + to - 1) & ~(to - 1)


def can_hold(hva: int, size: int) -> bool:
    """Is `hva` to `hva + size` within this process's addresses, whatever is mapped there?

    How many bits those have depends on CPU, kernel and page size, so the kernel is asked: it
    places nothing over what is there, and says ENOMEM beyond its user space.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
    try:
        libc.munmap(libc.mmap(hva, size, PROT_NONE, flags, -1, 0), size)
    except OSError as error:
        return error.errno != errno.ENOMEM
    return True


class Backing(Protocol):
    """Another way to what a mapping shows: a region of a device, read and written by the VMM.

    Offsets are those of the mapping, in bytes. `read` and `write` raise `OSError` where the
    device does not answer.
    """

    name: str

    def read(self, offset: int, size: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...
    def failure(self) -> str | None:
        """Why it cannot be reached now, told without touching what it shows; None: nothing."""


class Mapping(Closeable):
    """An owned range of host virtual memory: `hva` to `hva + size`, both in bytes.

    Whatever is later placed inside (`place`, `protect`, `unmap`) stays within the range, and
    `close` gives back all that is still its own: a hole that was punched may by then be someone
    else's.

    Attributes:
        placements: what was placed where through this object, at bytes of the mapping; what was
            only reserved is anonymous memory with no access.
        backing: the other way to what it shows, where there is one.
    """

    def __init__(self, size: int, *, align: int = PAGE_SIZE) -> None:
        """Reserve `size` bytes (a multiple of the page size) with no access (``PROT_NONE``).

        `align`, a power of two, is the alignment of `hva`: KVM and vfio map whole 2 MiB or
        1 GiB blocks only where HVA, GPA and the file's offset agree modulo the block.
        Raises `OSError` where the address space has no room.
        """
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"a mapping of {size:#x} bytes is not a whole number of pages")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        slack = align - PAGE_SIZE
        start = libc.mmap(0, size + slack, PROT_NONE, flags, -1, 0)
        self.hva = round_up(start, align)
        self.size = size
        self.placements = Placements()
        self.placements.add(Placement(0, size, PROT_NONE))
        self.backing: Backing | None = None
        if self.hva > start:
            libc.munmap(start, self.hva - start)
        if tail := start + slack - self.hva:
            libc.munmap(self.hva + size, tail)

    @classmethod
    def anonymous(cls, size: int, *, align: int = PAGE_SIZE) -> Self:
        """`size` bytes of zeroed, private, demand-paged memory."""
        mapping = cls(size, align=align)
        mapping.place_anonymous()
        return mapping

    @classmethod
    def of_file(
        cls,
        fd: int,
        size: int,
        *,
        offset: int = 0,
        prot: int = _READ_WRITE,
        align: int = PAGE_SIZE,
    ) -> Self:
        """`size` bytes of file `fd` from `offset`, shared. Raises `OSError` as mmap(2) does."""
        mapping = cls(size, align=align)
        try:
            mapping.place(fd, offset, prot=prot)
        except OSError:
            mapping.close()
            raise
        return mapping

    def place(
        self,
        fd: int,
        offset: int,
        *,
        at: int = 0,
        size: int | None = None,
        prot: int = _READ_WRITE,
    ) -> None:
        """Map `size` bytes of file `fd` from `offset`, shared, over what is at byte `at`.

        This is ``mmap(MAP_FIXED)``: the kernel drops the old pages, and a memslot over the
        range sees the new ones at its next fault.
        """
        self._put(Placement(at, at + self._span(at, size)[1], prot, fd, offset))

    def place_anonymous(
        self, *, at: int = 0, size: int | None = None, prot: int = _READ_WRITE
    ) -> None:
        """Put fresh zeroed anonymous memory over what is at byte `at`."""
        self._put(Placement(at, at + self._span(at, size)[1], prot))

    def restore(self, *, at: int = 0, size: int | None = None, vacant: bool = False) -> None:
        """Map again what was placed there, whatever is there now.

        A file's contents come back, as far as its descriptor is still open (else `OSError`,
        EBADF); anonymous memory comes back zeroed. If the range is known to be `vacant`, say so:
        where the kernel has given it to someone else by then (a malloc), that is `OSError`
        (EEXIST), and not the end of this process.
        """
        _, size = self._span(at, size)
        for placement in self.placements.within(at, at + size):
            self._map(placement, _MAP_FIXED_NOREPLACE if vacant else _MAP_FIXED)

    def protect(self, prot: int, *, at: int = 0, size: int | None = None) -> None:
        """mprotect(2) a part of the range."""
        hva, size = self._span(at, size)
        libc.mprotect(hva, size, prot)
        self.placements.protect(at, at + size, prot)

    def advise(self, advice: int, *, at: int = 0, size: int | None = None) -> None:
        """madvise(2) a part of the range; `advice` is one of ``mmap.MADV_*``."""
        hva, size = self._span(at, size)
        libc.madvise(hva, size, advice)

    def unmap(self, *, at: int = 0, size: int | None = None) -> None:
        """Punch a hole: nothing is mapped there until something is placed."""
        hva, size = self._span(at, size)
        libc.munmap(hva, size)
        self.placements.remove(at, at + size)

    def view(self, *, at: int = 0, size: int | None = None) -> memoryview:
        """The bytes themselves, writable where the mapping is.

        Touching a part that is not mapped or not permitted kills the process, as in C: look
        only at what you placed.
        """
        hva, size = self._span(at, size)
        return memoryview((ctypes.c_char * size).from_address(hva)).cast("B")

    def read(self, at: int, size: int) -> bytes:
        """A copy of `size` bytes from byte `at`."""
        return bytes(self.view(at=at, size=size))

    def write(self, at: int, data: bytes) -> None:
        """Copy `data` to byte `at`."""
        self.view(at=at, size=len(data))[:] = data

    def close(self) -> None:
        """Unmap what is placed or reserved; a second call does nothing."""
        for placement in self.placements.within(0, self.size):
            libc.munmap(self.hva + placement.start, placement.size)
        self.size = 0

    def _put(self, placement: Placement) -> None:
        self._map(placement)
        self.placements.add(placement)

    def _map(self, placement: Placement, fixed: int = _MAP_FIXED) -> None:
        hva, size = self._span(placement.start, placement.size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        if placement.fd is not None:
            flags = mmap.MAP_SHARED
        fd = -1 if placement.fd is None else placement.fd
        libc.mmap(hva, size, placement.prot, flags | fixed, fd, placement.offset)

    def _span(self, at: int, size: int | None) -> tuple[int, int]:
        size = self.size - at if size is None else size
        if at < 0 or size < 0 or at + size > self.size:
            raise ValueError(f"{at:#x}+{size:#x} is outside a mapping of {self.size:#x} bytes")
        return self.hva + at, size

    def __del__(self) -> None:
        if getattr(self, "size", 0):
            self.close()
