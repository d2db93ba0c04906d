# SPDX-License-Identifier: GPL-2.0-only
"""The guest's EL1&0 stage-1 translation regime, decoded from its system registers.

Section numbers and pseudocode names are those of the Arm Architecture Reference Manual for
A-profile (DDI 0487, chapter D8 "The AArch64 Virtual Memory System Architecture").
"""

from dataclasses import dataclass
from enum import IntEnum

from pyvmm.arch.arm64.bits import align_down, bit, bits

# Address bits by ID_AA64MMFR0_EL1.PARange, and by TCR_EL1.IPS.
_PA_BITS = (32, 36, 40, 42, 44, 48, 52, 56)

LAST_LEVEL = 3
DESCRIPTOR_SIZE = 8  # bytes; 16 with FEAT_D128


def physical_bits(id_aa64mmfr0_el1: int) -> int:
    """Return the physical address width in bits, from PARange; a reserved value counts as 56."""
    return _PA_BITS[min(bits(id_aa64mmfr0_el1, 3, 0), 7)]


class Granule(IntEnum):
    """A translation granule; the value is log2 of its size in bytes."""

    KIB4 = 12
    KIB16 = 14
    KIB64 = 16

    @property
    def stride(self) -> int:
        """Return the number of address bits that one table level resolves."""
        return self - 3


# TCR_EL1.TG0 and TG1 have different encodings. A missing value is reserved.
_TG0 = {0b00: Granule.KIB4, 0b01: Granule.KIB64, 0b10: Granule.KIB16}
_TG1 = {0b01: Granule.KIB16, 0b10: Granule.KIB4, 0b11: Granule.KIB64}


@dataclass(frozen=True, kw_only=True)
class Regime:
    """The raw values of the registers that control EL1&0 stage-1 translation.

    The last three belong to permission indirection (FEAT_S1PIE) and are 0 on a CPU without it.
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

    @property
    def mmu_on(self) -> bool:
        """Return True if stage 1 is enabled (SCTLR_EL1.M)."""
        return bool(bit(self.sctlr_el1, 0))

    @property
    def big_endian(self) -> bool:
        """Return True if EL1's data and the descriptors are big-endian (SCTLR_EL1.EE)."""
        return bool(bit(self.sctlr_el1, 25))

    @property
    def instruction_cacheable(self) -> bool:
        """Return True if fetches with the MMU off may be cached (SCTLR_EL1.I)."""
        return bool(bit(self.sctlr_el1, 12))

    @property
    def write_implies_never_execute(self) -> bool:
        """Return True if a writable page is never executable (SCTLR_EL1.WXN)."""
        return bool(bit(self.sctlr_el1, 19))

    @property
    def hardware_access_flag(self) -> bool:
        """Return True if hardware sets the access flag instead of faulting (TCR_EL1.HA)."""
        return bool(bit(self.tcr_el1, 39))

    @property
    def hardware_dirty_state(self) -> bool:
        """Return True if hardware makes clean descriptors with DBM writable (TCR_EL1.HD)."""
        return self.hardware_access_flag and bool(bit(self.tcr_el1, 40))

    @property
    def indirect_permissions(self) -> bool:
        """Return True if permissions come from PIR_EL1 and PIRE0_EL1 (TCR2_EL1.PIE)."""
        return bool(bit(self.tcr2_el1, 1))

    @property
    def wide_descriptors(self) -> bool:
        """Return True if descriptors are 128 bits wide (TCR2_EL1.D128, FEAT_D128)."""
        return bool(bit(self.tcr2_el1, 5))

    @property
    def extended_attributes(self) -> bool:
        """Return True if memory types also come from MAIR2_EL1 (TCR2_EL1.AIE, FEAT_AIE)."""
        return bool(bit(self.tcr2_el1, 4))

    @property
    def physical_bits(self) -> int:
        """Return the CPU's physical address width in bits (``AArch64.PAMax``)."""
        return physical_bits(self.id_aa64mmfr0_el1)

    def mair_attribute(self, index: int) -> int:
        """Return the eight-bit attribute ``Attr<index>`` (0 to 7) of MAIR_EL1."""
        return bits(self.mair_el1, index * 8 + 7, index * 8)

    def top_byte_ignored(self, va: int, *, fetch: bool) -> bool:
        """Return True if bits 63:56 of `va` are a tag (TCR_EL1.TBI0 or TBI1; D8.8.1).

        TBID0 and TBID1 exclude instruction fetches.
        """
        upper = bit(va, 55)
        ignored = bit(self.tcr_el1, 37 + upper)
        return bool(ignored and not (fetch and bit(self.tcr_el1, 51 + upper)))

    def walks_disabled(self, va: int) -> bool:
        """Return True if the half of `va` is not walked (TCR_EL1.EPD0 or EPD1)."""
        return bool(bit(self.tcr_el1, 23 if bit(va, 55) else 7))

    def el0_disabled(self, va: int) -> bool:
        """Return True if EL0 cannot access the half of `va` (TCR_EL1.E0PD0 or E0PD1)."""
        return bool(bit(self.tcr_el1, 55 + bit(va, 55)))

    def half(self, va: int) -> "Half | str":
        """Return the half of the address space with `va`, or why its TCR_EL1 fields are invalid."""
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
        """Return True if TCR_EL1.DS is set and supported: 52-bit addresses (FEAT_LPA2)."""
        mmfr0 = self.id_aa64mmfr0_el1
        supported = {
            Granule.KIB4: bits(mmfr0, 31, 28) == 1,  # TGran4
            Granule.KIB16: bits(mmfr0, 23, 20) == 2,  # TGran16
            Granule.KIB64: False,  # 52 bits with 64 KiB are FEAT_LPA and FEAT_LVA, without DS
        }
        return supported[granule] and bool(bit(self.tcr_el1, 59))

    def _output_bits(self, granule: Granule, lpa2: bool) -> int:
        """Return the width of addresses in tables (``AArch64.PhysicalAddressSize``)."""
        configured = _PA_BITS[bits(self.tcr_el1, 34, 32)]
        largest = 52 if lpa2 or granule is Granule.KIB64 else 48
        return min(configured, self.physical_bits, largest)


@dataclass(frozen=True, kw_only=True)
class Half:
    """One half of the virtual address space: from 0 up (TTBR0) or from the top down (TTBR1).

    Attributes:
        upper: True for the TTBR1 half.
        granule: the translation granule.
        input_bits: the width of a virtual address: 64 - TxSZ.
        lpa2: True if descriptors have address bits 51:50 in place of shareability (TCR_EL1.DS).
        output_bits: the width of an address in a table; a wider one is an address size fault.
        physical_bits: the CPU's physical address width.
        ttbr: TTBR0_EL1 or TTBR1_EL1.
        flat_permissions: True if table descriptors do not limit the levels below them
            (TCR_EL1.HPD0 or HPD1).
    """

    upper: bool
    granule: Granule
    input_bits: int
    lpa2: bool
    output_bits: int
    physical_bits: int
    ttbr: int
    flat_permissions: bool

    @property
    def start_level(self) -> int:
        """Return the level of the table in TTBR: -1 (52 bits with 4 KiB) to 3."""
        return LAST_LEVEL - (self.input_bits - 1 - self.granule) // self.granule.stride

    def shift(self, level: int) -> int:
        """Return log2 of the bytes that one entry of a table of this level maps."""
        return self.granule + (LAST_LEVEL - level) * self.granule.stride

    @property
    def table_ipa(self) -> int:
        """Return the IPA of the first table (``AArch64.S1TTBaseAddress``).

        It is aligned to its size, and to at least 64 bytes if it can be above 2**48.
        """
        wide = self.lpa2 or (self.granule is Granule.KIB64 and self.output_bits == 52)
        size = DESCRIPTOR_SIZE << (self.input_bits - self.shift(self.start_level))
        ipa = bits(self.ttbr, 47, 1) << 1
        if wide:
            ipa |= bits(self.ttbr, 5, 2) << 48
            size = max(size, 64)
        return align_down(ipa, size)

    def maps_blocks(self, level: int) -> bool:
        """Return True if a table of this level may have blocks (``AArch64.BlockDescSupported``)."""
        match self.granule:
            case Granule.KIB4:
                return level in (1, 2) or (level == 0 and self.lpa2)
            case Granule.KIB16:
                return level == 2 or (level == 1 and self.lpa2)
            case Granule.KIB64:
                return level == 2 or (level == 1 and self.physical_bits >= 52)

    def descriptor_ipa(self, table: int, va: int, level: int) -> int:
        """Return the IPA of the entry for `va` in the table of `level` at IPA `table`."""
        shift = self.shift(level)
        top = self.input_bits if level == self.start_level else shift + self.granule.stride
        return table + DESCRIPTOR_SIZE * bits(va, top - 1, shift)
