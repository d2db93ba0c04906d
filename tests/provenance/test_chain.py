# SPDX-License-Identifier: GPL-2.0-only
"""Which of the functions that returned errors made the ioctl fail, and the guest's access."""

from typing import Literal

import pytest

from pyvmm.provenance.chain import GuestFault, KernelPath, Step

# Kernel functions with a probe, and one without.
ABORT, HVA_TO_PFN, GUP, FIXUP = (
    "user_mem_abort",
    "hva_to_pfn",
    "__get_user_pages",
    "fixup_user_fault",
)
UNPROBED = "some_function"


def path(*steps: Step, result: str = "-EFAULT") -> KernelPath:
    return KernelPath(1, "KVM_RUN", result, None, None, None, steps, 0, 0)


@pytest.mark.parametrize(
    ("steps", "causes"),
    [
        # hva_to_pfn succeeded, so what it tried before is no cause.
        ([Step(GUP, "-EFAULT", HVA_TO_PFN), Step(ABORT, "-EFAULT", "x")], [ABORT]),
        # Of two attempts of a function that failed, the last one.
        (
            [
                Step(GUP, "-EFAULT", HVA_TO_PFN),
                Step(FIXUP, "-EFAULT", HVA_TO_PFN),
                Step(HVA_TO_PFN, "KVM_PFN_ERR_FAULT", ABORT),
                Step(ABORT, "-EFAULT", "x"),
            ],
            [ABORT, HVA_TO_PFN, FIXUP],
        ),
        # A read-only PTE is not found by an attempt.
        (
            [Step(GUP, "-EFAULT", HVA_TO_PFN), Step(HVA_TO_PFN, "KVM_PFN_ERR_RO_FAULT", "x")],
            [HVA_TO_PFN],
        ),
        # The caller has no probe: the next function that failed called it.
        ([Step(GUP, "-EFAULT", UNPROBED), Step(ABORT, "-EFAULT", "x")], [ABORT, GUP]),
        ([], []),
    ],
)
def test_causes(steps: list[Step], causes: list[str]) -> None:
    assert [step.function for step in path(*steps).causes] == causes


def test_poisoned_memory_is_the_cause_of_a_signal() -> None:
    poisoned = Step(HVA_TO_PFN, "KVM_PFN_ERR_HWPOISON", ABORT)
    found = path(poisoned, Step("kvm_arch_vcpu_ioctl_run", "-EINTR", "x"), result="-EINTR")
    assert found.causes == (poisoned,)


def test_short_form_has_the_innermost_function_of_each_error() -> None:
    found = path(
        Step(GUP, "-EFAULT", HVA_TO_PFN),
        Step(HVA_TO_PFN, "KVM_PFN_ERR_FAULT", ABORT),
        Step(ABORT, "-EFAULT", "kvm_handle_guest_abort"),
        Step("kvm_handle_guest_abort", "-EFAULT", "x"),
    )
    assert found.short == (
        "user_mem_abort -EFAULT ← hva_to_pfn KVM_PFN_ERR_FAULT ← __get_user_pages -EFAULT"
    )


@pytest.mark.parametrize(
    ("esr", "access", "gpa"),
    [
        (0x93C08007, "read", 0x8123),
        (0x93C08047, "write", 0x8123),  # WnR
        (0x82000007, "exec", 0x8123),
        (0x93C080C7, "read", 0x8000),  # S1PTW: FAR is the address being translated
        (0x93C0808F, "write", 0x8000),  # S1PTW, permission fault
    ],
)
def test_guest_fault(esr: int, access: Literal["read", "write", "exec"], gpa: int) -> None:
    fault = GuestFault(ipa=0x8000, esr=esr, far=0x40123, pc=0)
    assert (fault.access, fault.gpa) == (access, gpa)


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        ("-EFAULT", True),
        ("-EINTR", False),
        ("-EAGAIN", False),
        ("KVM_EXIT_MMIO", False),
        ("KVM_EXIT_ARM_NISV", True),
    ],
)
def test_failed(result: str, failed: bool) -> None:
    assert path(result=result).failed is failed
