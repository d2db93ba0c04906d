# SPDX-License-Identifier: GPL-2.0-only
"""The argument block of the payloads that repeat one access: ``exits`` and ``loads``."""

import struct

_BLOCK = struct.Struct("<QQQ")


def pack(count: int, where: int) -> bytes:
    """Return the block for `count` accesses to `where`: a GVA, or an I/O port (exits, x86_64)."""
    return _BLOCK.pack(count, where, 0)


def last_word(block: bytes) -> int:
    """Return the last 32-bit word that ``loads`` read."""
    value: int = _BLOCK.unpack_from(block)[2]
    return value
