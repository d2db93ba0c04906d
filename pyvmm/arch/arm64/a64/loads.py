# SPDX-License-Identifier: GPL-2.0-only
"""Decode loads and stores of one register or a pair: LDR, STR, LDP, STP… (C4.1.94)."""

from collections.abc import Callable

from pyvmm.arch.arm64.a64.fields import PREFETCH, base, checked, general, sized, target, whole
from pyvmm.arch.arm64.a64.operation import (
    AddressingMode,
    Element,
    Index,
    Indexing,
    NoAccess,
    Operation,
    Transfer,
)
from pyvmm.arch.arm64.bits import bit, bits, signed


def _one_register(
    word: int, address: Callable[[int], AddressingMode]
) -> Operation | NoAccess | str | None:
    """Decode a transfer of Rt; `address` returns its addressing mode for a size in bytes."""
    match sized(word):
        case None:
            return None
        case str(prefetch):
            return NoAccess(prefetch)
        case element, load:
            return checked(Transfer(address(element.size), (element,), load))


def literal(word: int) -> Operation | NoAccess | str | None:
    """Decode PC-relative LDR, LDRSW and PRFM: opc 011 V 00 imm19 Rt."""
    address = AddressingMode("pc", signed(bits(word, 23, 5), 19) * 4)
    opc = bits(word, 31, 30)
    if bit(word, 26):
        if opc == 0b11:
            return None
        return Transfer(address, (whole(bits(word, 4, 0), 4 << opc),), load=True)
    match opc:
        case 0b00 | 0b01:
            element = Element(target(word), 4 << opc)
        case 0b10:
            element = Element(target(word), 4, sign_extend_to=64)
        case _:
            return NoAccess(PREFETCH)
    return Transfer(address, (element,), load=True)


def unsigned_offset(word: int) -> Operation | NoAccess | str | None:
    """Decode size 111 V 01 opc imm12 Rn Rt, with the offset in units of the access size."""
    return _one_register(word, lambda size: AddressingMode(base(word), bits(word, 21, 10) * size))


_NINE_BIT = (Indexing.OFFSET, Indexing.POST, Indexing.OFFSET, Indexing.PRE)


def nine_bit_offset(word: int) -> Operation | NoAccess | str | None:
    """Decode size 111 V 00 opc 0 imm9 xx Rn Rt: LDUR, post-indexed, LDTR, pre-indexed."""
    variant = bits(word, 11, 10)
    if variant == 0b10 and bit(word, 26):
        return None
    address = AddressingMode(base(word), signed(bits(word, 20, 12), 9), _NINE_BIT[variant])
    found = _one_register(word, lambda size: address)
    # Only the LDUR variant has a prefetch (PRFUM).
    return None if isinstance(found, NoAccess) and variant else found


_EXTENSIONS = {
    0b010: (32, False),  # UXTW
    0b011: (64, False),  # LSL
    0b110: (32, True),  # SXTW
    0b111: (64, True),  # SXTX
}


def register_offset(word: int) -> Operation | NoAccess | str | None:
    """Decode size 111 V 00 opc 1 Rm option S 10 Rn Rt."""
    extension = _EXTENSIONS.get(bits(word, 15, 13))
    if extension is None:
        return None
    register = general(bits(word, 20, 16))

    def address(size: int) -> AddressingMode:
        shift = size.bit_length() - 1 if bit(word, 12) else 0
        return AddressingMode(base(word), Index(register, *extension, shift))

    return _one_register(word, address)


def unscaled_ordered(word: int) -> Operation | NoAccess | str | None:
    """Decode LDAPUR and STLUR; reject the extensions with the same bits 29:28 = 01, 24 = 1."""
    if bit(word, 26) or bit(word, 21) or bits(word, 11, 10) != 0b00:
        return _extension(word)
    match sized(word):
        case None | str():
            return None
        case element, load:
            address = AddressingMode(base(word), signed(bits(word, 20, 12), 9))
            return Transfer(address, (element,), load)


def _extension(word: int) -> str | None:
    match bit(word, 26), bit(word, 21), bits(word, 11, 10), bits(word, 31, 30):
        case _, 0, 0b01, _:
            return "memory copy and set (FEAT_MOPS) is not decoded"
        case 0, 1, _, 0b11:
            return "memory tags (FEAT_MTE) are not decoded"
        case 0, 0, 0b10, _:
            return "LDIAPP, STILP and their like (FEAT_LRCPC3) are not decoded"
        case 1, 0, 0b10, _:
            return "SIMD&FP LDAPUR and STLUR (FEAT_LRCPC3) are not decoded"
        case 0, 1, 0b00, _:
            return "128-bit atomics (FEAT_LSE128) are not decoded"
        case 0, _, 0b10 | 0b11, _:
            return "read-check-write atomics and guarded stacks are not decoded"
    return None


_PAIR = (Indexing.OFFSET, Indexing.POST, Indexing.OFFSET, Indexing.PRE)


def pair(word: int) -> Operation | NoAccess | str | None:
    """Decode LDP, STP, LDPSW, LDNP and STNP: opc 101 V 0 xx L imm7 Rt2 Rn Rt."""
    opc, load, variant = bits(word, 31, 30), bool(bit(word, 22)), bits(word, 24, 23)
    numbers = bits(word, 4, 0), bits(word, 14, 10)
    if opc == 0b11:
        return "unprivileged and non-temporal pairs (FEAT_LSUI) are not decoded"
    if bit(word, 26):
        elements = [whole(number, 4 << opc) for number in numbers]
    elif opc == 0b01:
        if not load:
            return "memory tags (FEAT_MTE) are not decoded" if variant else None
        if variant == 0b00:
            return None
        elements = [Element(general(number), 4, sign_extend_to=64) for number in numbers]
    else:
        elements = [Element(general(number), 8 if opc else 4) for number in numbers]
    offset = signed(bits(word, 21, 15), 7) * elements[0].size
    address = AddressingMode(base(word), offset, _PAIR[variant])
    return checked(Transfer(address, tuple(elements), load))
