# SPDX-License-Identifier: GPL-2.0-only
"""Decode the memory accesses of an A64 instruction word.

The encodings are those of DDI 0487, C4.1 "A64 instruction set encoding". Capstone (5.0) is only
used to print instructions: it gives no access sizes or extensions, and it marks loads as stores,
or as neither, among structures, atomics and cache maintenance.

Every 32-bit word has a result. Words that the architecture leaves UNDEFINED or CONSTRAINED
UNPREDICTABLE, and unsupported extensions, are `Undecodable` with the reason.
"""

from pyvmm.arch.arm64.a64 import atomics, loads, structures, system_instructions
from pyvmm.arch.arm64.a64.operation import Decoded, NoAccess, Operation, Undecodable
from pyvmm.arch.arm64.bits import WORD, bit, bits

_UNALLOCATED = "not an instruction (unallocated encoding)"


def decode(word: int) -> Decoded:
    """Decode an instruction word, given as a number.

    In memory, instructions are little-endian even if data is big-endian.
    """
    word &= WORD
    found = _main_group(word)
    return Undecodable(word, found) if isinstance(found, str) else found


def _main_group(word: int) -> Operation | NoAccess | str:
    """Decode by bits 28:25 (C4.1, "Main encoding table for the A64 instruction set")."""
    match bits(word, 28, 25):
        case 0b0000:
            return "SME is not decoded" if bit(word, 31) else _UNALLOCATED
        case 0b0001 | 0b0011:
            return _UNALLOCATED
        case 0b0010:
            # The upper half of SVE is loads, stores, gathers and prefetches.
            return "SVE is not decoded" if bit(word, 31) else NoAccess("SVE arithmetic")
        case 0b1000 | 0b1001:
            return NoAccess("data processing on an immediate")
        case 0b1010 | 0b1011:
            return system_instructions.decode(word)
        case 0b0100 | 0b0110 | 0b1100 | 0b1110:
            return _loads_and_stores(word) or _UNALLOCATED
        case _:
            return NoAccess("data processing on registers")


def _loads_and_stores(word: int) -> Operation | NoAccess | str | None:
    """Decode by bits 29:28, V (bit 26) and bits 24:21 (C4.1.94 "Loads and Stores")."""
    vector, extra = bit(word, 26), bit(word, 24)
    match bits(word, 29, 28):
        case 0b00 if vector:
            if bit(word, 31):
                return None
            return structures.single(word) if extra else structures.multiple(word)
        case 0b00:
            return None if extra else atomics.exclusive_or_ordered(word)
        case 0b01:
            return loads.unscaled_ordered(word) if extra else loads.literal(word)
        case 0b10:
            return loads.pair(word)
    if extra:
        return loads.unsigned_offset(word)
    if not bit(word, 21):
        return loads.nine_bit_offset(word)
    match bits(word, 11, 10):
        case 0b00:
            return atomics.atomic(word)
        case 0b10:
            return loads.register_offset(word)
    return _authenticated(word)


def _authenticated(word: int) -> str | None:
    """Reject LDRAA and LDRAB: 11 111 0 00 M S 1 imm9 W 1."""
    if bits(word, 31, 30) == 0b11 and not bit(word, 26):
        return "the base of LDRAA and LDRAB carries an authentication code with the guest's key"
    return None
