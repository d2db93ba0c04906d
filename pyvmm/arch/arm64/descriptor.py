# SPDX-License-Identifier: GPL-2.0-only
"""A stage-1 descriptor: its kind, its address and its limits (DDI 0487, D8.3)."""

from dataclasses import dataclass
from enum import Enum, auto

from pyvmm.arch.arm64.bits import bit, bits
from pyvmm.arch.arm64.regime import LAST_LEVEL, Granule, Half


class DescriptorKind(Enum):
    """The kind of a descriptor, from its low two bits and its level (D8.3.1)."""

    INVALID = auto()
    TABLE = auto()
    LEAF = auto()  # a block, or at the last level a page


@dataclass(frozen=True)
class Descriptor:
    """A 64-bit descriptor that a walk read at `ipa`."""

    level: int
    ipa: int
    value: int

    def kind(self, half: Half) -> DescriptorKind:
        """Return the kind of this descriptor (``AArch64.DecodeDescriptorType``)."""
        match bits(self.value, 1, 0), self.level == LAST_LEVEL:
            case 0b11, True:
                return DescriptorKind.LEAF
            case 0b11, False:
                return DescriptorKind.TABLE
            case 0b01, False if half.maps_blocks(self.level):
                return DescriptorKind.LEAF
            case _:
                return DescriptorKind.INVALID

    def address(self, half: Half, kind: DescriptorKind) -> int:
        """Return the IPA of the next table, or of the block or page.

        ``AArch64.S1NextTableBase`` and ``AArch64.LeafBase``. The position of the bits above 47
        depends on the granule. Without 52-bit addresses the guest may have garbage in them.
        """
        low = half.shift(self.level) if kind is DescriptorKind.LEAF else half.granule
        if half.lpa2:
            return bits(self.value, 49, low) << low | bits(self.value, 9, 8) << 50
        address = bits(self.value, 47, low) << low
        if half.granule is Granule.KIB64 and half.physical_bits >= 52:
            address |= bits(self.value, 15, 12) << 48
        return address

    @property
    def access_flag(self) -> bool:
        """Return True if AF is set."""
        return bool(bit(self.value, 10))

    @property
    def attribute_index(self) -> int:
        """Return AttrIndx, the index of the attribute byte in MAIR_EL1."""
        return bits(self.value, 4, 2)

    @property
    def limits(self) -> "TableLimits":
        """Return the limits that a *table* descriptor sets for the levels below it."""
        return TableLimits(
            no_el0=bool(bit(self.value, 61)),
            read_only=bool(bit(self.value, 62)),
            uxn=bool(bit(self.value, 60)),
            pxn=bool(bit(self.value, 59)),
        )


@dataclass(frozen=True)
class TableLimits:
    """The hierarchical permissions of table descriptors: APTable, UXNTable and PXNTable (D8.4)."""

    no_el0: bool = False
    read_only: bool = False
    uxn: bool = False
    pxn: bool = False

    def __or__(self, other: "TableLimits") -> "TableLimits":
        """Combine the limits of two levels."""
        return TableLimits(
            no_el0=self.no_el0 or other.no_el0,
            read_only=self.read_only or other.read_only,
            uxn=self.uxn or other.uxn,
            pxn=self.pxn or other.pxn,
        )
