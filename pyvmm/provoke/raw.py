# SPDX-License-Identifier: GPL-2.0-only
"""Changing a mapping behind KVM's back, and behind pyvmm's: raw calls that nothing records.

Each takes an HVA and a size in bytes, and raises `OSError`.
"""

import ctypes
import mmap
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
)
for _name in ("munmap", "mprotect", "madvise"):
    getattr(_libc, _name).argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_MAP_FIXED = 0x10


def unmap(hva: int, size: int) -> None:
    """munmap(2)."""
    _check(_libc.munmap(hva, size, 0) == 0, "munmap")


def protect(hva: int, size: int, prot: int) -> None:
    """mprotect(2)."""
    _check(_libc.mprotect(hva, size, prot) == 0, "mprotect")


def advise(hva: int, size: int, advice: int) -> None:
    """madvise(2)."""
    _check(_libc.madvise(hva, size, advice) == 0, "madvise")


def map_file(hva: int, size: int, fd: int, *, private: bool = False) -> None:
    """mmap(2) a file from its beginning over what is there, readable and writable."""
    _map(hva, size, mmap.MAP_PRIVATE if private else mmap.MAP_SHARED, fd)


def map_anonymous(hva: int, size: int) -> None:
    """mmap(2) zeroed memory over what is there."""
    _map(hva, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)


def _map(hva: int, size: int, flags: int, fd: int) -> None:
    prot = mmap.PROT_READ | mmap.PROT_WRITE
    _check(_libc.mmap(hva, size, prot, flags | _MAP_FIXED, fd, 0) == hva, "mmap")


def _check(done: bool, call: str) -> None:
    if not done:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
