# SPDX-License-Identifier: GPL-2.0-only
"""What this CPU can do for a VMM's memory, out of a vCPU's identification registers."""

from collections.abc import Callable
from dataclasses import dataclass

from pyvmm.arch.arm64.bits import bits
from pyvmm.arch.arm64.regime import physical_bits


@dataclass(frozen=True)
class Features:
    """What matters to memory attributes and address sizes.

    Attributes:
        fwb: stage-2 can force Write-Back, so that a guest can't make cacheable memory
            uncached and see past the host's cache (``FEAT_S2FWB``).
        dic: instruction fetches see data written, with no instruction cache maintenance.
        idc: instruction fetches see data written, with no data cache cleaning.
        pa_bits: width of a physical address, in bits.
        granules: sizes of a stage-1 page, in bytes, smallest first.
    """

    fwb: bool
    dic: bool
    idc: bool
    pa_bits: int
    granules: tuple[int, ...]

    @classmethod
    def of(cls, read: Callable[[str], int]) -> "Features":
        """Decode them; `read` gives a system register of a vCPU by name."""
        mmfr0, mmfr2 = read("ID_AA64MMFR0_EL1"), read("ID_AA64MMFR2_EL1")
        cache = read("CTR_EL0")
        present = {
            4 << 10: bits(mmfr0, 31, 28) != 0b1111,  # TGran4
            16 << 10: bits(mmfr0, 23, 20) != 0b0000,  # TGran16
            64 << 10: bits(mmfr0, 27, 24) != 0b1111,  # TGran64
        }
        return cls(
            fwb=bits(mmfr2, 43, 40) != 0,
            dic=bits(cache, 29, 29) == 1,
            idc=bits(cache, 28, 28) == 1,
            pa_bits=physical_bits(mmfr0),
            granules=tuple(size for size, there in present.items() if there),
        )

    def why_no_cacheable_pfnmap(self) -> str | None:
        """Why KVM can't map a device's cacheable memory as such, or None where the CPU allows it.

        Without FWB the hypervisor would have to clean the cache behind the guest's back, and
        without DIC invalidate the instruction cache, and for both it needs a kernel mapping,
        which PFNMAP memory has not got (kvm_supports_cacheable_pfnmap in arch/arm64/kvm/mmu.c).
        """
        missing = [
            text
            for there, text in (
                (self.fwb, "FWB (ID_AA64MMFR2_EL1.FWB, bits 43:40, is 0)"),
                (self.dic, "DIC (CTR_EL0.DIC, bit 29, is 0)"),
            )
            if not there
        ]
        if not missing:
            return None
        return f"this CPU has no {' and no '.join(missing)}; KVM needs both"
