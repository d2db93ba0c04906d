# SPDX-License-Identifier: GPL-2.0-only
"""Decode exclusives, ordered loads and stores, compare and swap, and atomics (C4.1.94).

Memory ordering (acquire and release) is not recorded.
"""

from pyvmm.arch.arm64.a64.fields import base, checked, general, target
from pyvmm.arch.arm64.a64.operation import (
    AddressingMode,
    Atomic,
    AtomicFunction,
    CompareAndSwap,
    Element,
    Operation,
    Transfer,
)
from pyvmm.arch.arm64.bits import bit, bits

_NONE = 0b11111  # a register field that the instruction does not use


def exclusive_or_ordered(word: int) -> Operation | str | None:
    """Decode size 001000 o2 L o1 Rs o0 Rt2 Rn Rt.

    Unused register fields "should be one"; CPUs ignore them.
    """
    load = bool(bit(word, 22))
    match bit(word, 23), bit(word, 21):
        case 0, 0:
            return _exclusive(word, load)
        case 0, 1:
            return _exclusive_pair(word, load) if bit(word, 31) else _compare_and_swap_pair(word)
        case 1, 0:
            # LDAR and STLR, and with o0 clear LDLAR and STLLR.
            element = Element(target(word), 1 << bits(word, 31, 30))
            return Transfer(AddressingMode(base(word)), (element,), load)
    return _compare_and_swap(word)


def _exclusive(word: int, load: bool) -> Transfer | str:
    """Decode LDXR, STXR and, with o0, LDAXR and STLXR."""
    return _exclusives(word, load, (Element(target(word), 1 << bits(word, 31, 30)),))


def _exclusive_pair(word: int, load: bool) -> Transfer | str:
    """Decode LDXP, STXP and, with o0, LDAXP and STLXP."""
    size = 8 if bit(word, 30) else 4
    second = general(bits(word, 14, 10))
    return _exclusives(word, load, (Element(target(word), size), Element(second, size)))


def _exclusives(word: int, load: bool, elements: tuple[Element, ...]) -> Transfer | str:
    return checked(
        Transfer(
            AddressingMode(base(word)),
            elements,
            load,
            exclusive=True,
            status=None if load else general(bits(word, 20, 16)),
        )
    )


def _compare_and_swap(word: int) -> CompareAndSwap | None:
    """Decode CAS, CASA, CASL and CASAL."""
    if bits(word, 14, 10) != _NONE:
        return None
    compare, swap = general(bits(word, 20, 16)), target(word)
    size = 1 << bits(word, 31, 30)
    return CompareAndSwap(AddressingMode(base(word)), size, (compare,), (swap,))


def _compare_and_swap_pair(word: int) -> CompareAndSwap | None:
    """Decode CASP: even registers, each with its successor."""
    first, second = bits(word, 20, 16), bits(word, 4, 0)
    if bits(word, 14, 10) != _NONE or first & 1 or second & 1:
        return None
    return CompareAndSwap(
        AddressingMode(base(word)),
        8 if bit(word, 30) else 4,
        (general(first), general(first + 1)),
        (general(second), general(second + 1)),
    )


_FUNCTIONS = (
    AtomicFunction.ADD,
    AtomicFunction.CLEAR,
    AtomicFunction.XOR,
    AtomicFunction.SET,
    AtomicFunction.SIGNED_MAX,
    AtomicFunction.SIGNED_MIN,
    AtomicFunction.UNSIGNED_MAX,
    AtomicFunction.UNSIGNED_MIN,
)


def atomic(word: int) -> Operation | str | None:
    """Decode size 111 V 00 A R 1 Rs o3 opc 00 Rn Rt."""
    if bit(word, 26):
        return "floating-point atomics (FEAT_LSFE) are not decoded"
    opc = bits(word, 14, 12)
    if not bit(word, 15):
        return _atomic(word, _FUNCTIONS[opc])
    if opc == 0b000:
        return _atomic(word, AtomicFunction.SWAP)
    if opc == 0b100 and bits(word, 23, 22) == 0b10 and bits(word, 20, 16) == _NONE:
        element = Element(target(word), 1 << bits(word, 31, 30))
        return Transfer(AddressingMode(base(word)), (element,), load=True)  # LDAPR
    if bits(word, 31, 30) == 0b11 and bits(word, 23, 22) == 0b00:
        return _64_bytes(word, opc)
    if opc in (0b001, 0b010, 0b011) and not bit(word, 31):
        return "read-check-write atomics (FEAT_THE) are not decoded"
    return None


def _atomic(word: int, function: AtomicFunction) -> Atomic:
    return Atomic(
        AddressingMode(base(word)),
        function,
        1 << bits(word, 31, 30),
        operand=general(bits(word, 20, 16)),
        result=target(word),
    )


def _64_bytes(word: int, opc: int) -> Transfer | str | None:
    """Decode LD64B and ST64B: eight consecutive registers in one access of 64 bytes."""
    first = bits(word, 4, 0)
    if first & 1 or first > 22:
        return None
    if opc in (0b010, 0b011):
        return "ST64BV and ST64BV0 get a status from the device; they are not decoded"
    if opc not in (0b001, 0b101) or bits(word, 20, 16) != _NONE:
        return None
    elements = tuple(Element(general(first + n), 8) for n in range(8))
    return checked(Transfer(AddressingMode(base(word)), elements, load=opc == 0b101))
