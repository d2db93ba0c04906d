# SPDX-License-Identifier: GPL-2.0-only
"""Fields of registers, descriptors and instructions, numbered as the Arm ARM numbers them."""

WORD = (1 << 32) - 1
DOUBLEWORD = (1 << 64) - 1


def bit(value: int, position: int) -> int:
    """``value<position>``: 0 or 1."""
    return value >> position & 1


def bits(value: int, high: int, low: int) -> int:
    """``value<high:low>``, both ends included."""
    return value >> low & ((1 << (high - low + 1)) - 1)


def signed(value: int, width: int) -> int:
    """The low `width` bits of `value` as a two's complement number: the Arm ARM's ``SInt``."""
    value &= (1 << width) - 1
    return value - (value >> (width - 1) << width)


def sign_extend(value: int, width: int, to: int) -> int:
    """The low `width` bits of `value`, sign-extended to `to` bits, as an unsigned number."""
    return signed(value, width) & ((1 << to) - 1)


def align_down(value: int, to: int) -> int:
    """The multiple of `to` (a power of two) at or below `value`."""
    return value & -to
