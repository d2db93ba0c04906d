# SPDX-License-Identifier: GPL-2.0-only
"""Owned ranges of host virtual memory.

Memslots need ``MAP_FIXED`` and the address of a mapping. Python's ``mmap`` module offers neither,
so this module calls mmap(2).
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

# asm-generic/mman.h and linux/mman.h. The mmap module of Python 3.11 lacks them.
_MAP_FIXED = 0x10
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000


def round_up(value: int, to: int = PAGE_SIZE) -> int:
    """Return the smallest multiple of `to` (a power of two) that is not below `value`."""
    return (value + to - 1) & ~(to - 1)


def access_ok(hva: int, size: int) -> bool:
    """Return True if user space may have `size` bytes at `hva`, as the kernel's access_ok().

    The limit depends on CPU, kernel and page size. mmap(``MAP_FIXED_NOREPLACE``) shows it: it
    replaces no mapping, and fails with ENOMEM beyond the limit.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
    try:
        libc.munmap(libc.mmap(hva, size, PROT_NONE, flags, -1, 0), size)
    except OSError as error:
        return error.errno != errno.ENOMEM
    return True


class Backing(Protocol):
    """Access to the contents of a mapping without a load or store through its HVA.

    A vfio region is one: the VMM reads it with pread(2). Offsets are in bytes from the start of
    the mapping.

    Attributes:
        name: the region's name, such as ``BAR4`` or ``RAM``.
        is_ram: True if a read has no side effect.
    """

    name: str
    is_ram: bool

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes. Raises `OSError`."""

    def write(self, offset: int, data: bytes) -> None:
        """Write `data`. Raises `OSError`."""

    def failure(self) -> str | None:
        """Return why an access would fail now, or None. Reads no register of the device."""


class Mapping(Closeable):
    """An owned range of host virtual memory: `size` bytes at `hva`.

    `place`, `protect` and `unmap` change parts of the range. `close` unmaps all of it except the
    holes that `unmap` left: the kernel may have given those to another mapping.

    Attributes:
        placements: the mmap calls in effect, at byte offsets of the range. A range that is only
            reserved is anonymous memory with ``PROT_NONE``.
        backing: another path to the contents, or None.
    """

    def __init__(self, size: int, *, align: int = PAGE_SIZE) -> None:
        """Reserve `size` bytes (a multiple of the page size) with ``PROT_NONE``.

        `align`, a power of two, is the alignment of `hva`. KVM and vfio use 2 MiB or 1 GiB blocks
        only where HVA, GPA and the file's offset are equal modulo the block size.
        Raises `ValueError` for a wrong size, and `OSError` if the address space has no room.
        """
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"a mapping needs a whole number of pages, not {size:#x} bytes")
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
        """Map `size` bytes of anonymous private memory, zeroed, demand-paged."""
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
        """Map `size` bytes of file `fd` from byte `offset`, ``MAP_SHARED``. Raises `OSError`."""
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
        """Map `size` bytes of file `fd` from byte `offset` over the range at byte `at`.

        This is ``mmap(MAP_SHARED | MAP_FIXED)``. The kernel unmaps the old pages from the page
        tables and, through the MMU notifier, from stage 2. The next guest access faults the new
        ones in.
        """
        self._put(Placement(at, at + self._span(at, size)[1], prot, fd, offset))

    def place_anonymous(
        self, *, at: int = 0, size: int | None = None, prot: int = _READ_WRITE
    ) -> None:
        """Map zeroed anonymous memory over the range at byte `at`."""
        self._put(Placement(at, at + self._span(at, size)[1], prot))

    def restore(self, *, at: int = 0, size: int | None = None, vacant: bool = False) -> None:
        """Repeat the mmap calls of `placements`, over any current mapping.

        Files are mapped again; anonymous memory is zeroed. Raises `OSError`: EBADF if the file's
        descriptor is closed. Pass `vacant` if nothing is mapped in the range. A mapping that the
        kernel put there meanwhile, for a malloc, is then EEXIST and not overwritten.
        """
        _, size = self._span(at, size)
        for placement in self.placements.within(at, at + size):
            self._map(placement, _MAP_FIXED_NOREPLACE if vacant else _MAP_FIXED)

    def protect(self, prot: int, *, at: int = 0, size: int | None = None) -> None:
        """Change the protection of a part of the range with mprotect(2)."""
        hva, size = self._span(at, size)
        libc.mprotect(hva, size, prot)
        self.placements.protect(at, at + size, prot)

    def advise(self, advice: int, *, at: int = 0, size: int | None = None) -> None:
        """Call madvise(2) on a part of the range; `advice` is one of ``mmap.MADV_*``."""
        hva, size = self._span(at, size)
        libc.madvise(hva, size, advice)

    def unmap(self, *, at: int = 0, size: int | None = None) -> None:
        """Unmap a part of the range with munmap(2)."""
        hva, size = self._span(at, size)
        libc.munmap(hva, size)
        self.placements.remove(at, at + size)

    def view(self, *, at: int = 0, size: int | None = None) -> memoryview:
        """Return the memory itself, writable if the mapping is.

        As in C, an access to an unmapped or protected page kills the process with SIGSEGV or
        SIGBUS. `pyvmm.memory.peek` is the safe way.
        """
        hva, size = self._span(at, size)
        return memoryview((ctypes.c_char * size).from_address(hva)).cast("B")

    def read(self, at: int, size: int) -> bytes:
        """Return a copy of `size` bytes at byte `at`."""
        return bytes(self.view(at=at, size=size))

    def write(self, at: int, data: bytes) -> None:
        """Copy `data` to byte `at`."""
        self.view(at=at, size=len(data))[:] = data

    def close(self) -> None:
        """Unmap the range, except for the holes. Idempotent."""
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
            raise ValueError(f"{at:#x}+{size:#x} is outside the mapping of {self.size:#x} bytes")
        return self.hva + at, size

    def __del__(self) -> None:
        """Unmap the range if `close` was not called."""
        if getattr(self, "size", 0):
            self.close()
