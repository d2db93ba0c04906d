# SPDX-License-Identifier: GPL-2.0-only
"""Every cause, provoked on a real kernel: what it gave, what pyvmm made of it, what helped."""

import platform

import pytest

from pyvmm.provoke.runner import PROVOCATIONS, ProvocationResult, provoke

BARE = "bare EFAULT"
FAULT_EXIT = "KVM_EXIT_MEMORY_FAULT, EFAULT"

# On arm64: what the kernel gave, who told the address, the fix, and what the guest noticed.
GIVEN = {
    "anonymous-unmapped": (BARE, "reconstructed", "replay", "read 0x0"),
    "file-unmapped": (BARE, "reconstructed", "replay", "read 0x746e6f63"),
    "no-access": (BARE, "reconstructed", "replay", "read 0x0"),
    "read-only": (BARE, "reconstructed", "replay", "wrote"),
    "replaced-by-secret-memory": (BARE, "reconstructed", "replay", "read 0x0"),
    "truncated": (BARE, "reconstructed", "replay", "read 0x0"),
    "poisoned": ("SIGBUS", "kernel", "replay", "read 0x0"),
    "guest-memfd-closed": (FAULT_EXIT, "kernel", "replay", "read 0x0"),
    "outside": ("KVM_EXIT_MMIO", "kernel", "emulate", "read 0xffffffff"),
    "read-only-slot": ("KVM_EXIT_MMIO", "kernel", "emulate", "wrote"),
    "pair": ("KVM_EXIT_ARM_NISV", "kernel", "emulate", "went on"),
    "writeback": ("KVM_EXIT_ARM_NISV", "kernel", "emulate", "went on"),
    "atomic": ("KVM_EXIT_ARM_NISV", "kernel", "emulate", "went on"),
    "pair-outside": ("KVM_EXIT_ARM_NISV", "kernel", "emulate", "went on"),
    "code-unmapped": (BARE, "reconstructed", "replay", "went on"),
    "table-unmapped": (BARE, "reconstructed", "replay", "went on"),
    "cacheable-flipped": (BARE, "reconstructed", "replay", "read 0x0"),
    "memory-off": (BARE, "reconstructed", "emulate", "read 0xffffffff"),
    "private-pfnmap": (BARE, "reconstructed", "replay", "wrote"),
    "unaligned": (BARE, "reconstructed", "emulate", "went on"),
}
# What this kernel resolves by itself, and what the guest notices.
RESOLVED = {
    "replaced-by-memory": "read 0x0",
    "guest-memfd-punched": "read 0x0",
    "fetched": "took an exception (syndrome 0x86000010)",  # external abort on a fetch
}
BY_NAME = {each.name: each for each in PROVOCATIONS}

on_arm64 = pytest.mark.needs_arch("aarch64")


def done(name: str) -> ProvocationResult:
    [provoked] = provoke([BY_NAME[name]])
    if provoked.skipped:
        pytest.skip(provoked.skipped)
    return provoked


@on_arm64
@pytest.mark.parametrize("name", GIVEN)
def test_a_fault_is_told_named_and_mended(name: str) -> None:
    provoked = done(name)
    if name == "cacheable-flipped" and provoked.record is None:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert provoked.record is not None
    fault, kernel = provoked.record.fault, provoked.kernel
    told = (kernel, fault.report.source, provoked.record.fix, provoked.guest)
    assert told == GIVEN[name]
    assert (fault.cause, provoked.record.outcome) == (BY_NAME[name].cause, "resolved")


@on_arm64
@pytest.mark.parametrize("name", RESOLVED)
def test_no_fault_where_the_kernel_resolves_it_by_itself(name: str) -> None:
    provoked = done(name)
    assert (provoked.kernel, provoked.guest) == ("no fault", RESOLVED[name])


@on_arm64
def test_a_memslot_that_is_rejected_is_emulated() -> None:
    provoked = done("cacheable-registered")
    if provoked.rejected is None:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert provoked.kernel == "EINVAL at registration"
    assert provoked.rejected.cause == "cacheable-pfnmap-unsupported"
    assert (provoked.record, provoked.guest) == (None, "read 0x0")


@on_arm64
def test_a_device_that_does_not_answer() -> None:
    provoked = done("does-not-answer")
    if provoked.record is None:
        pytest.skip("no abort came to EL2 (QEMU's CPU lacks HCR_EL2.TEA): run it on arm64 hardware")
    assert provoked.record.fault.cause == "external-abort"


@on_arm64
def test_a_block_that_is_zeroed() -> None:
    provoked = done("zeroed")
    if provoked.record is None:
        pytest.skip("QEMU's CPU lets DC ZVA be on Device memory: run it on arm64 hardware")
    assert provoked.record.fault.cause == "device-unaligned"


@pytest.mark.parametrize("name", [name for name, each in BY_NAME.items() if not each.harm])
def test_no_cause_is_mistaken_for_another(name: str) -> None:
    assert done(name).as_expected


def test_every_provocation_is_tested() -> None:
    assert {*GIVEN, *RESOLVED, "does-not-answer", "zeroed", "cacheable-registered"} == set(BY_NAME)


@pytest.mark.skipif(platform.machine() == "aarch64", reason="for hosts that are not arm64")
def test_what_needs_an_arm64_guest_says_so() -> None:
    [provoked] = provoke([BY_NAME["pair"]])
    assert provoked.skipped is not None
    assert "lab run" in provoked.skipped
