# SPDX-License-Identifier: GPL-2.0-only
"""Decode LD1 to LD4 and ST1 to ST4: vector lanes from and to structures (C4.1.94)."""

from pyvmm.arch.arm64.a64.fields import base
from pyvmm.arch.arm64.a64.operation import (
    AddressingMode,
    Element,
    Index,
    Indexing,
    Transfer,
)
from pyvmm.arch.arm64.bits import bit, bits

_LRCPC3 = "LDAP1 and STL1 (FEAT_LRCPC3) are not decoded"

# opcode → (registers per structure, repetitions)
_MULTIPLE = {
    0b0000: (4, 1),
    0b0010: (1, 4),
    0b0100: (3, 1),
    0b0110: (1, 3),
    0b0111: (1, 1),
    0b1000: (2, 1),
    0b1010: (1, 2),
}


def _address(word: int, size: int) -> AddressingMode | None:
    """Decode Rn and, with bit 23, the post-index: Rm, or `size` bytes if Rm is 31."""
    register = bits(word, 20, 16)
    if not bit(word, 23):
        return None if register else AddressingMode(base(word))
    offset = size if register == 31 else Index(f"x{register}")
    return AddressingMode(base(word), offset, Indexing.POST)


def _transfer(word: int, elements: list[Element], *, merge: bool = False) -> Transfer | None:
    load = bool(bit(word, 22))
    address = _address(word, sum(element.size for element in elements))
    if address is None:
        return None
    return Transfer(address, tuple(elements), load, merge=merge and load)


def multiple(word: int) -> Transfer | str | None:
    """Decode 0 Q 001100 P L 0 Rm opcode size Rn Rt: whole vectors, interleaved."""
    whole_vector, size = bit(word, 30), bits(word, 11, 10)
    if bit(word, 21) or (shape := _MULTIPLE.get(bits(word, 15, 12))) is None:
        return None
    registers, repeats = shape
    if size == 0b11 and not whole_vector and registers > 1:
        return None
    lanes = (16 if whole_vector else 8) >> size
    first = bits(word, 4, 0)
    return _transfer(
        word,
        [
            Element(f"v{(first + repeat + n) % 32}", 1 << size, lanes=(lane,))
            for repeat in range(repeats)
            for lane in range(lanes)
            for n in range(registers)
        ],
    )


def single(word: int) -> Transfer | str | None:
    """Decode 0 Q 001101 P L R Rm opcode S size Rn Rt: one lane, or with LD1R all lanes."""
    whole_vector, selects, size = bit(word, 30), bit(word, 12), bits(word, 11, 10)
    registers = (bit(word, 13) << 1 | bit(word, 21)) + 1
    if not bit(word, 23) and bits(word, 20, 16) == 0b00001:
        return _LRCPC3
    # Q:S:size is the byte offset of the lane; its bits below the lane size belong to the opcode.
    lane = whole_vector << 3 | selects << 2 | size
    match bits(word, 15, 14):
        case 0b00:
            scale = 0
        case 0b01 if not size & 0b01:
            scale = 1
        case 0b10 if size == 0b00:
            scale = 2
        case 0b10 if size == 0b01 and not selects:
            scale, lane = 3, whole_vector << 3
        case 0b11 if bit(word, 22) and not selects:
            lanes = tuple(range((16 if whole_vector else 8) >> size))
            return _transfer(word, _lanes(word, registers, size, lanes))
        case _:
            return None
    return _transfer(word, _lanes(word, registers, scale, (lane >> scale,)), merge=True)


def _lanes(word: int, registers: int, scale: int, lanes: tuple[int, ...]) -> list[Element]:
    first = bits(word, 4, 0)
    return [Element(f"v{(first + n) % 32}", 1 << scale, lanes=lanes) for n in range(registers)]
