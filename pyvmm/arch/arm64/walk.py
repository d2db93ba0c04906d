# SPDX-License-Identifier: GPL-2.0-only
"""The stage-1 walk: translate a GVA to an IPA by the guest's own page tables.

This repeats the CPU's walk by reading guest memory: DDI 0487, D8.2 and ``AArch64.S1Walk``. It
covers the EL1&0 regime with 64-bit descriptors. For any register and table contents it returns a
`WalkOutput` or a `WalkFailure` after at most five descriptors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from pyvmm.arch.arm64.bits import DOUBLEWORD, bit, bits
from pyvmm.arch.arm64.descriptor import Descriptor, DescriptorKind, TableLimits
from pyvmm.arch.arm64.permissions import ALL, Permission, Permissions, permissions
from pyvmm.arch.arm64.regime import DESCRIPTOR_SIZE, LAST_LEVEL, Half, Regime
from pyvmm.memory_types import DEVICE_NGNRNE, NORMAL_NC, NORMAL_WT, stage1_type

Reader: TypeAlias = Callable[[int, int], bytes | None]
"""``read(ipa, size)``: read `size` bytes of guest memory, or None if they are unreadable."""


@dataclass(frozen=True, kw_only=True)
class WalkOutput:
    """The output address of a walk, with its attributes.

    Attributes:
        va: the GVA.
        ipa: the IPA that it translates to.
        memory_type: the Arm ARM's name, such as ``Device-nGnRE`` or ``Normal-WB``.
        permissions: the permissions of EL1 and EL0.
        size: bytes in the block or page around `va`; with the MMU off, in the address space.
        steps: the descriptors, first to last; empty with the MMU off.
    """

    va: int
    ipa: int
    memory_type: str
    permissions: Permissions
    size: int
    steps: tuple[Descriptor, ...] = ()

    @property
    def level(self) -> int | None:
        """Return the level of the block or page descriptor (-1 to 3), or None (MMU off)."""
        return self.steps[-1].level if self.steps else None


class Stage1Fault(StrEnum):
    """The reason why a walk has no output. The CPU reports the first four to the guest."""

    TRANSLATION = "translation fault"
    ADDRESS_SIZE = "address size fault"
    ACCESS_FLAG = "access flag fault"
    PERMISSION = "permission fault"
    TABLE_OUTSIDE_MEMORY = "table outside memory"
    UNSUPPORTED = "unsupported configuration"


@dataclass(frozen=True, kw_only=True)
class WalkFailure:
    """A walk without an output address, or without the permission that the access needs.

    Attributes:
        va: the GVA.
        fault: the reason.
        level: the level of the failing lookup, or None if there was no lookup.
        why: the reason in detail.
        steps: the descriptors that were read, first to last.
        table_ipa: for `Stage1Fault.TABLE_OUTSIDE_MEMORY`, the IPA of the unreadable descriptor.
    """

    va: int
    fault: Stage1Fault
    level: int | None
    why: str
    steps: tuple[Descriptor, ...] = ()
    table_ipa: int | None = None

    def __str__(self) -> str:
        """Return one line with the fault, level, GVA and reason."""
        at = "" if self.level is None else f" at level {self.level}"
        return f"{self.fault}{at} for {self.va:#x}: {self.why}"


def walk(
    regime: Regime,
    va: int,
    read: Reader,
    *,
    need: Permission = Permission.NONE,
    el0: bool = False,
) -> WalkOutput | WalkFailure:
    """Translate the GVA `va` as the CPU does for an access that needs the permissions `need`.

    `need` of `NONE` checks no permission. `el0` applies EL0's permissions. PSTATE.PAN, which only
    restricts EL1's data accesses, is ignored. `read` is called for descriptors only, eight bytes
    each.
    """
    va &= DOUBLEWORD
    fetch = Permission.EXECUTE in need
    if not regime.mmu_on:
        return _mmu_off(regime, va, fetch=fetch)
    if why := _disabled_half(regime, va, el0=el0):
        return WalkFailure(va=va, fault=Stage1Fault.TRANSLATION, level=0, why=why)
    half = regime.half(va)
    if (why := _unsupported(regime)) or isinstance(half, str):
        why = why or str(half)
        return WalkFailure(va=va, fault=Stage1Fault.UNSUPPORTED, level=None, why=why)
    if why := _out_of_range(regime, half, va, fetch=fetch):
        return WalkFailure(va=va, fault=Stage1Fault.TRANSLATION, level=0, why=why)
    found = _walk_tables(regime, half, va, read)
    if isinstance(found, WalkFailure):
        return found
    allowed = found.permissions.el0 if el0 else found.permissions.el1
    if need in allowed:
        return found
    return WalkFailure(
        va=va,
        fault=Stage1Fault.PERMISSION,
        level=found.level,
        why=f"EL{0 if el0 else 1} needs {need} and has {allowed}",
        steps=found.steps,
    )


def _mmu_off(regime: Regime, va: int, *, fetch: bool) -> WalkOutput | WalkFailure:
    """Return the GVA as the IPA, as Device memory for data (``AArch64.S1DisabledOutput``)."""
    width = regime.physical_bits
    address = bits(va, 55, 0) if regime.top_byte_ignored(va, fetch=fetch) else va
    if address >> width:
        why = f"with the MMU off, addresses have {width} bits"
        return WalkFailure(va=va, fault=Stage1Fault.ADDRESS_SIZE, level=0, why=why)
    fetch_type = NORMAL_WT if regime.instruction_cacheable else NORMAL_NC
    return WalkOutput(
        va=va,
        ipa=address,
        memory_type=fetch_type if fetch else DEVICE_NGNRNE,
        permissions=ALL,
        size=1 << width,
    )


def _unsupported(regime: Regime) -> str | None:
    """Return the enabled extension that this walk does not implement, or None."""
    if regime.wide_descriptors:
        return "TCR2_EL1.D128 is set: 128-bit descriptors are not read"
    if regime.extended_attributes:
        return "TCR2_EL1.AIE is set: MAIR2_EL1 is not read"
    return None


def _disabled_half(regime: Regime, va: int, *, el0: bool) -> str | None:
    """Return why this half of the address space is not walked, or None."""
    number = bit(va, 55)
    if regime.walks_disabled(va):
        return f"TCR_EL1.EPD{number} forbids walks from TTBR{number}_EL1"
    if el0 and regime.el0_disabled(va):
        return f"TCR_EL1.E0PD{number} keeps EL0 out of this half"
    return None


def _out_of_range(regime: Regime, half: Half, va: int, *, fetch: bool) -> str | None:
    """Return why `va` is outside its half (``AArch64.VAIsOutOfRange``), or None."""
    top = 55 if regime.top_byte_ignored(va, fetch=fetch) else 63
    extension = bits(va, top, half.input_bits)
    if extension == (bits(DOUBLEWORD, top, half.input_bits) if half.upper else 0):
        return None
    return (
        f"bits {top}:{half.input_bits} differ from bit 55, and TCR_EL1.T{int(half.upper)}SZ gives "
        f"{half.input_bits}-bit addresses"
    )


def _walk_tables(regime: Regime, half: Half, va: int, read: Reader) -> WalkOutput | WalkFailure:
    """Walk the tables from TTBR to a block or page."""
    steps: tuple[Descriptor, ...] = ()
    limits = TableLimits()
    table = half.table_ipa
    level = 0  # the CPU reports an oversized address in TTBR at level 0

    def failure(fault: Stage1Fault, why: str, missing: int | None = None) -> WalkFailure:
        return WalkFailure(va=va, fault=fault, level=level, why=why, steps=steps, table_ipa=missing)

    def too_wide(address: int) -> WalkFailure | None:
        if not address >> half.output_bits:
            return None
        why = f"{address:#x} does not fit in {half.output_bits} bits"
        return failure(Stage1Fault.ADDRESS_SIZE, why)

    if wrong := too_wide(table):
        return wrong
    for level in range(half.start_level, LAST_LEVEL + 1):
        ipa = half.descriptor_ipa(table, va, level)
        raw = read(ipa, DESCRIPTOR_SIZE)
        if raw is None:
            why = f"the descriptor at {ipa:#x} is not in readable memory"
            return failure(Stage1Fault.TABLE_OUTSIDE_MEMORY, why, ipa)
        value = int.from_bytes(raw, "big" if regime.big_endian else "little")
        descriptor = Descriptor(level, ipa, value)
        steps += (descriptor,)
        kind = descriptor.kind(half)
        if kind is DescriptorKind.INVALID:
            why = f"the descriptor at {ipa:#x} is {value:#x}, invalid"
            return failure(Stage1Fault.TRANSLATION, why)
        address = descriptor.address(half, kind)
        if wrong := too_wide(address):
            return wrong
        if kind is DescriptorKind.LEAF:
            break
        table = address
        if not half.flat_permissions:
            limits |= descriptor.limits
    if not (descriptor.access_flag or regime.hardware_access_flag):
        why = f"the descriptor at {ipa:#x} is {value:#x}, AF clear"
        return failure(Stage1Fault.ACCESS_FLAG, why)
    size = 1 << half.shift(level)
    return WalkOutput(
        va=va,
        ipa=address | (va & (size - 1)),
        memory_type=stage1_type(regime.mair_attribute(descriptor.attribute_index)),
        permissions=permissions(regime, descriptor, limits),
        size=size,
        steps=steps,
    )
