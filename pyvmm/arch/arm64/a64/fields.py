# SPDX-License-Identifier: GPL-2.0-only
"""The instruction fields that most loads and stores share."""

from pyvmm.arch.arm64.a64.operation import Element, Indexing, Transfer
from pyvmm.arch.arm64.bits import bit, bits

PREFETCH = "a prefetch, which never faults"


def general(number: int) -> str:
    """Return the name of a general-purpose operand; 31 is the zero register."""
    return "xzr" if number == 31 else f"x{number}"


def base(word: int) -> str:
    """Return the base register Rn (bits 9:5); 31 is the stack pointer."""
    number = bits(word, 9, 5)
    return "sp" if number == 31 else f"x{number}"


def target(word: int) -> str:
    """Return the general-purpose register Rt (bits 4:0)."""
    return general(bits(word, 4, 0))


def whole(number: int, size: int) -> Element:
    """Return a SIMD&FP register as a scalar of `size` bytes: B, H, S, D or Q."""
    return Element(f"v{number}", size, lanes=(0,))


def sized(word: int) -> tuple[Element, bool] | str | None:
    """Decode the element of a single-register load or store; the flag is True for a load.

    It uses size (bits 31:30), V (bit 26) and opc (bits 23:22). Return a string for a prefetch,
    and None for an unallocated encoding.
    """
    size, opc = bits(word, 31, 30), bits(word, 23, 22)
    if bit(word, 26):
        if not opc & 0b10:
            return whole(bits(word, 4, 0), 1 << size), bool(opc & 1)
        return (whole(bits(word, 4, 0), 16), bool(opc & 1)) if size == 0 else None
    if opc < 0b10:
        return Element(target(word), 1 << size), opc == 0b01
    if size == 3:
        return PREFETCH if opc == 0b10 else None
    if size == 2 and opc == 0b11:
        return None
    return Element(target(word), 1 << size, sign_extend_to=64 if opc == 0b10 else 32), True


def checked(transfer: Transfer) -> Transfer | str:
    """Return the transfer, or why it is CONSTRAINED UNPREDICTABLE (see the instruction's page).

    Guests have such instructions only by accident, and CPUs differ in executing them.
    """
    registers = [element.register for element in transfer.elements if not element.lanes]
    vectors = [element.register for element in transfer.elements if element.lanes == (0,)]
    address, pair = transfer.address, registers or vectors
    if address.indexing is not Indexing.OFFSET and address.base in registers:
        return "CONSTRAINED UNPREDICTABLE: writes back a base register that it also transfers"
    if transfer.load and len(pair) == 2 and pair[0] == pair[1]:
        return "CONSTRAINED UNPREDICTABLE: loads the same register twice"
    if transfer.status is not None and transfer.status in (*registers, address.base):
        return "CONSTRAINED UNPREDICTABLE: the status register is also transferred or the base"
    return transfer
