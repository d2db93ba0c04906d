# SPDX-License-Identifier: GPL-2.0-only
"""Decode system instructions; of these, DC and IC access memory (C5.3)."""

from pyvmm.arch.arm64.a64.fields import target
from pyvmm.arch.arm64.a64.operation import Maintenance, NoAccess, Operation, ZeroBlock
from pyvmm.arch.arm64.bits import bits

_SYS = 0b1101_0101_0000_1  # bits 31:19 of SYS; DC and IC are its aliases
_GCS = 3, 7, 7, 0  # GCSPUSHM
_ZVA = 3, 7, 4, 1

# (op1, CRn, CRm, op2) → maintenance by virtual address.
_BY_ADDRESS = {
    (0, 7, 6, 1): "dc ivac",
    (3, 7, 10, 1): "dc cvac",
    (3, 7, 11, 1): "dc cvau",
    (3, 7, 12, 1): "dc cvap",
    (3, 7, 13, 1): "dc cvadp",
    (3, 7, 14, 1): "dc civac",
    (3, 7, 5, 1): "ic ivau",
}

# (op1, CRn, CRm, op2) of DC operations on allocation tags; op1 is 0 for invalidate only.
_TAGS = {
    *((0, 7, 6, op2) for op2 in (3, 5)),
    *((3, 7, crm, op2) for crm in (10, 12, 13, 14) for op2 in (3, 5)),
    *((3, 7, 4, op2) for op2 in (3, 4)),
}


def decode(word: int) -> Operation | NoAccess | str:
    """Decode C4.1.93 "Branches, Exception Generating and System instructions"."""
    if bits(word, 31, 19) != _SYS:
        return NoAccess("a branch, an exception or a system instruction")
    operation = bits(word, 18, 16), bits(word, 15, 12), bits(word, 11, 8), bits(word, 7, 5)
    if operation == _ZVA:
        return ZeroBlock(target(word))
    if name := _BY_ADDRESS.get(operation):
        return Maintenance(name, target(word))
    if operation in _TAGS:
        return "cache maintenance of memory tags (FEAT_MTE) is not decoded"
    if operation == _GCS:
        return "guarded control stacks (FEAT_GCS) are not decoded"
    return NoAccess("a system instruction without a virtual address")
