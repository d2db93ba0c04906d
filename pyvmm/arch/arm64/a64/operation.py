# SPDX-License-Identifier: GPL-2.0-only
"""The operations of memory instructions, independent of register values.

Register names are those of `pyvmm.arch.arm64.registers`, plus two that exist only here: ``sp`` is
the stack pointer that PSTATE selects, and ``xzr`` is the zero register.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.bits import DOUBLEWORD, align_down, bit, bits, sign_extend

RegisterValues: TypeAlias = Mapping[str, int]
"""Unsigned register values by name. Only the registers that an instruction uses are looked up."""


def proper_name(name: str, registers: RegisterValues) -> str:
    """Return `name`, or for ``sp`` the stack pointer that PSTATE.SP (bit 0) selects."""
    if name != "sp":
        return name
    return "sp_el1" if bit(registers["pstate"], 0) else "sp_el0"


def value_of(name: str, registers: RegisterValues) -> int:
    """Return the value of a register; 0 for ``xzr``."""
    return 0 if name == "xzr" else registers[proper_name(name, registers)]


class Indexing(Enum):
    """The time when the offset is added to the base, and whether the base is written back."""

    OFFSET = auto()  # [x1, #8]
    PRE = auto()  # [x1, #8]!
    POST = auto()  # [x1], #8


@dataclass(frozen=True)
class Index:
    """An offset in a register: ``x2``, ``x2, lsl #3`` or ``w2, sxtw #2``.

    Attributes:
        register: its name.
        width: the number of low bits that are used.
        signed: True to sign-extend them.
        shift: the left shift, in bits.
    """

    register: str
    width: int = 64
    signed: bool = False
    shift: int = 0

    def offset(self, registers: RegisterValues) -> int:
        """Return the offset in bytes, modulo 2**64."""
        low = bits(value_of(self.register, registers), self.width - 1, 0)
        extended = sign_extend(low, self.width, 64) if self.signed else low
        return extended << self.shift & DOUBLEWORD


@dataclass(frozen=True)
class AddressingMode:
    """An addressing mode: base register, offset in bytes or in a register, and writeback.

    `base` is ``x0`` to ``x30``, ``sp``, or ``pc`` for a literal.
    """

    base: str
    offset: int | Index = 0
    indexing: Indexing = Indexing.OFFSET

    def va(self, registers: RegisterValues) -> int:
        """Return the GVA of the first byte."""
        if self.indexing is Indexing.POST:
            return value_of(self.base, registers)
        return self._sum(registers)

    def writeback(self, registers: RegisterValues) -> dict[str, int]:
        """Return the new value of the base register by name; empty without writeback."""
        if self.indexing is Indexing.OFFSET:
            return {}
        return {proper_name(self.base, registers): self._sum(registers)}

    def _sum(self, registers: RegisterValues) -> int:
        offset = self.offset
        added = offset.offset(registers) if isinstance(offset, Index) else offset
        return (value_of(self.base, registers) + added) & DOUBLEWORD


@dataclass(frozen=True)
class Element:
    """One value that moves between memory and a register.

    Attributes:
        register: the register's name.
        size: bytes in memory.
        sign_extend_to: for a sign-extending load, the width of the result: 32 or 64 bits. The
            bits above it become 0. With 0, a load zero-extends.
        lanes: for a vector register, the lanes of `size` bytes that a load writes, or the single
            lane that a store reads.
    """

    register: str
    size: int
    sign_extend_to: int = 0
    lanes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Transfer:
    """A load or store of elements at consecutive addresses.

    Attributes:
        address: the address of the first element.
        elements: the elements, lowest address first.
        load: True for a load.
        exclusive: True for a load- or store-exclusive.
        status: the register in which a store-exclusive reports success.
        merge: True if a load keeps the other lanes of a vector; otherwise it zeroes them.
    """

    address: AddressingMode
    elements: tuple[Element, ...]
    load: bool
    exclusive: bool = False
    status: str | None = None
    merge: bool = False

    @property
    def size(self) -> int:
        """Return the size of all elements in bytes."""
        return sum(element.size for element in self.elements)

    def accesses(self, registers: RegisterValues) -> list[Access]:
        """Return a single access for all elements.

        Device memory requires each element to be aligned; for an exclusive pair, the pair.
        """
        kind = Kind.READ if self.load else Kind.WRITE
        unit = self.size if self.exclusive else self.elements[0].size
        return [Access(self.address.va(registers), self.size, kind, unit, self.exclusive)]


class AtomicFunction(Enum):
    """The function of the old memory value and the operand that an atomic stores."""

    ADD = auto()
    CLEAR = auto()
    XOR = auto()
    SET = auto()
    SIGNED_MAX = auto()
    SIGNED_MIN = auto()
    UNSIGNED_MAX = auto()
    UNSIGNED_MIN = auto()
    SWAP = auto()


@dataclass(frozen=True)
class Atomic:
    """An atomic read-modify-write, such as LDADD or SWP.

    Attributes:
        address: the address.
        function: the new value of memory.
        size: bytes.
        operand: the register with the operand.
        result: the register that receives the old value.
    """

    address: AddressingMode
    function: AtomicFunction
    size: int
    operand: str
    result: str

    def accesses(self, registers: RegisterValues) -> list[Access]:
        """Return the read, then the write."""
        return _read_then_write(self.address.va(registers), self.size)


@dataclass(frozen=True)
class CompareAndSwap:
    """A CAS or CASP: if memory equals `compare`, store `swap`; load the old value to `compare`.

    Attributes:
        address: the address.
        size: bytes per register.
        compare: one register, or two for CASP.
        swap: as many registers.
    """

    address: AddressingMode
    size: int
    compare: tuple[str, ...]
    swap: tuple[str, ...]

    def accesses(self, registers: RegisterValues) -> list[Access]:
        """Return the read, then the write, which can fault even if the comparison fails."""
        return _read_then_write(self.address.va(registers), self.size * len(self.compare))


def _read_then_write(va: int, size: int) -> list[Access]:
    return [Access(va, size, kind, unit=size, atomic=True) for kind in (Kind.READ, Kind.WRITE)]


@dataclass(frozen=True)
class ZeroBlock:
    """A DC ZVA: zero the aligned block around the address, of the size in DCZID_EL0.BS."""

    register: str

    def accesses(self, registers: RegisterValues) -> list[Access]:
        """Return one write of the whole block."""
        size = 4 << bits(registers["DCZID_EL0"], 3, 0)
        va = align_down(value_of(self.register, registers), size)
        return [Access(va, size, Kind.WRITE, unit=None)]


@dataclass(frozen=True)
class Maintenance:
    """A cache maintenance instruction by virtual address, such as DC CVAC or IC IVAU."""

    name: str
    register: str

    def accesses(self, registers: RegisterValues) -> list[Access]:
        """Return an access to the smallest cache line (CTR_EL0.DminLine or IminLine).

        A fault on it is reported as a write (ESR_ELx.WnR is 1).
        """
        ctr = registers["CTR_EL0"]
        line = 4 << (bits(ctr, 3, 0) if self.name.startswith("ic") else bits(ctr, 19, 16))
        return [
            Access(align_down(value_of(self.register, registers), line), line, Kind.MAINTENANCE)
        ]


Operation: TypeAlias = Transfer | Atomic | CompareAndSwap | ZeroBlock | Maintenance
"""An instruction that accesses memory."""


@dataclass(frozen=True)
class NoAccess:
    """An instruction that accesses no data: a fault on it can only be on the fetch."""

    why: str


@dataclass(frozen=True)
class Undecodable:
    """An instruction that `decode` does not support, or that is not allocated."""

    word: int
    why: str

    def __str__(self) -> str:
        """Return the word and the reason."""
        return f"instruction {self.word:#010x}: {self.why}"


Decoded: TypeAlias = Operation | NoAccess | Undecodable
"""The result of `decode` for any 32-bit word."""
