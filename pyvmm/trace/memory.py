# SPDX-License-Identifier: GPL-2.0-only
"""A tracee's memory: as much of it as there is. A garbage pointer is an answer, never an error."""

import ctypes

from pyvmm.memory import PAGE_SIZE

_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_uint64), ("size", ctypes.c_uint64))


_read = _libc.process_vm_readv
_read.restype = ctypes.c_ssize_t
_read.argtypes = (
    ctypes.c_int,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.c_ulong,
)
_MOST = 64  # pages at once; the longest struct of the headers has two


def read(pid: int, address: int, size: int) -> bytes:
    """Up to `size` bytes from `address` in process `pid`: what comes before the first hole.

    process_vm_readv(2) splits no element of its vector, so each page is one of its own.
    """
    size = min(size, _MOST * PAGE_SIZE, (1 << 64) - address)
    if size <= 0:
        return b""
    data = ctypes.create_string_buffer(size)
    pages = []
    at = 0
    while at < size:
        step = min(PAGE_SIZE - (address + at) % PAGE_SIZE, size - at)
        pages.append(_Iovec(address + at, step))
        at += step
    there = (_Iovec * len(pages))(*pages)
    count = _read(pid, _Iovec(ctypes.addressof(data), size), 1, there, len(pages), 0)
    return data.raw[: max(count, 0)]
