# SPDX-License-Identifier: GPL-2.0-only
"""Execute one decoded operation against memory, as the CPU would have done without the fault.

For an MMIO exit KVM does this itself. Without one (pairs, exclusives, atomics, vectors and
writeback clear ``ESR_EL2.ISV``, or ``KVM_RUN`` fails with ``EFAULT``), the VMM has to.
"""

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from pyvmm.arch.arm64.a64.access import INSTRUCTION_SIZE
from pyvmm.arch.arm64.a64.operation import (
    Atomic,
    AtomicFunction,
    CompareAndSwap,
    Element,
    Maintenance,
    Operation,
    RegisterValues,
    Transfer,
    ZeroBlock,
    proper_name,
    value_of,
)
from pyvmm.arch.arm64.bits import DOUBLEWORD, sign_extend, signed

ByteOrder: TypeAlias = Literal["little", "big"]


class Memory(Protocol):
    """Guest memory by GVA, including device registers.

    Each call transfers one element: at most 16 bytes, or for DC ZVA a block. It can cross into a
    page that is not adjacent in IPA space.
    """

    def read(self, va: int, size: int) -> bytes:
        """Read `size` bytes at `va`."""

    def write(self, va: int, data: bytes) -> None:
        """Write `data` at `va`."""


def execute(
    operation: Operation,
    registers: RegisterValues,
    memory: Memory,
    *,
    order: ByteOrder = "little",
) -> dict[str, int]:
    """Execute `operation` and return the new values of the registers it changes, with ``pc``.

    Names are those of `pyvmm.arch.arm64.registers`; values are unsigned. `order` is the guest's
    data endianness (SCTLR_EL1.EE or E0E). Exceptions from `memory` propagate; stores made before
    them stay done, and no register has changed.

    A store-exclusive always succeeds, because user space cannot see the exclusive monitor. An
    atomic is a read and a write; only `memory` can make it atomic.
    """
    changes = _execute(operation, registers, _Values(memory, order))
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


def _execute(operation: Operation, registers: RegisterValues, values: _Values) -> dict[str, int]:
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


def _load(transfer: Transfer, registers: RegisterValues, values: _Values) -> dict[str, int]:
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


def _store(transfer: Transfer, registers: RegisterValues, values: _Values) -> dict[str, int]:
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


def _atomic(atomic: Atomic, registers: RegisterValues, values: _Values) -> dict[str, int]:
    va = atomic.address.va(registers)
    old = values.load(va, atomic.size)
    operand = value_of(atomic.operand, registers)
    values.store(va, atomic.size, _FUNCTIONS[atomic.function](old, operand, atomic.size * 8))
    return {atomic.result: old}


# Parameters: the old memory value, the operand, and their width in bits. The store truncates.
_FUNCTIONS: dict[AtomicFunction, Callable[[int, int, int], int]] = {
    AtomicFunction.ADD: lambda old, operand, _: old + operand,
    AtomicFunction.CLEAR: lambda old, operand, _: old & ~operand,
    AtomicFunction.XOR: lambda old, operand, _: old ^ operand,
    AtomicFunction.SET: lambda old, operand, _: old | operand,
    AtomicFunction.SIGNED_MAX: lambda old, operand, width: max(
        signed(old, width), signed(operand, width)
    ),
    AtomicFunction.SIGNED_MIN: lambda old, operand, width: min(
        signed(old, width), signed(operand, width)
    ),
    AtomicFunction.UNSIGNED_MAX: lambda old, operand, width: max(old, operand & ((1 << width) - 1)),
    AtomicFunction.UNSIGNED_MIN: lambda old, operand, width: min(old, operand & ((1 << width) - 1)),
    AtomicFunction.SWAP: lambda old, operand, _: operand,
}


def _compare_and_swap(
    operation: CompareAndSwap, registers: RegisterValues, values: _Values
) -> dict[str, int]:
    va, size = operation.address.va(registers), operation.size
    places = [va + n * size for n in range(len(operation.compare))]
    old = [values.load(place, size) for place in places]
    mask = (1 << size * 8) - 1
    if old == [value_of(name, registers) & mask for name in operation.compare]:
        for place, name in zip(places, operation.swap, strict=True):
            values.store(place, size, value_of(name, registers))
    return dict(zip(operation.compare, old, strict=True))
