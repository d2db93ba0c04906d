# SPDX-License-Identifier: GPL-2.0-only
"""How far a guest's physical addresses reach."""

import re
from pathlib import Path

_TWO_DIMENSIONAL_PAGING = (
    Path("/sys/module/kvm_intel/parameters/ept"),
    Path("/sys/module/kvm_amd/parameters/npt"),
)
_SHADOW_PAGING_BITS = 52
_ADDRESS_SIZES = re.compile(r"^address sizes\s*: (\d+) bits physical", re.MULTILINE)


def gpa_bits() -> int:
    """The bits of a GPA that a memslot may use (kvm_mmu_max_gfn in arch/x86/kvm/mmu.h).

    With EPT or NPT it is the host's own physical address that limits them, with shadow paging
    the format of a page table.
    """
    if not any(
        path.exists() and path.read_text().strip() in "1Y" for path in _TWO_DIMENSIONAL_PAGING
    ):
        return _SHADOW_PAGING_BITS
    found = _ADDRESS_SIZES.search(Path("/proc/cpuinfo").read_text())
    return int(found[1]) if found else _SHADOW_PAGING_BITS
