# SPDX-License-Identifier: GPL-2.0-only
"""Host memory that may not be there: what is missing is an answer, and never a signal.

process_vm_readv(2) on ourselves reads as KVM does, through get_user_pages: memory that is not
mapped, not permitted, beyond the end of its file or poisoned is an error. So is a device's memory
(PFNMAP), which is as well: reading a device's registers may change them.
"""

import ctypes
import os

from pyvmm import libc
from pyvmm.libc import Iovec
from pyvmm.memory.mapping import PAGE_SIZE

_MOST = 64  # pages that `peek_some` takes; the longest struct of the kernel's headers has two


def peek(hva: int, size: int, pid: int | None = None) -> bytes | None:
    """`size` bytes from `hva`, or None where not all of them can be read.

    Of this process, or of process `pid`.
    """
    data = _read(pid, [Iovec(hva, size)], size)
    return data if len(data) == size else None


def peek_some(hva: int, size: int, pid: int | None = None) -> bytes:
    """Up to `size` bytes from `hva`: what comes before the first hole. `hva` may be any number.

    process_vm_readv(2) splits no element of its vector, so each page is one of its own.
    """
    end = min(hva + size, hva + _MOST * PAGE_SIZE, 1 << 64)
    pages = []
    at = hva
    while at < end:
        after = min(at // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE, end)
        pages.append(Iovec(at, after - at))
        at = after
    return _read(pid, pages, at - hva)


def poke(hva: int, data: bytes) -> bool:
    """Write `data` to `hva`; False where not all of it can be written, though some may be."""
    copy = ctypes.create_string_buffer(data, len(data))
    local = Iovec(ctypes.addressof(copy), len(data))
    there = Iovec(hva, len(data))
    try:
        return libc.process_vm_writev(os.getpid(), local, 1, there, 1, 0) == len(data)
    except OSError:
        return False


def _read(pid: int | None, there: list[Iovec], size: int) -> bytes:
    """What can be had of the `size` bytes that `there` names, from its start."""
    data = (ctypes.c_char * size)()
    local = Iovec(ctypes.addressof(data), size)
    vector = (Iovec * len(there))(*there)
    try:
        count = libc.process_vm_readv(pid or os.getpid(), local, 1, vector, len(there), 0)
    except OSError:
        return b""
    return data.raw[:count]
