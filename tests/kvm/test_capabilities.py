# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.kvm import System, Vm
from pyvmm.kvm.capabilities import Capability, CheckResult, check_all
from pyvmm.uapi.names import names


def test_every_capability_that_the_headers_name_is_asked(kvm: System, vm: Vm) -> None:
    asked = check_all(kvm, vm)
    assert {c.number: c.name for c in asked} == names("KVM_CAP_")
    for capability in asked:
        for answer in (capability.system, capability.vm):
            assert answer is not None
            assert (answer.value is None) != (answer.errno is None)


def test_without_a_vm_its_answers_are_missing(kvm: System) -> None:
    assert {capability.vm for capability in check_all(kvm, None)} == {None}


def test_the_answers_are_the_fds_own(kvm: System, vm: Vm) -> None:
    by_name = {capability.name: capability for capability in check_all(kvm, vm)}
    assert by_name["KVM_CAP_USER_MEMORY"].system == CheckResult(1, None)
    assert by_name["KVM_CAP_NR_MEMSLOTS"].vm == CheckResult(vm.memslots.limit(), None)


@pytest.mark.needs_arch("aarch64")
def test_one_that_is_a_vms_only(kvm: System, vm: Vm) -> None:
    by_name = {capability.name: capability for capability in check_all(kvm, vm)}
    cacheable = by_name["KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED"]
    assert cacheable.system == CheckResult(None, "EINVAL")
    assert cacheable.vm is not None
    assert cacheable.vm.value in (0, 1)


@pytest.mark.parametrize(
    ("system", "vm", "value"),
    [
        (CheckResult(1, None), CheckResult(2, None), 2),
        (CheckResult(1, None), CheckResult(0, None), 0),
        (CheckResult(None, "EINVAL"), CheckResult(1, None), 1),
        (CheckResult(None, "EINVAL"), CheckResult(None, "EINVAL"), 0),
        (CheckResult(1, None), None, 1),
        (CheckResult(None, "EINVAL"), None, 0),
    ],
    ids=lambda value: value.errno or str(value.value) if isinstance(value, CheckResult) else None,
)
def test_the_vms_answer_counts(system: CheckResult, vm: CheckResult | None, value: int) -> None:
    assert Capability("KVM_CAP_X", 1, system, vm).value == value
