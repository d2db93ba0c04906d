# SPDX-License-Identifier: GPL-2.0-only
"""The CPU features that matter to guest memory, from a vCPU's identification registers."""

from collections.abc import Callable
from dataclasses import dataclass

from pyvmm.arch.arm64.bits import bits
from pyvmm.arch.arm64.regime import physical_bits
from pyvmm.why.facts import missing_features


@dataclass(frozen=True)
class CpuFeatures:
    """The features for memory attributes and address sizes.

    Attributes:
        fwb: stage 2 can force Write-Back, so that a guest cannot map cacheable memory uncached
            and bypass the host's cache (``FEAT_S2FWB``).
        dic: instruction fetches see written data without instruction cache invalidation.
        idc: instruction fetches see written data without data cache cleaning.
        pa_bits: the physical address width, in bits.
        granules: the stage-1 page sizes, in bytes, in ascending order.
    """

    fwb: bool
    dic: bool
    idc: bool
    pa_bits: int
    granules: tuple[int, ...]

    @classmethod
    def of(cls, read: Callable[[str], int]) -> "CpuFeatures":
        """Decode the features; `read` returns a vCPU's system register by name."""
        mmfr0, mmfr2 = read("ID_AA64MMFR0_EL1"), read("ID_AA64MMFR2_EL1")
        cache = read("CTR_EL0")
        supported = {
            4 << 10: bits(mmfr0, 31, 28) != 0b1111,  # TGran4
            16 << 10: bits(mmfr0, 23, 20) != 0b0000,  # TGran16
            64 << 10: bits(mmfr0, 27, 24) != 0b1111,  # TGran64
        }
        return cls(
            fwb=bits(mmfr2, 43, 40) != 0,
            dic=bits(cache, 29, 29) == 1,
            idc=bits(cache, 28, 28) == 1,
            pa_bits=physical_bits(mmfr0),
            granules=tuple(size for size, is_supported in supported.items() if is_supported),
        )

    def why_no_cacheable_pfnmap(self) -> str | None:
        """Return why KVM cannot map cacheable PFNMAP on this CPU, or None if it can."""
        return missing_features(fwb=self.fwb, dic=self.dic)
