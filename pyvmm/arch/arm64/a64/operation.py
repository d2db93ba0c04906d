# SPDX-License-Identifier: GPL-2.0-only
"""What an instruction does with memory, apart from the values that the registers hold.

Every operation can tell its accesses once it is given the registers. Their names are those of
`pyvmm.arch.arm64.registers`, with two that exist only here: ``sp`` is whichever stack pointer
PSTATE selects, and ``xzr`` the zero register.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import TypeAlias

from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.bits import DOUBLEWORD, align_down, bit, bits, sign_extend

Registers: TypeAlias = Mapping[str, int]
"""Unsigned values by name. Only what the instruction uses is looked up, so a lazy mapping does."""


def proper_name(name: str, registers: Registers) -> str:
    """`name`, or for ``sp`` the stack pointer in use: PSTATE.SP (bit 0) chooses at EL1."""
    if name != "sp":
        return name
    return "sp_el1" if bit(registers["pstate"], 0) else "sp_el0"


def value_of(name: str, registers: Registers) -> int:
    """What a register holds."""
    return 0 if name == "xzr" else registers[proper_name(name, registers)]


class Order(Flag):
    """How the access is ordered against others: load-acquire and store-release."""

    NONE = 0
    ACQUIRE = auto()
    RELEASE = auto()


class Indexing(Enum):
    """When the offset is added to the base, and whether the base keeps the sum."""

    OFFSET = auto()  # [x1, #8]
    PRE = auto()  # [x1, #8]!
    POST = auto()  # [x1], #8


@dataclass(frozen=True)
class Index:
    """An offset in a register: ``x2``, ``x2, lsl #3`` or ``w2, sxtw #2``."""

    register: str
    width: int = 64
    """How many bits of the register count."""
    signed: bool = False
    shift: int = 0

    def offset(self, registers: Registers) -> int:
        """In bytes, modulo 2**64."""
        low = bits(value_of(self.register, registers), self.width - 1, 0)
        extended = sign_extend(low, self.width, 64) if self.signed else low
        return extended << self.shift & DOUBLEWORD


@dataclass(frozen=True)
class Address:
    """An addressing mode."""

    base: str
    """``x0`` to ``x30``, ``sp``, or ``pc`` for a literal."""
    offset: int | Index = 0
    indexing: Indexing = Indexing.OFFSET

    def va(self, registers: Registers) -> int:
        """The first byte accessed."""
        if self.indexing is Indexing.POST:
            return value_of(self.base, registers)
        return self._sum(registers)

    def writeback(self, registers: Registers) -> dict[str, int]:
        """What the base register becomes, where it changes."""
        if self.indexing is Indexing.OFFSET:
            return {}
        return {proper_name(self.base, registers): self._sum(registers)}

    def _sum(self, registers: Registers) -> int:
        offset = self.offset
        added = offset.offset(registers) if isinstance(offset, Index) else offset
        return (value_of(self.base, registers) + added) & DOUBLEWORD


@dataclass(frozen=True)
class Element:
    """What moves in one piece between memory and a register."""

    register: str
    size: int
    """Bytes in memory."""
    sign_extend_to: int = 0
    """Bits, 32 or 64, that a load sign-extends to; 0 is zero-extension. The rest is zeroed."""
    lanes: tuple[int, ...] = ()
    """For a vector register: the lanes of `size` bytes that a load writes, or the one stored."""


@dataclass(frozen=True)
class Transfer:
    """Loads or stores of elements, one after the other from a single address upwards."""

    address: Address
    elements: tuple[Element, ...]
    load: bool
    order: Order = Order.NONE
    exclusive: bool = False
    status: str | None = None
    """Where a store-exclusive reports that it succeeded."""
    unprivileged: bool = False
    merge: bool = False
    """A load leaves the other lanes as they are, where otherwise it zeroes them."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(element.size for element in self.elements)

    def accesses(self, registers: Registers) -> list[Access]:
        """One access, pairs and structures included; each element is to be aligned.

        Of an exclusive pair it is both together.
        """
        kind = Kind.READ if self.load else Kind.WRITE
        unit = self.size if self.exclusive else self.elements[0].size
        return [Access(self.address.va(registers), self.size, kind, self.unprivileged, unit)]


class Function(Enum):
    """What an atomic instruction makes of memory's old value and its operand."""

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
    """Read, modify, write: LDADD and its kin, and SWP. `result` receives the old value."""

    address: Address
    function: Function
    size: int
    operand: str
    result: str
    order: Order = Order.NONE

    def accesses(self, registers: Registers) -> list[Access]:
        """The read, then the write."""
        return _read_then_write(self.address.va(registers), self.size)


@dataclass(frozen=True)
class CompareAndSwap:
    """CAS and CASP: where memory equals `compare`, it becomes `swap`; `compare` gets the old.

    One register each, or two for CASP.
    """

    address: Address
    size: int
    """Bytes of one register's part."""
    compare: tuple[str, ...]
    swap: tuple[str, ...]
    order: Order = Order.NONE

    def accesses(self, registers: Registers) -> list[Access]:
        """The read, then the write; the write may fault even where they differ."""
        return _read_then_write(self.address.va(registers), self.size * len(self.compare))


def _read_then_write(va: int, size: int) -> list[Access]:
    return [Access(va, size, kind, unit=size) for kind in (Kind.READ, Kind.WRITE)]


@dataclass(frozen=True)
class ZeroBlock:
    """DC ZVA: zeroes the aligned block, of the size in DCZID_EL0.BS, around the address."""

    register: str

    def accesses(self, registers: Registers) -> list[Access]:
        """One write of the whole block."""
        size = 4 << bits(registers["DCZID_EL0"], 3, 0)
        va = align_down(value_of(self.register, registers), size)
        return [Access(va, size, Kind.WRITE, unit=None)]


@dataclass(frozen=True)
class Maintenance:
    """A cache maintenance instruction by virtual address, such as DC CVAC or IC IVAU."""

    name: str
    register: str

    def accesses(self, registers: Registers) -> list[Access]:
        """The smallest line, of CTR_EL0.DminLine or IminLine, around the address.

        The syndrome of a fault on it calls it a write (ESR_EL1.WnR), whatever it is.
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
    """An instruction that cannot fault on data: if there was a fault, it was on the fetch."""

    why: str


@dataclass(frozen=True)
class Undecodable:
    """An instruction whose accesses are not told, and why."""

    word: int
    why: str

    def __str__(self) -> str:
        return f"instruction {self.word:#010x}: {self.why}"


Decoded: TypeAlias = Operation | NoAccess | Undecodable
"""What becomes of any word at all."""
