# SPDX-License-Identifier: GPL-2.0-only
"""The VMA at or above an address, from ``PROCMAP_QUERY``.

The ioctl (Linux kernel commit ed5d583a88a9 "fs/procfs: implement efficient VMA querying API for
/proc/<pid>/maps" (in v6.11)) finds one VMA without formatting all of them. It does not return
VmFlags: `pyvmm.memory.vma` reads those from smaps, which walks the page tables of every VMA.
"""

import ctypes
import errno
import fcntl
import os
from dataclasses import dataclass

from pyvmm.memory.vma import vmas

_NAME_SIZE = 4096  # PATH_MAX
_Name = ctypes.c_char * _NAME_SIZE


class _Query(ctypes.Structure):
    """``struct procmap_query`` of linux/fs.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("size", "query_flags", "query_addr")),
        *((name, ctypes.c_uint64) for name in ("vma_start", "vma_end", "vma_flags")),
        *((name, ctypes.c_uint64) for name in ("vma_page_size", "vma_offset", "inode")),
        *((name, ctypes.c_uint32) for name in ("dev_major", "dev_minor")),
        *((name, ctypes.c_uint32) for name in ("vma_name_size", "build_id_size")),
        *((name, ctypes.c_uint64) for name in ("vma_name_addr", "build_id_addr")),
    )


PROCMAP_QUERY = 3 << 30 | ctypes.sizeof(_Query) << 16 | ord("f") << 8 | 17  # _IOWR('f', 17, …)
# PROCMAP_QUERY_VMA_READABLE, _WRITABLE, _EXECUTABLE, _SHARED: letter if set, letter if clear.
_PERMS = ((1, "r-"), (2, "w-"), (4, "x-"), (8, "sp"))
_COVERING_OR_NEXT = 0x10  # PROCMAP_QUERY_COVERING_OR_NEXT_VMA


@dataclass(frozen=True)
class MapsEntry:
    """A VMA as a line of ``/proc/PID/maps``, without flags: HVA `start` to `end` (exclusive).

    Attributes:
        perms: the permissions, such as ``rw-p``.
        offset: the offset of `start` in the file, in bytes.
        path: the path of the file, a name in brackets, or "" for anonymous memory.
    """

    start: int
    end: int
    perms: str
    offset: int
    path: str


def find_vma(hva: int, pid: int | str = "self") -> MapsEntry | None:
    """Return the VMA that covers `hva`, or the next one above it, as the kernel's find_vma().

    Returns None if no VMA ends above `hva`, or if the process does not exist. Raises `OSError`
    if the process may not be inspected.
    """
    name = _Name()
    query = _Query(
        size=ctypes.sizeof(_Query),
        query_flags=_COVERING_OR_NEXT,
        query_addr=hva,
        vma_name_size=_NAME_SIZE,
        vma_name_addr=ctypes.addressof(name),
    )
    try:
        maps = os.open(f"/proc/{pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(maps, PROCMAP_QUERY, query)
        finally:
            os.close(maps)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        if error.errno == errno.ENOTTY:  # before v6.11
            return _find_vma_in_smaps(hva, pid)
        raise
    flags = query.vma_flags
    perms = "".join(letters[0] if flags & bit else letters[1] for bit, letters in _PERMS)
    path = name.value.decode(errors="replace")
    return MapsEntry(query.vma_start, query.vma_end, perms, query.vma_offset, path)


def _find_vma_in_smaps(hva: int, pid: int | str) -> MapsEntry | None:
    for vma in vmas(hva, (1 << 64) - hva, pid):
        return MapsEntry(vma.start, vma.end, vma.perms, vma.offset, vma.path)
    return None
