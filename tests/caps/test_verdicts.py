# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts for every combination of CPU features and kernel answers."""

import pytest

from pyvmm.arch.arm64.cpu_features import CpuFeatures
from pyvmm.caps.verdicts import Verdict, verdicts_for
from pyvmm.kvm.capabilities import Capability, CheckResult
from pyvmm.uapi.names import names

CACHEABLE = "KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED"
UNKNOWN = CheckResult(0, None)  # a kernel's answer on /dev/kvm to an unknown number
VM_ONLY = CheckResult(None, "EINVAL")


def features(*, fwb: bool, dic: bool) -> CpuFeatures:
    return CpuFeatures(fwb=fwb, dic=dic, idc=True, pa_bits=48, granules=(4096,))


def verdict(
    name: str, features: CpuFeatures | None, **answers: tuple[CheckResult, CheckResult]
) -> Verdict:
    """Return a verdict; `answers` are (system, VM) by capability, and 0 for the others."""
    capabilities = {
        cap: Capability(cap, number, *answers.get(cap, (UNKNOWN, CheckResult(0, None))))
        for number, cap in names("KVM_CAP_").items()
    }
    [found] = [verdict for verdict in verdicts_for(capabilities, features) if verdict.name == name]
    return found


@pytest.mark.parametrize(
    ("fwb", "dic", "system", "vm", "supported", "why"),
    [
        (True, True, VM_ONLY, 1, True, "the CPU has both FWB and DIC"),
        (True, True, VM_ONLY, 0, False, "but KVM answers 0"),
        (True, True, UNKNOWN, 0, False, "this kernel is too old"),
        (True, False, VM_ONLY, 0, False, "no DIC"),
        (True, False, UNKNOWN, 0, False, "no DIC"),
        (False, True, VM_ONLY, 0, False, "no FWB"),
        (False, True, UNKNOWN, 0, False, "no FWB"),
        (False, False, VM_ONLY, 0, False, "no FWB"),
        (False, False, UNKNOWN, 0, False, "no DIC"),
    ],
)
def test_cacheable_pfnmap(
    fwb: bool, dic: bool, system: CheckResult, vm: int, supported: bool, why: str
) -> None:
    cpu = features(fwb=fwb, dic=dic)
    found = verdict("cacheable-pfnmap", cpu, **{CACHEABLE: (system, CheckResult(vm, None))})
    assert found.supported == supported
    assert why in found.why


def test_only_the_missing_feature_is_named() -> None:
    no_fwb = verdict("cacheable-pfnmap", features(fwb=False, dic=True)).why
    no_dic = verdict("cacheable-pfnmap", features(fwb=True, dic=False)).why
    assert "no DIC" not in no_fwb
    assert "no FWB" not in no_dic


def test_cacheable_pfnmap_applies_to_arm64_only() -> None:
    found = verdict("cacheable-pfnmap", None)
    assert not found.supported
    assert found.why.startswith("does not apply")


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("memory-fault-info", "KVM_CAP_MEMORY_FAULT_INFO"),
        ("user-memory-2", "KVM_CAP_USER_MEMORY2"),
        ("guest-memfd", "KVM_CAP_GUEST_MEMFD"),
        ("nisv-to-user", "KVM_CAP_ARM_NISV_TO_USER"),
        ("sea-to-user", "KVM_CAP_ARM_SEA_TO_USER"),
    ],
)
@pytest.mark.parametrize("value", [0, 1])
def test_offered(name: str, capability: str, value: int) -> None:
    answer = CheckResult(value, None)
    found = verdict(name, features(fwb=True, dic=True), **{capability: (answer, answer)})
    assert found.supported == bool(value)
    assert found.why.startswith(f"{capability} is {value}: ")


@pytest.mark.parametrize("name", ["nisv-to-user", "sea-to-user"])
def test_arm64_only(name: str) -> None:
    found = verdict(name, None)
    assert not found.supported
    assert "only arm64" in found.why


def test_each_reason_is_one_line() -> None:
    for cpu in (None, features(fwb=False, dic=False)):
        capabilities = {
            cap: Capability(cap, number, UNKNOWN, UNKNOWN)
            for number, cap in names("KVM_CAP_").items()
        }
        for found in verdicts_for(capabilities, cpu):
            assert found.why
            assert "\n" not in found.why


def test_memory_fault_info_of_x86_covers_private_memory_only() -> None:
    answer = CheckResult(1, None)
    found = verdict("memory-fault-info", None, KVM_CAP_MEMORY_FAULT_INFO=(answer, answer))
    assert found.supported
    assert "only for private memory and guest_memfd" in found.why
    assert "bare EFAULT" in found.why


def test_memory_fault_info_of_arm64_covers_every_memslot() -> None:
    answer = CheckResult(1, None)
    cpu = features(fwb=True, dic=True)
    found = verdict("memory-fault-info", cpu, KVM_CAP_MEMORY_FAULT_INFO=(answer, answer))
    assert "only for" not in found.why
