# SPDX-License-Identifier: GPL-2.0-only
"""Exclusives, ordered loads and stores, compare and swap, and the atomics (C4.1.94)."""

from pyvmm.arch.arm64.a64.fields import base, checked, general, target
from pyvmm.arch.arm64.a64.operation import (
    Address,
    Atomic,
    CompareAndSwap,
    Element,
    Function,
    Operation,
    Order,
    Transfer,
)
from pyvmm.arch.arm64.bits import bit, bits

_NONE = 0b11111  # a register field that the instruction does not use


def _order(acquire: int, release: int) -> Order:
    order = Order.ACQUIRE if acquire else Order.NONE
    return order | Order.RELEASE if release else order


def exclusive_or_ordered(word: int) -> Operation | str | None:
    """size 001000 o2 L o1 Rs o0 Rt2 Rn Rt.

    Registers that an instruction here does not use "should be one"; CPUs do not look at them.
    """
    load = bool(bit(word, 22))
    match bit(word, 23), bit(word, 21):
        case 0, 0:
            return _exclusive(word, load)
        case 0, 1:
            return _exclusive_pair(word, load) if bit(word, 31) else _compare_and_swap_pair(word)
        case 1, 0:
            # LDLAR and STLLR (o0 clear) order within limited regions; nothing else differs.
            order = Order.ACQUIRE if load else Order.RELEASE
            element = Element(target(word), 1 << bits(word, 31, 30))
            return Transfer(Address(base(word)), (element,), load, order)
    return _compare_and_swap(word)


def _exclusive(word: int, load: bool) -> Transfer | str:
    """LDXR, STXR and, with o0, LDAXR and STLXR."""
    return _exclusives(word, load, (Element(target(word), 1 << bits(word, 31, 30)),))


def _exclusive_pair(word: int, load: bool) -> Transfer | str:
    """LDXP, STXP and, with o0, LDAXP and STLXP."""
    size = 8 if bit(word, 30) else 4
    second = general(bits(word, 14, 10))
    return _exclusives(word, load, (Element(target(word), size), Element(second, size)))


def _exclusives(word: int, load: bool, elements: tuple[Element, ...]) -> Transfer | str:
    ordered = bit(word, 15)
    return checked(
        Transfer(
            Address(base(word)),
            elements,
            load,
            _order(ordered and load, ordered and not load),
            exclusive=True,
            status=None if load else general(bits(word, 20, 16)),
        )
    )


def _compare_and_swap(word: int) -> CompareAndSwap | None:
    """CAS: L is acquire, o0 release."""
    if bits(word, 14, 10) != _NONE:
        return None
    compare, swap = general(bits(word, 20, 16)), target(word)
    size = 1 << bits(word, 31, 30)
    order = _order(bit(word, 22), bit(word, 15))
    return CompareAndSwap(Address(base(word)), size, (compare,), (swap,), order)


def _compare_and_swap_pair(word: int) -> CompareAndSwap | None:
    """CASP: even registers, each with its successor."""
    first, second = bits(word, 20, 16), bits(word, 4, 0)
    if bits(word, 14, 10) != _NONE or first & 1 or second & 1:
        return None
    return CompareAndSwap(
        Address(base(word)),
        8 if bit(word, 30) else 4,
        (general(first), general(first + 1)),
        (general(second), general(second + 1)),
        _order(bit(word, 22), bit(word, 15)),
    )


_FUNCTIONS = (
    Function.ADD,
    Function.CLEAR,
    Function.XOR,
    Function.SET,
    Function.SIGNED_MAX,
    Function.SIGNED_MIN,
    Function.UNSIGNED_MAX,
    Function.UNSIGNED_MIN,
)


def atomic(word: int) -> Operation | str | None:
    """size 111 V 00 A R 1 Rs o3 opc 00 Rn Rt."""
    if bit(word, 26):
        return "floating-point atomics (FEAT_LSFE) are not decoded"
    opc = bits(word, 14, 12)
    if not bit(word, 15):
        return _atomic(word, _FUNCTIONS[opc])
    if opc == 0b000:
        return _atomic(word, Function.SWAP)
    if opc == 0b100 and bits(word, 23, 22) == 0b10 and bits(word, 20, 16) == _NONE:
        element = Element(target(word), 1 << bits(word, 31, 30))
        return Transfer(Address(base(word)), (element,), load=True, order=Order.ACQUIRE)  # LDAPR
    if bits(word, 31, 30) == 0b11 and bits(word, 23, 22) == 0b00:
        return _64_bytes(word, opc)
    if opc in (0b001, 0b010, 0b011) and not bit(word, 31):
        return "read-check-write atomics (FEAT_THE) are not decoded"
    return None


def _atomic(word: int, function: Function) -> Atomic:
    return Atomic(
        Address(base(word)),
        function,
        1 << bits(word, 31, 30),
        operand=general(bits(word, 20, 16)),
        result=target(word),
        order=_order(bit(word, 23), bit(word, 22)),
    )


def _64_bytes(word: int, opc: int) -> Transfer | str | None:
    """LD64B and ST64B: eight consecutive registers, as one access of 64 bytes."""
    first = bits(word, 4, 0)
    if first & 1 or first > 22:
        return None
    if opc in (0b010, 0b011):
        return "ST64BV and ST64BV0 get a status from the device; they are not decoded"
    if opc not in (0b001, 0b101) or bits(word, 20, 16) != _NONE:
        return None
    elements = tuple(Element(general(first + n), 8) for n in range(8))
    return checked(Transfer(Address(base(word)), elements, load=opc == 0b101))
