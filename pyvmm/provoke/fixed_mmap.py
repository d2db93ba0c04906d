# SPDX-License-Identifier: GPL-2.0-only
"""mmap(``MAP_FIXED``) over an existing mapping, without a record in `pyvmm.memory.Mapping`.

`hva` and `size` are in bytes. Both functions raise `OSError`.
"""

import mmap

from pyvmm import libc

_MAP_FIXED = 0x10


def map_file(hva: int, size: int, fd: int, *, offset: int = 0, private: bool = False) -> None:
    """Map a file from byte `offset`, readable and writable, shared or ``MAP_PRIVATE``."""
    _map(hva, size, mmap.MAP_PRIVATE if private else mmap.MAP_SHARED, fd, offset)


def map_anonymous(hva: int, size: int) -> None:
    """Map zeroed private anonymous memory, readable and writable."""
    _map(hva, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)


def _map(hva: int, size: int, flags: int, fd: int, offset: int) -> None:
    prot = mmap.PROT_READ | mmap.PROT_WRITE
    libc.mmap(hva, size, prot, flags | _MAP_FIXED, fd, offset)
