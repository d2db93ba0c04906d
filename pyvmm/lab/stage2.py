# SPDX-License-Identifier: GPL-2.0-only
"""A guest's stage-2 tables, read from outside the host that made them: where an IPA leads, and
with which memory type.

KVM shows user space a dump of stage 2 (debugfs), and that has no memory types. From outside there
is nothing to ask: the descriptors lie in physical memory, and VTTBR_EL2 says where. This is the
walk of DDI 0487, D8.2 (``AArch64.S2Walk``), as far as a descriptor; what a permission allows is
not its business.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pyvmm.memory_types import stage2_type

_DESCRIPTOR = 8  # bytes
_LAST_LEVEL = 3
_BLOCK, _PAGE, _TABLE = 0b01, 0b11, 0b11  # a descriptor's low two bits; a page is at level 3

# HCR_EL2
HCR_VM = 1 << 0
HCR_FWB = 1 << 46

_GRANULES = {0b00: 12, 0b01: 16, 0b10: 14}  # VTCR_EL2.TG0: log2 of a page
_SL0_16K_64K = {0: 3, 1: 2, 2: 1, 3: 0}
_SL0_4K = {0: 2, 1: 1, 2: 0, 3: 3}

Read = Callable[[int, int], bytes]
"""``read(pa, size)``: `size` bytes of the host's physical memory. Raises `OSError`."""


class WalkError(ValueError):
    """Registers that no KVM would have set: there is nothing to walk."""


@dataclass(frozen=True)
class Registers:
    """What the CPU walks by."""

    vttbr: int
    vtcr: int
    hcr: int

    @property
    def fwb(self) -> bool:
        """Does stage 2 force Write-Back (HCR_EL2.FWB)? MemAttr means something else then."""
        return bool(self.hcr & HCR_FWB)


@dataclass(frozen=True)
class Stage2:
    """Where stage 2 takes an IPA; `descriptor` is the last that was read, at `level`.

    Attributes:
        size: bytes that the descriptor maps, or leaves unmapped.
        pa: what the IPA leads to; None where nothing is mapped (the guest's access would fault).
    """

    ipa: int
    level: int
    descriptor: int
    size: int
    pa: int | None
    fwb: bool

    @property
    def memory_attribute(self) -> int:
        """MemAttr, bits 5:2 of a block or page."""
        return self.descriptor >> 2 & 0b1111

    @property
    def memory_type(self) -> str:
        """In the Arm ARM's words, such as ``Normal-NC``; ``unmapped`` where nothing is."""
        return "unmapped" if self.pa is None else stage2_type(self.memory_attribute, fwb=self.fwb)

    def __str__(self) -> str:
        if self.pa is None:
            return f"unmapped (level {self.level} descriptor {self.descriptor:#x})"
        forced = "FWB" if self.fwb else "no FWB"
        return (
            f"{self.memory_type} (MemAttr {self.memory_attribute:#06b} with {forced}, "
            f"level {self.level} descriptor {self.descriptor:#x})"
        )


@dataclass(frozen=True)
class Layout:
    """The shape of the tables, out of VTCR_EL2.

    Attributes:
        page: log2 of the granule.
        width: bits of an IPA.
        start: level of the first lookup. Its table is up to sixteen ordinary ones in a row.
        wide: do descriptors hold 52 bits of address the way of FEAT_LPA2 (VTCR_EL2.DS)?
    """

    page: int
    width: int
    start: int
    wide: bool

    @classmethod
    def of(cls, vtcr: int) -> "Layout":
        """Decode it. Raises `WalkError`."""
        granule, level = vtcr >> 14 & 0b11, vtcr >> 6 & 0b11
        if granule not in _GRANULES:
            raise WalkError(f"VTCR_EL2 {vtcr:#x} has no granule")
        page, width, wide = _GRANULES[granule], 64 - (vtcr & 0x3F), bool(vtcr >> 32 & 1)
        start = (_SL0_4K if page == 12 else _SL0_16K_64K)[level]
        if page == 12 and wide and vtcr >> 33 & 1:  # SL2
            start = -1
        layout = cls(page, width, start, wide)
        # What is left for the first lookup: at least one bit, and no more than a table and
        # four bits of concatenation.
        if not 0 < width - layout.shift(start) <= layout.stride + 4 or width > 52:
            raise WalkError(f"VTCR_EL2 {vtcr:#x} has {width} bits of IPA from level {start}")
        return layout

    @property
    def stride(self) -> int:
        """Bits of the IPA that one whole table resolves."""
        return self.page - 3

    def shift(self, level: int) -> int:
        """log2 of the bytes that a descriptor of `level` maps."""
        return self.page + self.stride * (_LAST_LEVEL - level)

    def address(self, descriptor: int, low: int) -> int:
        """The physical address in a descriptor (or base register), from bit `low` up."""
        if self.wide:
            return _field(descriptor, 50, low) | (descriptor >> 8 & 0b11) << 50
        address = _field(descriptor, 48, low)
        return address | (descriptor >> 12 & 0xF) << 48 if self.page == 16 else address

    def root(self, vttbr: int) -> int:
        """Where the first table is: BADDR is aligned to its size, 64 bytes at least."""
        entries = self.width - self.shift(self.start)
        base = _field(vttbr, 48, max(entries + 3, 6 if self.wide else 1))
        return base | (vttbr >> 2 & 0xF) << 48 if self.wide else base


def walk(registers: Registers, ipa: int, read: Read) -> Stage2:
    """Translate `ipa` as the CPU would.

    Raises `WalkError` for registers that make no sense or an IPA that they have no room for, and
    what `read` raises.
    """
    layout = Layout.of(registers.vtcr)
    if ipa < 0 or ipa >> layout.width:
        raise WalkError(f"IPA {ipa:#x} is beyond this VM's {layout.width} bits")
    table, level, bits = layout.root(registers.vttbr), layout.start, layout.width
    while True:
        shift = layout.shift(level)
        index = _field(ipa, bits, shift) >> shift
        descriptor = int.from_bytes(read(table + index * _DESCRIPTOR, _DESCRIPTOR), "little")
        leaf = _PAGE if level == _LAST_LEVEL else _BLOCK
        if descriptor & 0b11 == leaf:
            pa = layout.address(descriptor, shift) | _field(ipa, shift, 0)
            return Stage2(ipa, level, descriptor, 1 << shift, pa, registers.fwb)
        if descriptor & 0b11 != _TABLE or level == _LAST_LEVEL:
            return Stage2(ipa, level, descriptor, 1 << shift, None, registers.fwb)
        table, level, bits = layout.address(descriptor, layout.page), level + 1, shift


def _field(value: int, high: int, low: int) -> int:
    """The bits of `value` from `low` to below `high`, in their place."""
    return value & (1 << high) - (1 << low)
