# SPDX-License-Identifier: GPL-2.0-only
"""The argument block of the payloads that do one thing many times: ``exits`` and ``loads``."""

import struct

_BLOCK = struct.Struct("<QQQ")


def pack(count: int, where: int) -> bytes:
    """`count` accesses to `where`: a GVA, or for ``exits`` on x86_64 an I/O port."""
    return _BLOCK.pack(count, where, 0)


def last_word(block: bytes) -> int:
    """The 32-bit word that ``loads`` read last."""
    value: int = _BLOCK.unpack_from(block)[2]
    return value
