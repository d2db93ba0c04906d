# SPDX-License-Identifier: GPL-2.0-only
"""The width of guest physical addresses on x86."""

import re
from pathlib import Path

_TWO_DIMENSIONAL_PAGING = (
    Path("/sys/module/kvm_intel/parameters/ept"),
    Path("/sys/module/kvm_amd/parameters/npt"),
)
_SHADOW_PAGING_BITS = 52
_ADDRESS_SIZES = re.compile(r"^address sizes\s*: (\d+) bits physical", re.MULTILINE)


def gpa_bits() -> int:
    """Return the number of GPA bits that memslots may use (kvm_mmu_max_gfn, arch/x86/kvm/mmu.h).

    With EPT or NPT it is the host's physical address width (boot_cpu_data.x86_phys_bits). With
    shadow paging the page table format limits it to 52 bits.
    """
    if not any(
        path.exists() and path.read_text().strip() in "1Y" for path in _TWO_DIMENSIONAL_PAGING
    ):
        return _SHADOW_PAGING_BITS
    found = _ADDRESS_SIZES.search(Path("/proc/cpuinfo").read_text())
    return int(found[1]) if found else _SHADOW_PAGING_BITS
