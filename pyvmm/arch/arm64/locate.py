# SPDX-License-Identifier: GPL-2.0-only
"""Where in guest physical memory an access goes, page by page."""

from dataclasses import dataclass

from pyvmm.arch.arm64.a64.access import Access, Kind
from pyvmm.arch.arm64.bits import bit, bits
from pyvmm.arch.arm64.permissions import Permission
from pyvmm.arch.arm64.regime import Regime
from pyvmm.arch.arm64.walk import Reader, Translation, WalkFailure, walk

# No granule has smaller pages, so within one of these addresses stay next to each other.
SMALLEST_PAGE = 4096

# Maintenance is let through: what it may do depends on its name and on SCTLR_EL1.UCI, and the
# guest's own permissions are not what a stage-2 fault is about.
_NEEDS = {
    Kind.READ: Permission.READ,
    Kind.WRITE: Permission.WRITE,
    Kind.FETCH: Permission.EXECUTE,
    Kind.MAINTENANCE: Permission.NONE,
}


@dataclass(frozen=True)
class Located:
    """The part of an access within one page, and what stage 1 makes of it."""

    access: Access
    found: Translation | WalkFailure


def locate(access: Access, regime: Regime, pstate: int, read: Reader) -> list[Located]:
    """Translate each 4 KiB page that `access` touches, lowest address first.

    The exception level and PSTATE.PAN and UAO are taken from `pstate`. An access is located with
    the permissions that it needs, so a `WalkFailure` tells what the guest would have been told.
    """
    el0 = _checked_as_el0(access, pstate)
    pan = bool(bit(pstate, 22))
    return [
        Located(part, walk(regime, part.va, read, need=_NEEDS[part.kind], el0=el0, pan=pan))
        for part in access.pages(SMALLEST_PAGE)
    ]


def _checked_as_el0(access: Access, pstate: int) -> bool:
    """Code at EL0; or LDTR and STTR, unless PSTATE.UAO makes them ordinary."""
    if bits(pstate, 3, 2) == 0:
        return True
    return access.unprivileged and not bit(pstate, 23)
