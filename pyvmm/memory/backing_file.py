# SPDX-License-Identifier: GPL-2.0-only
"""The regular file behind a VMA: its size, its holes, the free space of its file system."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pyvmm.memory.procmap import MapsEntry


@dataclass(frozen=True)
class BackingFile:
    """A regular file behind a page.

    Attributes:
        size: bytes in the file.
        hole: the file has no data at the page's offset.
        full: its file system has a size, and no free block.
        next_hole: the offset of the first hole at or after the page's offset, or None.
    """

    size: int
    hole: bool
    full: bool
    next_hole: int | None = field(default=None, compare=False)


def of_mapping(area: MapsEntry, hva: int, pid: int | str = "self") -> BackingFile | None:
    """Return the file that `area` maps at `hva`, or None for anything but a regular file.

    Raises `OSError`: ``map_files`` needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
    """
    if not area.path or area.path.startswith("["):
        return None
    link = f"/proc/{pid}/map_files/{area.start:x}-{area.end:x}"
    return _inspect(link, area.offset + hva - area.start)


def of_descriptor(fd: int, offset: int) -> BackingFile | None:
    """Return this process's file `fd` at byte `offset`, or None for anything but a regular file.

    Raises `OSError`.
    """
    return _inspect(f"/proc/self/fd/{fd}", offset)


def _inspect(link: str, offset: int) -> BackingFile | None:
    """Open the file again, since lseek(2) moves the offset of an open one."""
    # Opening a device has side effects; stat(2) has none.
    if not Path(link).is_file():
        return None
    fd = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size, space = os.fstat(fd).st_size, os.fstatvfs(fd)
        full = space.f_blocks > 0 and space.f_bavail == 0
        hole = os.lseek(fd, offset, os.SEEK_HOLE) if offset < size else size
        return BackingFile(size, hole == offset < size, full, hole if hole < size else None)
    finally:
        os.close(fd)
