# SPDX-License-Identifier: GPL-2.0-only
"""What the guest's system registers ask of its EL1&0 stage-1 translation.

Section numbers and pseudocode names are those of the Arm Architecture Reference Manual for
A-profile (DDI 0487, chapter D8 "The AArch64 Virtual Memory System Architecture").
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

from pyvmm.arch.arm64.bits import align_down, bit, bits

# ID_AA64MMFR0_EL1.PARange and TCR_EL1.IPS share this encoding: address bits.
_PA_BITS = (32, 36, 40, 42, 44, 48, 52, 56)

LAST_LEVEL = 3
DESCRIPTOR_SIZE = 8  # bytes; FEAT_D128 would make it 16


def physical_bits(id_aa64mmfr0_el1: int) -> int:
    """Width in bits of a physical address: ID_AA64MMFR0_EL1.PARange, reserved ones as 56."""
    return _PA_BITS[min(bits(id_aa64mmfr0_el1, 3, 0), 7)]


class Granule(IntEnum):
    """A translation granule; the value is the number of address bits within a page."""

    KIB4 = 12
    KIB16 = 14
    KIB64 = 16

    @property
    def stride(self) -> int:
        """Address bits that one level of tables resolves."""
        return self - 3


# TCR_EL1.TG0 and TG1 encode the granule differently; an absent value is reserved.
_TG0 = {0b00: Granule.KIB4, 0b01: Granule.KIB64, 0b10: Granule.KIB16}
_TG1 = {0b01: Granule.KIB16, 0b10: Granule.KIB4, 0b11: Granule.KIB64}


_OF_EXTENSIONS = frozenset(("tcr2_el1", "pir_el1", "pire0_el1"))


@dataclass(frozen=True, kw_only=True)
class Regime:
    """The registers that steer EL1&0 stage-1 translation, as the guest has them now.

    Each field has its register's name and raw value. The last three matter where the CPU has
    permission indirection (FEAT_S1PIE), and are 0 where it has not.
    """

    sctlr_el1: int
    tcr_el1: int
    ttbr0_el1: int
    ttbr1_el1: int
    mair_el1: int
    id_aa64mmfr0_el1: int
    tcr2_el1: int = 0
    pir_el1: int = 0
    pire0_el1: int = 0

    @classmethod
    def of(cls, registers: Mapping[str, int]) -> Self:
        """The regime of a vCPU, its registers named as the Arm ARM names them.

        A register of an extension may be missing, as it does from a CPU without that; another
        one that is missing raises `KeyError`.
        """
        given = {field.name: field.name.upper() for field in fields(cls)}
        return cls(
            **{
                name: registers[register]
                for name, register in given.items()
                if register in registers or name not in _OF_EXTENSIONS
            }
        )

    @property
    def mmu_on(self) -> bool:
        """SCTLR_EL1.M: stage 1 translates."""
        return bool(bit(self.sctlr_el1, 0))

    @property
    def big_endian(self) -> bool:
        """SCTLR_EL1.EE: EL1's data and the descriptors themselves are big-endian."""
        return bool(bit(self.sctlr_el1, 25))

    @property
    def instruction_cacheable(self) -> bool:
        """SCTLR_EL1.I: fetches with the MMU off may be cached."""
        return bool(bit(self.sctlr_el1, 12))

    @property
    def write_implies_never_execute(self) -> bool:
        """SCTLR_EL1.WXN."""
        return bool(bit(self.sctlr_el1, 19))

    @property
    def execute_counts_for_pan(self) -> bool:
        """SCTLR_EL1.EPAN: memory EL0 may only execute is also out of reach under PSTATE.PAN."""
        return bool(bit(self.sctlr_el1, 57))

    @property
    def hardware_access_flag(self) -> bool:
        """TCR_EL1.HA: a clear access flag is set by hardware and faults no more."""
        return bool(bit(self.tcr_el1, 39))

    @property
    def hardware_dirty_state(self) -> bool:
        """TCR_EL1.HD: a clean descriptor with DBM is written, and marked so, by hardware."""
        return self.hardware_access_flag and bool(bit(self.tcr_el1, 40))

    @property
    def indirect_permissions(self) -> bool:
        """TCR2_EL1.PIE: permissions are looked up in PIR_EL1 and PIRE0_EL1."""
        return bool(bit(self.tcr2_el1, 1))

    @property
    def wide_descriptors(self) -> bool:
        """TCR2_EL1.D128: descriptors are 128 bits (FEAT_D128). `walk` reads 64-bit ones."""
        return bool(bit(self.tcr2_el1, 5))

    @property
    def extended_attributes(self) -> bool:
        """TCR2_EL1.AIE: memory types come from MAIR2_EL1 too (FEAT_AIE)."""
        return bool(bit(self.tcr2_el1, 4))

    @property
    def physical_bits(self) -> int:
        """Width in bits of the addresses this CPU has at all: ``AArch64.PAMax``."""
        return physical_bits(self.id_aa64mmfr0_el1)

    def top_byte_ignored(self, va: int, *, fetch: bool) -> bool:
        """TCR_EL1.TBI0 or TBI1 for this address: bits 63:56 are a tag (D8.8.1).

        TBID0 and TBID1 take that back for instruction fetches.
        """
        upper = bit(va, 55)
        ignored = bit(self.tcr_el1, 37 + upper)
        return bool(ignored and not (fetch and bit(self.tcr_el1, 51 + upper)))

    def walks_disabled(self, va: int) -> bool:
        """TCR_EL1.EPD0 or EPD1: the tables for the half with `va` are not walked."""
        return bool(bit(self.tcr_el1, 23 if bit(va, 55) else 7))

    def el0_disabled(self, va: int) -> bool:
        """TCR_EL1.E0PD0 or E0PD1: EL0 has no access to the half with `va`."""
        return bool(bit(self.tcr_el1, 55 + bit(va, 55)))

    def half(self, va: int) -> "Half | str":
        """How the half of the address space with `va` is translated, or why it cannot be told."""
        upper = bit(va, 55)
        tcr = self.tcr_el1
        name = f"TCR_EL1.TG{upper}"
        encoded = bits(tcr, 31, 30) if upper else bits(tcr, 15, 14)
        granule = (_TG1 if upper else _TG0).get(encoded)
        if granule is None:
            return f"{name} is {encoded:#04b}, a reserved granule"
        lpa2 = self._lpa2(granule)
        size = 64 - (bits(tcr, 21, 16) if upper else bits(tcr, 5, 0))
        largest = 52 if lpa2 or granule is Granule.KIB64 else 48
        smallest = 17 if granule is Granule.KIB64 else 16  # FEAT_TTST; 25 without it
        if not smallest <= size <= largest:
            return (
                f"TCR_EL1.T{upper}SZ is {64 - size}, which asks for {size}-bit addresses: with "
                f"this granule they have {smallest} to {largest} bits"
            )
        return Half(
            upper=bool(upper),
            granule=granule,
            input_bits=size,
            lpa2=lpa2,
            output_bits=self._output_bits(granule, lpa2),
            physical_bits=self.physical_bits,
            ttbr=self.ttbr1_el1 if upper else self.ttbr0_el1,
            flat_permissions=bool(bit(tcr, 42 if upper else 41)) or self.indirect_permissions,
        )

    def _lpa2(self, granule: Granule) -> bool:
        """TCR_EL1.DS where the CPU has it: 52-bit addresses with 4 KiB and 16 KiB (FEAT_LPA2)."""
        mmfr0 = self.id_aa64mmfr0_el1
        offered = {
            Granule.KIB4: bits(mmfr0, 31, 28) == 1,  # TGran4
            Granule.KIB16: bits(mmfr0, 23, 20) == 2,  # TGran16
            Granule.KIB64: False,  # 52 bits with 64 KiB are FEAT_LPA and FEAT_LVA, without DS
        }
        return offered[granule] and bool(bit(self.tcr_el1, 59))

    def _output_bits(self, granule: Granule, lpa2: bool) -> int:
        """Width of the addresses that tables may hold: ``AArch64.PhysicalAddressSize``."""
        asked = _PA_BITS[bits(self.tcr_el1, 34, 32)]
        largest = 52 if lpa2 or granule is Granule.KIB64 else 48
        return min(asked, self.physical_bits, largest)


@dataclass(frozen=True, kw_only=True)
class Half:
    """Translation of one half of the address space: from 0 up (TTBR0), or down from the top."""

    upper: bool
    granule: Granule
    input_bits: int
    """Width of a virtual address: 64 - TxSZ."""
    lpa2: bool
    """Descriptors hold address bits 51:50 where others hold shareability (TCR_EL1.DS)."""
    output_bits: int
    """Width of an address a table may hold; a wider one is an address size fault."""
    physical_bits: int
    ttbr: int
    flat_permissions: bool
    """TCR_EL1.HPD0 or HPD1: table descriptors do not limit what is below them."""

    @property
    def start_level(self) -> int:
        """The level of the table TTBR points at: -1 (52 bits, 4 KiB) to 3."""
        return LAST_LEVEL - (self.input_bits - 1 - self.granule) // self.granule.stride

    def shift(self, level: int) -> int:
        """Address bits below one entry of a table of this level: log2 of what it maps."""
        return self.granule + (LAST_LEVEL - level) * self.granule.stride

    @property
    def table_ipa(self) -> int:
        """Where the first table is: ``AArch64.S1TTBaseAddress``.

        It is aligned to its size, which is at least 64 bytes where it may lie above 2**48.
        """
        wide = self.lpa2 or (self.granule is Granule.KIB64 and self.output_bits == 52)
        size = DESCRIPTOR_SIZE << (self.input_bits - self.shift(self.start_level))
        ipa = bits(self.ttbr, 47, 1) << 1
        if wide:
            ipa |= bits(self.ttbr, 5, 2) << 48
            size = max(size, 64)
        return align_down(ipa, size)

    def maps_blocks(self, level: int) -> bool:
        """Whether a table of this level may hold blocks: ``AArch64.BlockDescSupported``."""
        match self.granule:
            case Granule.KIB4:
                return level in (1, 2) or (level == 0 and self.lpa2)
            case Granule.KIB16:
                return level == 2 or (level == 1 and self.lpa2)
            case Granule.KIB64:
                return level == 2 or (level == 1 and self.physical_bits >= 52)

    def descriptor_ipa(self, table: int, va: int, level: int) -> int:
        """The IPA of the entry for `va` in the table of `level` at `table`."""
        shift = self.shift(level)
        top = self.input_bits if level == self.start_level else shift + self.granule.stride
        return table + DESCRIPTOR_SIZE * bits(va, top - 1, shift)
