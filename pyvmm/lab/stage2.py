# SPDX-License-Identifier: GPL-2.0-only
"""A walk of a guest's stage-2 tables, which finds the PA and the memory type of an IPA.

No KVM interface reports memory types: the dump of stage 2 in debugfs omits them. This module reads
the descriptors from the physical memory of the emulated machine, starting at VTTBR_EL2. It
implements the walk of DDI 0487, D8.2 (``AArch64.S2Walk``), without permission checks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyvmm.memory_types import stage2_type

_DESCRIPTOR = 8  # bytes
_LAST_LEVEL = 3
_BLOCK, _PAGE, _TABLE = 0b01, 0b11, 0b11  # bits 1:0 of a descriptor; pages are at level 3

# HCR_EL2
HCR_VM = 1 << 0
HCR_FWB = 1 << 46

_GRANULES = {0b00: 12, 0b01: 16, 0b10: 14}  # VTCR_EL2.TG0: log2 of the page size in bytes
_SL0_16K_64K = {0: 3, 1: 2, 2: 1, 3: 0}
_SL0_4K = {0: 2, 1: 1, 2: 0, 3: 3}

Read = Callable[[int, int], bytes]
"""``read(pa, size)`` returns `size` bytes of physical memory of the machine. Raises `OSError`."""


class WalkError(ValueError):
    """Register values or an IPA for which there is no walk."""


@dataclass(frozen=True)
class Stage2Registers:
    """The registers that control a stage-2 walk: VTTBR_EL2, VTCR_EL2 and HCR_EL2."""

    vttbr: int
    vtcr: int
    hcr: int

    @property
    def fwb(self) -> bool:
        """Return True if HCR_EL2.FWB is set, which changes the encoding of MemAttr."""
        return bool(self.hcr & HCR_FWB)


@dataclass(frozen=True)
class Stage2Entry:
    """The last descriptor of a walk for `ipa`, read at `level`.

    Attributes:
        size: bytes that the descriptor maps or leaves unmapped.
        pa: the output address of `ipa`, or None if it is unmapped (a guest access faults).
    """

    ipa: int
    level: int
    descriptor: int
    size: int
    pa: int | None
    fwb: bool

    @property
    def memory_attribute(self) -> int:
        """Return MemAttr, bits 5:2 of a block or page descriptor."""
        return self.descriptor >> 2 & 0b1111

    @property
    def memory_type(self) -> str:
        """Return the Arm ARM's name of the memory type, such as ``Normal-NC``, or ``unmapped``."""
        return "unmapped" if self.pa is None else stage2_type(self.memory_attribute, fwb=self.fwb)

    def __str__(self) -> str:
        """Return the memory type and the descriptor in one line."""
        if self.pa is None:
            return f"unmapped (level {self.level} descriptor {self.descriptor:#x})"
        forced = "FWB" if self.fwb else "no FWB"
        return (
            f"{self.memory_type} (MemAttr {self.memory_attribute:#06b} with {forced}, "
            f"level {self.level} descriptor {self.descriptor:#x})"
        )


@dataclass(frozen=True)
class TableLayout:
    """The geometry of the tables, decoded from VTCR_EL2.

    Attributes:
        page: log2 of the granule in bytes.
        width: bits of an IPA.
        start: level of the first lookup, where up to 16 tables are concatenated.
        wide: True if descriptors have 52-bit addresses as in FEAT_LPA2 (VTCR_EL2.DS).
    """

    page: int
    width: int
    start: int
    wide: bool

    @classmethod
    def from_vtcr(cls, vtcr: int) -> "TableLayout":
        """Decode VTCR_EL2. Raises `WalkError`."""
        granule, level = vtcr >> 14 & 0b11, vtcr >> 6 & 0b11
        if granule not in _GRANULES:
            raise WalkError(f"VTCR_EL2 {vtcr:#x} has a reserved granule (TG0)")
        page, width, wide = _GRANULES[granule], 64 - (vtcr & 0x3F), bool(vtcr >> 32 & 1)
        start = (_SL0_4K if page == 12 else _SL0_16K_64K)[level]
        if page == 12 and wide and vtcr >> 33 & 1:  # SL2
            start = -1
        layout = cls(page, width, start, wide)
        # The first lookup resolves at least one bit, and at most one table and the four bits that
        # select one of 16 concatenated tables.
        if not 0 < width - layout.shift(start) <= layout.stride + 4 or width > 52:
            raise WalkError(f"VTCR_EL2 {vtcr:#x} has {width} bits of IPA from level {start}")
        return layout

    @property
    def stride(self) -> int:
        """Return the number of IPA bits that one table resolves."""
        return self.page - 3

    def shift(self, level: int) -> int:
        """Return log2 of the bytes that a descriptor at `level` maps."""
        return self.page + self.stride * (_LAST_LEVEL - level)

    def address(self, descriptor: int, low: int) -> int:
        """Return the physical address in a descriptor, from bit `low` up."""
        if self.wide:
            return _field(descriptor, 50, low) | (descriptor >> 8 & 0b11) << 50
        address = _field(descriptor, 48, low)
        return address | (descriptor >> 12 & 0xF) << 48 if self.page == 16 else address

    def root(self, vttbr: int) -> int:
        """Return the PA of the first table.

        VTTBR_EL2.BADDR is aligned to the size of that table, and to 64 bytes with DS.
        """
        entries = self.width - self.shift(self.start)
        base = _field(vttbr, 48, max(entries + 3, 6 if self.wide else 1))
        return base | (vttbr >> 2 & 0xF) << 48 if self.wide else base


def walk(registers: Stage2Registers, ipa: int, read: Read) -> Stage2Entry:
    """Walk the tables for `ipa` as the CPU does.

    Raises `WalkError` if VTCR_EL2 is invalid or the IPA is too wide for it, and what `read`
    raises.
    """
    layout = TableLayout.from_vtcr(registers.vtcr)
    if ipa < 0 or ipa >> layout.width:
        raise WalkError(f"IPA {ipa:#x} exceeds the {layout.width} IPA bits of this VM")
    table, level, bits = layout.root(registers.vttbr), layout.start, layout.width
    while True:
        shift = layout.shift(level)
        index = _field(ipa, bits, shift) >> shift
        descriptor = int.from_bytes(read(table + index * _DESCRIPTOR, _DESCRIPTOR), "little")
        leaf = _PAGE if level == _LAST_LEVEL else _BLOCK
        if descriptor & 0b11 == leaf:
            pa = layout.address(descriptor, shift) | _field(ipa, shift, 0)
            return Stage2Entry(ipa, level, descriptor, 1 << shift, pa, registers.fwb)
        if descriptor & 0b11 != _TABLE or level == _LAST_LEVEL:
            return Stage2Entry(ipa, level, descriptor, 1 << shift, None, registers.fwb)
        table, level, bits = layout.address(descriptor, layout.page), level + 1, shift


def _field(value: int, high: int, low: int) -> int:
    """Return bits `low` to `high` - 1 of `value`, unshifted."""
    return value & (1 << high) - (1 << low)
