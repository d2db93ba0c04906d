# SPDX-License-Identifier: GPL-2.0-only
"""Bit fields of registers, descriptors and instructions, numbered as in the Arm ARM."""

WORD = (1 << 32) - 1
DOUBLEWORD = (1 << 64) - 1


def bit(value: int, position: int) -> int:
    """Return ``value<position>``: 0 or 1."""
    return value >> position & 1


def bits(value: int, high: int, low: int) -> int:
    """Return ``value<high:low>``, including both ends."""
    return value >> low & ((1 << (high - low + 1)) - 1)


def signed(value: int, width: int) -> int:
    """Return the low `width` bits of `value` as a signed number (the Arm ARM's ``SInt``)."""
    value &= (1 << width) - 1
    return value - (value >> (width - 1) << width)


def sign_extend(value: int, width: int, to: int) -> int:
    """Sign-extend the low `width` bits of `value` to `to` bits; return an unsigned number."""
    return signed(value, width) & ((1 << to) - 1)


def align_down(value: int, to: int) -> int:
    """Round `value` down to a multiple of `to`, a power of two."""
    return value & -to
