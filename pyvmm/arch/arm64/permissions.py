# SPDX-License-Identifier: GPL-2.0-only
"""The stage-1 permissions of EL1 and EL0: direct and indirect (DDI 0487, D8.4)."""

from dataclasses import dataclass
from enum import Flag

from pyvmm.arch.arm64.bits import bit, bits
from pyvmm.arch.arm64.descriptor import Descriptor, TableLimits
from pyvmm.arch.arm64.regime import Regime


class Permission(Flag):
    """A set of permissions: read, write, execute."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXECUTE = 4

    def __str__(self) -> str:
        """Return the set as in ``ls -l``, such as ``r-x``."""
        return "".join(
            letter if one in self else "-" for letter, one in zip("rwx", Permission, strict=True)
        )


_R, _W, _X = Permission.READ, Permission.WRITE, Permission.EXECUTE
_NONE, _ALL = Permission.NONE, Permission.READ | Permission.WRITE | Permission.EXECUTE

# The permissions of each nibble of PIR_EL1 or PIRE0_EL1, 0 to 15; reserved values grant nothing.
# 0b0110 is RWX with "write implies never execute" built in; 0b1001 is a guarded control stack,
# which ordinary loads may read. Overlays (FEAT_S1POE), which only remove permissions, are ignored.
_INDIRECT = (
    *(_NONE, _R, _X, _R | _X, _NONE, _R | _W, _R | _W, _ALL),
    *(_R, _R, _R | _X, _NONE, _R | _W, _NONE, _ALL, _NONE),
)


@dataclass(frozen=True)
class Permissions:
    """The permissions of EL1 and EL0 for a page, without the effect of PSTATE.PAN."""

    el1: Permission
    el0: Permission


ALL = Permissions(el1=_ALL, el0=_ALL)


def permissions(regime: Regime, leaf: Descriptor, limits: TableLimits) -> Permissions:
    """Return the permissions of a block or page descriptor below tables with these `limits`."""
    if regime.indirect_permissions:
        granted = _indirect(regime, leaf)
    else:
        granted = _direct(regime, leaf, limits)
    if regime.write_implies_never_execute:
        granted = Permissions(
            el1=_write_xor_execute(granted.el1), el0=_write_xor_execute(granted.el0)
        )
    return granted


def _direct(regime: Regime, leaf: Descriptor, limits: TableLimits) -> Permissions:
    """Decode AP[2:1], PXN and UXN (``AArch64.S1DirectBasePermissions``)."""
    # With hardware dirty state, writing to a clean page (DBM and AP[2] set) does not fault.
    clean = regime.hardware_dirty_state and bit(leaf.value, 51)
    read_only = (bit(leaf.value, 7) and not clean) or limits.read_only
    el0_data = bit(leaf.value, 6) and not limits.no_el0
    data = _R if read_only else _R | _W
    el1, el0 = data, data if el0_data else _NONE
    # EL1 never executes what EL0 can write.
    if not (bit(leaf.value, 53) or limits.pxn or _W in el0):
        el1 |= _X
    if not (bit(leaf.value, 54) or limits.uxn):
        el0 |= _X
    return Permissions(el1, el0)


def _indirect(regime: Regime, leaf: Descriptor) -> Permissions:
    """Look up PIIndex in PIR_EL1 and PIRE0_EL1 (``AArch64.S1IndirectBasePermissions``)."""
    value = leaf.value
    index = bits(value, 54, 53) << 2 | bit(value, 51) << 1 | bit(value, 6)
    el1, el0 = (
        _INDIRECT[bits(register, index * 4 + 3, index * 4)]
        for register in (regime.pir_el1, regime.pire0_el1)
    )
    if bit(value, 7) and not regime.hardware_dirty_state:  # nDirty
        el1, el0 = el1 & ~_W, el0 & ~_W
    return Permissions(el1, el0)


def _write_xor_execute(permission: Permission) -> Permission:
    return permission & ~_X if _W in permission else permission
