# SPDX-License-Identifier: GPL-2.0-only
"""Changing a mapping behind KVM's back, and behind pyvmm's: raw calls that nothing records.

Each takes an HVA and a size in bytes, and raises `OSError`.
"""

import mmap

from pyvmm import libc

_MAP_FIXED = 0x10


def unmap(hva: int, size: int) -> None:
    """munmap(2)."""
    libc.munmap(hva, size)


def protect(hva: int, size: int, prot: int) -> None:
    """mprotect(2)."""
    libc.mprotect(hva, size, prot)


def advise(hva: int, size: int, advice: int) -> None:
    """madvise(2)."""
    libc.madvise(hva, size, advice)


def map_file(hva: int, size: int, fd: int, *, private: bool = False) -> None:
    """mmap(2) a file from its beginning over what is there, readable and writable."""
    _map(hva, size, mmap.MAP_PRIVATE if private else mmap.MAP_SHARED, fd)


def map_anonymous(hva: int, size: int) -> None:
    """mmap(2) zeroed memory over what is there."""
    _map(hva, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)


def _map(hva: int, size: int, flags: int, fd: int) -> None:
    prot = mmap.PROT_READ | mmap.PROT_WRITE
    libc.mmap(hva, size, prot, flags | _MAP_FIXED, fd, 0)
