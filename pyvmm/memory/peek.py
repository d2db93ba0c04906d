# SPDX-License-Identifier: GPL-2.0-only
"""Reads and writes of host memory that fail instead of raising SIGBUS or SIGSEGV.

process_vm_readv(2) goes through get_user_pages, as KVM does. It fails on memory that is unmapped,
protected, poisoned or beyond the end of its file. It fails on PFNMAP memory too, which is
intended: a read of a device register can have side effects.
"""

import ctypes
import os

from pyvmm import libc
from pyvmm.libc import Iovec
from pyvmm.memory.mapping import PAGE_SIZE

_MAX_PAGES = 64  # per `peek_prefix`; the largest struct of the kernel's uAPI has two


def peek(hva: int, size: int, pid: int | None = None) -> bytes | None:
    """Read `size` bytes at `hva`, or return None if any of them cannot be read.

    `pid` is the process to read from; the default is this process.
    """
    data = _read(pid, [Iovec(hva, size)], size)
    return data if len(data) == size else None


def peek_prefix(hva: int, size: int, pid: int | None = None) -> bytes:
    """Read up to `size` bytes at `hva`, up to the first page that cannot be read.

    `hva` can be any number, and at most 64 pages are read. process_vm_readv(2) transfers each
    element of the vector as a whole or not at all, so each page is an element.
    """
    end = min(hva + size, hva + _MAX_PAGES * PAGE_SIZE, 1 << 64)
    pages = []
    at = hva
    while at < end:
        after = min(at // PAGE_SIZE * PAGE_SIZE + PAGE_SIZE, end)
        pages.append(Iovec(at, after - at))
        at = after
    return _read(pid, pages, at - hva)


def poke(hva: int, data: bytes) -> bool:
    """Write `data` at `hva`. Return False if not all of it could be written; part of it may be."""
    copy = ctypes.create_string_buffer(data, len(data))
    local = Iovec(ctypes.addressof(copy), len(data))
    remote = Iovec(hva, len(data))
    try:
        return libc.process_vm_writev(os.getpid(), local, 1, remote, 1, 0) == len(data)
    except OSError:
        return False


def _read(pid: int | None, remote: list[Iovec], size: int) -> bytes:
    """Read the `size` bytes of `remote`, up to the first element that cannot be read."""
    data = (ctypes.c_char * size)()
    local = Iovec(ctypes.addressof(data), size)
    vector = (Iovec * len(remote))(*remote)
    try:
        count = libc.process_vm_readv(pid or os.getpid(), local, 1, vector, len(remote), 0)
    except OSError:
        return b""
    return data.raw[:count]
