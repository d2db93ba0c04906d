# SPDX-License-Identifier: GPL-2.0-only
"""One stage-1 descriptor: what kind it is, the address it holds, the limits it sets (D8.3)."""

from dataclasses import dataclass
from enum import Enum, auto

from pyvmm.arch.arm64.bits import bit, bits
from pyvmm.arch.arm64.regime import LAST_LEVEL, Granule, Half


class Kind(Enum):
    """What the low two bits of a descriptor say at its level (D8.3.1)."""

    INVALID = auto()
    TABLE = auto()
    LEAF = auto()  # a block, or at the last level a page


@dataclass(frozen=True)
class Descriptor:
    """A descriptor as it was read during a walk. It is printed in reports, so it stays whole."""

    level: int
    ipa: int
    value: int

    def kind(self, half: Half) -> Kind:
        """What this descriptor is: ``AArch64.DecodeDescriptorType``."""
        match bits(self.value, 1, 0), self.level == LAST_LEVEL:
            case 0b11, True:
                return Kind.LEAF
            case 0b11, False:
                return Kind.TABLE
            case 0b01, False if half.maps_blocks(self.level):
                return Kind.LEAF
            case _:
                return Kind.INVALID

    def address(self, half: Half, kind: Kind) -> int:
        """The IPA of the next table, or of the block or page itself.

        ``AArch64.S1NextTableBase`` and ``AArch64.LeafBase``. Bits above 47 lie where the granule
        has room for them, so a guest without 52-bit addresses may have nonsense there.
        """
        low = half.shift(self.level) if kind is Kind.LEAF else half.granule
        if half.lpa2:
            return bits(self.value, 49, low) << low | bits(self.value, 9, 8) << 50
        address = bits(self.value, 47, low) << low
        if half.granule is Granule.KIB64 and half.physical_bits >= 52:
            address |= bits(self.value, 15, 12) << 48
        return address

    @property
    def access_flag(self) -> bool:
        """AF: the page has been used."""
        return bool(bit(self.value, 10))

    @property
    def attribute_index(self) -> int:
        """AttrIndx: which byte of MAIR_EL1 names the memory type."""
        return bits(self.value, 4, 2)

    @property
    def limits(self) -> "Limits":
        """What a *table* descriptor takes away from everything below it."""
        return Limits(
            no_el0=bool(bit(self.value, 61)),
            read_only=bool(bit(self.value, 62)),
            uxn=bool(bit(self.value, 60)),
            pxn=bool(bit(self.value, 59)),
        )


@dataclass(frozen=True)
class Limits:
    """Hierarchical attributes: APTable, UXNTable and PXNTable, of all tables on the way (D8.4)."""

    no_el0: bool = False
    read_only: bool = False
    uxn: bool = False
    pxn: bool = False

    def __or__(self, other: "Limits") -> "Limits":
        return Limits(
            no_el0=self.no_el0 or other.no_el0,
            read_only=self.read_only or other.read_only,
            uxn=self.uxn or other.uxn,
            pxn=self.pxn or other.pxn,
        )
