# SPDX-License-Identifier: GPL-2.0-only
"""Changing a mapping behind KVM's back, and behind pyvmm's: raw calls that nothing records."""

import ctypes
import mmap

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
)
for _name in ("munmap", "mprotect", "madvise"):
    getattr(_libc, _name).argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_MAP_FIXED = 0x10


def _checked(result: int | None) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "a raw call failed")


def unmap(hva: int, size: int) -> None:
    _checked(_libc.munmap(hva, size, 0))


def protect(hva: int, size: int, prot: int) -> None:
    _checked(_libc.mprotect(hva, size, prot))


def advise(hva: int, size: int, advice: int) -> None:
    _checked(_libc.madvise(hva, size, advice))


def map_file(
    hva: int, size: int, fd: int, offset: int = 0, *, private: bool = False, prot: int = 3
) -> None:
    flags = (mmap.MAP_PRIVATE if private else mmap.MAP_SHARED) | _MAP_FIXED
    if _libc.mmap(hva, size, prot, flags, fd, offset) != hva:
        raise OSError(ctypes.get_errno(), "a raw mmap failed")


def map_anonymous(hva: int, size: int) -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    if _libc.mmap(hva, size, 3, flags, -1, 0) != hva:
        raise OSError(ctypes.get_errno(), "a raw mmap failed")
