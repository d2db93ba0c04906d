# SPDX-License-Identifier: GPL-2.0-only
"""From a guest virtual address to an IPA, through the guest's own stage-1 tables.

This is the walk that the CPU does, done again by reading guest memory: DDI 0487, D8.2 and
``AArch64.S1Walk``. It covers the EL1&0 regime with 64-bit descriptors. Whatever the guest put in
its registers and tables, the answer is a `Translation` or a `WalkFailure`, after at most five
descriptors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from pyvmm.arch.arm64.bits import DOUBLEWORD, bit, bits
from pyvmm.arch.arm64.descriptor import Descriptor, Kind, Limits
from pyvmm.arch.arm64.memory_type import DEVICE_NGNRNE, NORMAL_NC, NORMAL_WT, indexed
from pyvmm.arch.arm64.permissions import ALL, Permission, Permissions, pan_mask, permissions
from pyvmm.arch.arm64.regime import DESCRIPTOR_SIZE, LAST_LEVEL, Half, Regime

Reader: TypeAlias = Callable[[int, int], bytes | None]
"""``read(ipa, size)``: `size` bytes of guest memory, or None where there is no memory to read."""


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Where stage 1 takes an address, and with which attributes."""

    va: int
    ipa: int
    memory_type: str
    """In the Arm ARM's words: ``Device-nGnRE``, ``Normal-NC``, ``Normal-WB``…"""
    permissions: Permissions
    size: int
    """Bytes of the block or page around `va`; with the MMU off, of the whole address space."""
    steps: tuple[Descriptor, ...] = ()
    """The descriptors that were read, first to last; none with the MMU off."""

    @property
    def level(self) -> int | None:
        """The level of the block or page descriptor (-1 to 3), or None with the MMU off."""
        return self.steps[-1].level if self.steps else None

    @property
    def descriptor_ipa(self) -> int | None:
        """Where the block or page descriptor is, or None with the MMU off."""
        return self.steps[-1].ipa if self.steps else None


class Fault(StrEnum):
    """Why stage 1 gives no IPA. The first four are what the CPU would report to the guest."""

    TRANSLATION = "translation fault"
    ADDRESS_SIZE = "address size fault"
    ACCESS_FLAG = "access flag fault"
    PERMISSION = "permission fault"
    TABLE_OUTSIDE_MEMORY = "table outside memory"
    UNTOLD = "cannot be told"


@dataclass(frozen=True, kw_only=True)
class WalkFailure:
    """An address that stage 1 does not translate, or not for this access."""

    va: int
    fault: Fault
    level: int | None
    """The level of the lookup that failed, or None where it did not come to one."""
    why: str
    steps: tuple[Descriptor, ...] = ()
    """The descriptors that were read, first to last."""
    table_ipa: int | None = None
    """The descriptor that could not be read, for `Fault.TABLE_OUTSIDE_MEMORY`."""

    def __str__(self) -> str:
        at = "" if self.level is None else f" at level {self.level}"
        return f"{self.fault}{at} for {self.va:#x}: {self.why}"


def walk(
    regime: Regime,
    va: int,
    read: Reader,
    *,
    need: Permission = Permission.NONE,
    el0: bool = False,
    pan: bool = False,
) -> Translation | WalkFailure:
    """Translate guest virtual address `va` as the CPU would for an access that needs `need`.

    `el0` asks with EL0's permissions (code at EL0, and LDTR or STTR at EL1), `pan` is PSTATE.PAN.
    With `need` left at `NONE` no permission is checked. `read` is asked for descriptors alone,
    eight bytes at a time.
    """
    va &= DOUBLEWORD
    fetch = Permission.EXECUTE in need
    if not regime.mmu_on:
        return _flat(regime, va, fetch=fetch)
    if why := _forbidden(regime, va, el0=el0):
        return WalkFailure(va=va, fault=Fault.TRANSLATION, level=0, why=why)
    half = regime.half(va)
    if (unknown := _unknown(regime)) or isinstance(half, str):
        return WalkFailure(va=va, fault=Fault.UNTOLD, level=None, why=unknown or str(half))
    if why := _out_of_range(regime, half, va, fetch=fetch):
        return WalkFailure(va=va, fault=Fault.TRANSLATION, level=0, why=why)
    found = _descend(regime, half, va, read)
    if isinstance(found, WalkFailure):
        return found
    allowed = found.permissions.allowing(el0=el0, pan=pan_mask(regime, pan=pan))
    if need in allowed:
        return found
    return WalkFailure(
        va=va,
        fault=Fault.PERMISSION,
        level=found.level,
        why=f"EL{0 if el0 else 1} needs {need} and has {allowed}",
        steps=found.steps,
    )


def _flat(regime: Regime, va: int, *, fetch: bool) -> Translation | WalkFailure:
    """The MMU is off: addresses are IPAs, data is Device memory (``AArch64.S1DisabledOutput``)."""
    width = regime.physical_bits
    address = bits(va, 55, 0) if regime.top_byte_ignored(va, fetch=fetch) else va
    if address >> width:
        why = f"with the MMU off, addresses have {width} bits"
        return WalkFailure(va=va, fault=Fault.ADDRESS_SIZE, level=0, why=why)
    fetched = NORMAL_WT if regime.instruction_cacheable else NORMAL_NC
    return Translation(
        va=va,
        ipa=address,
        memory_type=fetched if fetch else DEVICE_NGNRNE,
        permissions=ALL,
        size=1 << width,
    )


def _unknown(regime: Regime) -> str | None:
    """What the guest switched on that this walk does not know."""
    if regime.wide_descriptors:
        return "TCR2_EL1.D128 is set: 128-bit descriptors are not read"
    if regime.extended_attributes:
        return "TCR2_EL1.AIE is set: MAIR2_EL1 is not read"
    return None


def _forbidden(regime: Regime, va: int, *, el0: bool) -> str | None:
    """Why this half of the address space is not walked at all, if it is not."""
    number = bit(va, 55)
    if regime.walks_disabled(va):
        return f"TCR_EL1.EPD{number} forbids walks from TTBR{number}_EL1"
    if el0 and regime.el0_disabled(va):
        return f"TCR_EL1.E0PD{number} keeps EL0 out of this half"
    return None


def _out_of_range(regime: Regime, half: Half, va: int, *, fetch: bool) -> str | None:
    """Why `va` is no address of its half, if it is not: ``AArch64.VAIsOutOfRange``."""
    top = 55 if regime.top_byte_ignored(va, fetch=fetch) else 63
    extension = bits(va, top, half.input_bits)
    if extension == (bits(DOUBLEWORD, top, half.input_bits) if half.upper else 0):
        return None
    return (
        f"bits {top}:{half.input_bits} differ from bit 55, and TCR_EL1.T{int(half.upper)}SZ gives "
        f"{half.input_bits}-bit addresses"
    )


def _descend(regime: Regime, half: Half, va: int, read: Reader) -> Translation | WalkFailure:
    """Follow the tables from TTBR to a block or page."""
    steps: tuple[Descriptor, ...] = ()
    limits = Limits()
    table = half.table_ipa
    level = 0  # an address in TTBR that is too large is reported at level 0

    def failure(fault: Fault, why: str, missing: int | None = None) -> WalkFailure:
        return WalkFailure(va=va, fault=fault, level=level, why=why, steps=steps, table_ipa=missing)

    def too_wide(address: int) -> WalkFailure | None:
        if not address >> half.output_bits:
            return None
        why = f"{address:#x} does not fit in {half.output_bits} bits"
        return failure(Fault.ADDRESS_SIZE, why)

    if wrong := too_wide(table):
        return wrong
    for level in range(half.start_level, LAST_LEVEL + 1):
        ipa = half.descriptor_ipa(table, va, level)
        raw = read(ipa, DESCRIPTOR_SIZE)
        if raw is None:
            return failure(
                Fault.TABLE_OUTSIDE_MEMORY, f"no memory at {ipa:#x}, where the descriptor is", ipa
            )
        value = int.from_bytes(raw, "big" if regime.big_endian else "little")
        descriptor = Descriptor(level, ipa, value)
        steps += (descriptor,)
        kind = descriptor.kind(half)
        if kind is Kind.INVALID:
            return failure(Fault.TRANSLATION, f"the descriptor at {ipa:#x} is {value:#x}, invalid")
        address = descriptor.address(half, kind)
        if wrong := too_wide(address):
            return wrong
        if kind is Kind.LEAF:
            break
        table = address
        if not half.flat_permissions:
            limits |= descriptor.limits
    if not (descriptor.access_flag or regime.hardware_access_flag):
        return failure(Fault.ACCESS_FLAG, f"the descriptor at {ipa:#x} is {value:#x}, AF clear")
    size = 1 << half.shift(level)
    return Translation(
        va=va,
        ipa=address | (va & (size - 1)),
        memory_type=indexed(regime.mair_el1, descriptor.attribute_index),
        permissions=permissions(regime, descriptor, limits),
        size=size,
        steps=steps,
    )
