# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.arch.arm64 import registers, setup
from pyvmm.arch.arm64.cpu_features import CpuFeatures
from pyvmm.kvm import System, Vcpu, Vm


def features(*, mmfr0: int = 0x5, mmfr2: int = 0, ctr: int = 0) -> CpuFeatures:
    values = {"ID_AA64MMFR0_EL1": mmfr0, "ID_AA64MMFR2_EL1": mmfr2, "CTR_EL0": ctr}
    return CpuFeatures.of(values.__getitem__)


FWB, DIC, IDC = 1 << 40, 1 << 29, 1 << 28


@pytest.mark.parametrize(
    ("mmfr2", "ctr", "expect"),
    [
        (FWB, DIC, None),
        (FWB, 0, "this CPU has no DIC (CTR_EL0.DIC, bit 29, is 0); KVM needs both"),
        (0, DIC | IDC, "this CPU has no FWB (ID_AA64MMFR2_EL1.FWB, bits 43:40, is 0); "
                       "KVM needs both"),
        (0, IDC, "this CPU has no FWB (ID_AA64MMFR2_EL1.FWB, bits 43:40, is 0) and "
                 "no DIC (CTR_EL0.DIC, bit 29, is 0); KVM needs both"),
    ],
    ids=["both", "no DIC", "no FWB", "neither"],
)  # fmt: skip
def test_missing_features_for_cacheable_pfnmap(mmfr2: int, ctr: int, expect: str | None) -> None:
    assert features(mmfr2=mmfr2, ctr=ctr).why_no_cacheable_pfnmap() == expect


def test_idc_is_not_dic() -> None:
    assert (features(ctr=IDC).idc, features(ctr=IDC).dic) == (True, False)


@pytest.mark.parametrize(("field", "width"), [(0, 32), (2, 40), (5, 48), (6, 52)])
def test_physical_address_width(field: int, width: int) -> None:
    assert features(mmfr0=field).pa_bits == width


def test_a_reserved_physical_address_size_counts_as_the_largest() -> None:
    assert features(mmfr0=0xF).pa_bits == 56


@pytest.mark.parametrize(
    ("mmfr0", "granules"),
    [
        (0x0000_0000, (4096, 65536)),  # 0 means supported, except for 16 KiB
        (0x0010_0000, (4096, 16384, 65536)),
        (0xFF00_0000, ()),
        (0x1000_0000, (4096, 65536)),  # 1: with 52-bit addresses
    ],
)
def test_granules(mmfr0: int, granules: tuple[int, ...]) -> None:
    assert features(mmfr0=mmfr0).granules == granules


@pytest.mark.needs_arch("aarch64")
def test_features_of_a_vcpu(kvm: System, vm: Vm, vcpu: Vcpu) -> None:
    setup.prepare(kvm, vm, vcpu)
    found = CpuFeatures.of(lambda name: registers.read(vcpu, name))
    assert 4096 in found.granules
    assert found.pa_bits >= 32
