# SPDX-License-Identifier: GPL-2.0-only
"""Finish an access on the guest's behalf: what the CPU would have done had it succeeded.

KVM does this itself for an MMIO exit. Where it gives none (pairs, exclusives, atomics, vectors,
writeback: ``ISV`` clear in ESR_EL2, or a bare ``EFAULT``), the VMM has the word, the registers
and this.
"""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from pyvmm.arch.arm64.a64.access import INSTRUCTION_SIZE
from pyvmm.arch.arm64.a64.operation import (
    Atomic,
    CompareAndSwap,
    Element,
    Function,
    Maintenance,
    Operation,
    Registers,
    Transfer,
    ZeroBlock,
    proper_name,
    value_of,
)
from pyvmm.arch.arm64.bits import DOUBLEWORD, sign_extend, signed

ByteOrder: TypeAlias = Literal["little", "big"]


class Memory(Protocol):
    """Guest memory by virtual address, a device's registers perhaps.

    Each call is one element of the access: a register's worth, at most 16 bytes (DC ZVA: a
    block). It may lie across two pages, which need not be neighbours in IPA.
    """

    def read(self, va: int, size: int) -> bytes:
        """`size` bytes from `va`."""

    def write(self, va: int, data: bytes) -> None:
        """Store `data` at `va`."""


def execute(
    operation: Operation,
    registers: Registers,
    memory: Memory,
    *,
    order: ByteOrder = "little",
) -> dict[str, int]:
    """Carry out `operation`, and return the registers that change with it, ``pc`` among them.

    Names are those of `pyvmm.arch.arm64.registers`, values unsigned. `order` is the guest's data
    endianness (SCTLR_EL1.EE or E0E). What `memory` raises passes through, and then nothing that
    was returned has to be undone, though stores before it stay done.

    A store-exclusive succeeds: with the VMM in between there is no monitor to ask. Atomics are
    a read and a write, indivisible only if `memory` sees to it.
    """
    changes = _perform(operation, registers, _Values(memory, order))
    changes["pc"] = (registers["pc"] + INSTRUCTION_SIZE) & DOUBLEWORD
    return {
        proper_name(name, registers): changed for name, changed in changes.items() if name != "xzr"
    }


class _Values:
    """Memory as unsigned numbers."""

    def __init__(self, memory: Memory, order: ByteOrder) -> None:
        self.memory = memory
        self.order: ByteOrder = order

    def load(self, va: int, size: int) -> int:
        return int.from_bytes(self.memory.read(va & DOUBLEWORD, size), self.order)

    def store(self, va: int, size: int, number: int) -> None:
        low = number & ((1 << size * 8) - 1)
        self.memory.write(va & DOUBLEWORD, low.to_bytes(size, self.order))


def _perform(operation: Operation, registers: Registers, values: _Values) -> dict[str, int]:
    match operation:
        case Transfer(load=True):
            return _load(operation, registers, values)
        case Transfer():
            return _store(operation, registers, values)
        case Atomic():
            return _atomic(operation, registers, values)
        case CompareAndSwap():
            return _compare_and_swap(operation, registers, values)
        case ZeroBlock():
            for block in operation.accesses(registers):
                values.store(block.va, block.size, 0)
            return {}
        case Maintenance():
            return {}


def _load(transfer: Transfer, registers: Registers, values: _Values) -> dict[str, int]:
    va = transfer.address.va(registers)
    changes = transfer.address.writeback(registers)
    for element in transfer.elements:
        loaded = values.load(va, element.size)
        name = element.register
        if element.lanes:
            kept = value_of(name, registers) if transfer.merge else 0
            changes[name] = _into_lanes(changes.get(name, kept), element, loaded)
        elif element.sign_extend_to:
            changes[name] = sign_extend(loaded, element.size * 8, element.sign_extend_to)
        else:
            changes[name] = loaded
        va += element.size
    return changes


def _into_lanes(vector: int, element: Element, loaded: int) -> int:
    width = element.size * 8
    for lane in element.lanes:
        mask = (1 << width) - 1 << lane * width
        vector = vector & ~mask | loaded << lane * width
    return vector


def _store(transfer: Transfer, registers: Registers, values: _Values) -> dict[str, int]:
    va = transfer.address.va(registers)
    changes = transfer.address.writeback(registers)
    for element in transfer.elements:
        lane = element.lanes[0] if element.lanes else 0
        values.store(
            va, element.size, value_of(element.register, registers) >> lane * element.size * 8
        )
        va += element.size
    if transfer.status:
        changes[transfer.status] = 0
    return changes


def _atomic(atomic: Atomic, registers: Registers, values: _Values) -> dict[str, int]:
    va = atomic.address.va(registers)
    old = values.load(va, atomic.size)
    operand = value_of(atomic.operand, registers)
    values.store(va, atomic.size, _FUNCTIONS[atomic.function](old, operand, atomic.size * 8))
    return {atomic.result: old}


# Each is given memory's old value, the operand, and their width in bits; the store cuts the rest.
_FUNCTIONS: dict[Function, Callable[[int, int, int], int]] = {
    Function.ADD: lambda old, operand, _: old + operand,
    Function.CLEAR: lambda old, operand, _: old & ~operand,
    Function.XOR: lambda old, operand, _: old ^ operand,
    Function.SET: lambda old, operand, _: old | operand,
    Function.SIGNED_MAX: lambda old, operand, width: max(
        signed(old, width), signed(operand, width)
    ),
    Function.SIGNED_MIN: lambda old, operand, width: min(
        signed(old, width), signed(operand, width)
    ),
    Function.UNSIGNED_MAX: lambda old, operand, width: max(old, operand & ((1 << width) - 1)),
    Function.UNSIGNED_MIN: lambda old, operand, width: min(old, operand & ((1 << width) - 1)),
    Function.SWAP: lambda old, operand, _: operand,
}


def _compare_and_swap(
    operation: CompareAndSwap, registers: Registers, values: _Values
) -> dict[str, int]:
    va, size = operation.address.va(registers), operation.size
    places = [va + n * size for n in range(len(operation.compare))]
    old = [values.load(place, size) for place in places]
    mask = (1 << size * 8) - 1
    if old == [value_of(name, registers) & mask for name in operation.compare]:
        for place, name in zip(places, operation.swap, strict=True):
            values.store(place, size, value_of(name, registers))
    return dict(zip(operation.compare, old, strict=True))
