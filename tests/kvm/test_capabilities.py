# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.kvm import System, Vm
from pyvmm.kvm.capabilities import Capability, CheckResult, check_all
from pyvmm.uapi.names import names


def test_every_capability_in_the_headers_is_checked(kvm: System, vm: Vm) -> None:
    capabilities = check_all(kvm, vm)
    assert {c.number: c.name for c in capabilities} == names("KVM_CAP_")
    for capability in capabilities:
        for result in (capability.system, capability.vm):
            assert result is not None
            assert (result.value is None) != (result.errno is None)


def test_vm_result_is_none_without_a_vm(kvm: System) -> None:
    assert {capability.vm for capability in check_all(kvm, None)} == {None}


def test_results_per_fd(kvm: System, vm: Vm) -> None:
    by_name = {capability.name: capability for capability in check_all(kvm, vm)}
    assert by_name["KVM_CAP_USER_MEMORY"].system == CheckResult(1, None)
    assert by_name["KVM_CAP_NR_MEMSLOTS"].vm == CheckResult(vm.memslots.limit(), None)


@pytest.mark.needs_arch("aarch64")
def test_capability_of_the_vm_fd_only(kvm: System, vm: Vm) -> None:
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
def test_value_is_the_vm_fds(system: CheckResult, vm: CheckResult | None, value: int) -> None:
    assert Capability("KVM_CAP_X", 1, system, vm).value == value
