# SPDX-License-Identifier: GPL-2.0-only
"""From an instruction word to what it does with memory.

The encodings are those of DDI 0487, C4.1 "A64 instruction set encoding". We read their fields
ourselves: capstone (5.0) prints instructions well, but gives no access sizes or extensions, and
marks loads as stores or as neither among structures, atomics and cache maintenance.

Any 32-bit word has an answer. The words that the architecture leaves UNDEFINED or CONSTRAINED
UNPREDICTABLE, and the extensions that are not read, are `Undecodable` and say which it is.
"""

from pyvmm.arch.arm64.a64 import atomics, loads, structures, system_instructions
from pyvmm.arch.arm64.a64.operation import Decoded, NoAccess, Operation, Undecodable
from pyvmm.arch.arm64.bits import WORD, bit, bits

_UNALLOCATED = "not an instruction (unallocated encoding)"


def decode(word: int) -> Decoded:
    """What the instruction does with memory. Takes the word as a number, whatever its source.

    Instructions are little-endian in memory even where data is big-endian.
    """
    word &= WORD
    found = _main_group(word)
    return Undecodable(word, found) if isinstance(found, str) else found


def _main_group(word: int) -> Operation | NoAccess | str:
    """C4.1, table "Main encoding table for the A64 instruction set", by bits 28:25 (op1)."""
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
    """C4.1.94 "Loads and Stores", by op0 (bits 29:28), V (bit 26) and bits 24:21."""
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
    """LDRAA and LDRAB: 11 111 0 00 M S 1 imm9 W 1."""
    if bits(word, 31, 30) == 0b11 and not bit(word, 26):
        return "the base of LDRAA and LDRAB carries an authentication code, its key is the guest's"
    return None
