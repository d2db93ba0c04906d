# SPDX-License-Identifier: GPL-2.0-only
"""Every provocation on a real kernel: the exit, the cause that pyvmm finds, the fix."""

import functools
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm.kvm import System, Vm
from pyvmm.provoke import registrations, vcpu_states
from pyvmm.provoke.runner import PROVOCATIONS, ProvocationResult, provoke
from pyvmm.provoke.testbed import Provocation
from pyvmm.provoke.testbed import Testbed as Bed

BARE = "bare EFAULT"
EXTERNAL_ABORT = "took an exception (syndrome 0x96000010)"
FAULT_EXIT = "KVM_EXIT_MEMORY_FAULT, EFAULT"

# On arm64: the exit or errno, the source of the address, the fix, what the guest noticed.
FAULTS = {
    "anonymous-unmapped": (BARE, "reconstructed", "replay", "read 0x0"),
    "file-unmapped": (BARE, "reconstructed", "replay", "read 0x746e6f63"),
    "no-access": (BARE, "reconstructed", "replay", "read 0x0"),
    "read-only": (BARE, "reconstructed", "replay", "wrote"),
    "guarded": (BARE, "reconstructed", "replay", "read 0x0"),
    "userfault": (BARE, "reconstructed", "replay", "read 0x0"),
    "userfault-user-mode": (BARE, "reconstructed", "replay", "read 0x0"),
    "userfault-wp": (BARE, "reconstructed", "inject", EXTERNAL_ABORT),
    "userfault-poison": ("SIGBUS", "kernel", "replay", "read 0x0"),
    "tmpfs-full": (BARE, "reconstructed", "inject", EXTERNAL_ABORT),
    "hugetlb-empty": (BARE, "reconstructed", "inject", EXTERNAL_ABORT),
    "cgroup-full-page": (BARE, "reconstructed", "replay", "read 0x0"),
    "replaced-by-secret-memory": (BARE, "reconstructed", "replay", "read 0x0"),
    "replaced-by-untagged-memory": (BARE, "reconstructed", "replay", "read 0x0"),
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
    "table-accessed": (BARE, "reconstructed", "replay", "went on"),
    "table-dirtied": (BARE, "reconstructed", "replay", "went on"),
    "cacheable-flipped": (BARE, "reconstructed", "replay", "read 0x0"),
    "memory-off": (BARE, "reconstructed", "emulate", "read 0xffffffff"),
    "d3hot": (BARE, "reconstructed", "emulate", "read 0xffffffff"),
    "private-pfnmap": (BARE, "reconstructed", "replay", "wrote"),
    "unaligned": (BARE, "reconstructed", "emulate", "went on"),
    "protected-bar": ("bare EINVAL", "reconstructed", "emulate", "read 0x0"),
}
# The same for PFNMAP RAM, on a kernel whose drm-shmem has pfn_mkwrite.
READ_ONLY_PTES = {
    "drm-shmem": (BARE, "reconstructed", "replay", "wrote"),
    "drm-shmem-unaligned": (BARE, "reconstructed", "replay", "went on"),
    "drm-shmem-read": (BARE, "reconstructed", "replay", "wrote"),
    "drm-shmem-huge-unaligned": (BARE, "reconstructed", "replay", "wrote"),
}
# Memslots that KVM rejects on a CPU without FWB and DIC.
CACHEABLE_RAM = ("udmabuf", "dma-heap")
# vfio rejects the fault, and nothing shows why. pread(2) of the region works again.
NOT_READY = ("low-power", "gpu-reset")
# The errno for a protected guest; no address, no fix.
PROTECTED = {
    "protected-hugetlb": "bare EIO",
    "protected-memlock": "bare ENOMEM",
    "protected-peeked": BARE,
}
# Provocations without a fault, because the kernel resolves the access: what the guest noticed.
RESOLVED = {
    "replaced-by-memory": "read 0x0",
    "guest-memfd-punched": "read 0x0",
    "fetched": "took an exception (syndrome 0x86000010)",  # external abort on a fetch
    "fetched-cacheable": "went on",
    "drm-shmem-written": "wrote",
    "drm-shmem-huge": "wrote",
    "udmabuf-flipped": "wrote",
    "dma-heap-flipped": "wrote",
    "mixedmap": "wrote",
    "protected": "went on",
}
ATOMICS_ON_A_BAR = ("bar-atomic", "bar-exclusive", "bar-compare-and-swap")
BY_NAME = {each.name: each for each in PROVOCATIONS}

on_arm64 = pytest.mark.needs_arch("aarch64")


@functools.cache
def run_provocation(name: str) -> ProvocationResult:
    [result] = provoke([BY_NAME[name]])
    if result.skipped:
        pytest.skip(result.skipped)
    return result


@on_arm64
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_reported_named_and_fixed(name: str) -> None:
    result = run_provocation(name)
    if name == "cacheable-flipped" and result.record is None:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert result.record is not None
    fault, kernel = result.record.fault, result.kernel
    found = (kernel, fault.report.source, result.record.fix, result.guest)
    assert found == FAULTS[name]
    assert (fault.cause, result.record.outcome) == (BY_NAME[name].cause, "resolved")


@on_arm64
@pytest.mark.parametrize("name", READ_ONLY_PTES)
def test_write_through_a_read_only_pte(name: str) -> None:
    result = run_provocation(name)
    if "drm_gem_shmem_pfn_mkwrite" not in Path("/proc/kallsyms").read_text():
        assert result.record is None
        return
    assert result.record is not None
    fault = result.record.fault
    found = (result.kernel, fault.report.source, result.record.fix, result.guest)
    assert found == READ_ONLY_PTES[name]
    assert (fault.cause, result.record.outcome) == ("pfnmap-not-writable", "resolved")


@on_arm64
@pytest.mark.parametrize("name", CACHEABLE_RAM)
def test_cacheable_ram(vm: Vm, name: str) -> None:
    result = run_provocation(name)
    if vm.host.rejects_cacheable_pfnmap:
        found = (result.kernel, result.cause, result.guest)
        assert found == (
            "EINVAL at registration",
            "cacheable-pfnmap-unsupported",
            "did not run",
        )
        assert result.failure
        assert "if it is RAM" in result.failure.why
    else:
        assert (result.kernel, result.cause, result.guest) == ("no fault", None, "wrote")


@on_arm64
def test_kvm_has_no_memory_for_its_own_tables() -> None:
    """The kernel gives no address, and no fix helps before memory is free again."""
    result = run_provocation("cgroup-full")
    assert result.record is not None
    assert (result.kernel, result.record.fix, result.guest) == (
        "bare ENOMEM",
        "stop",
        "was stopped",
    )
    assert result.record.fault.cause == "memory-cgroup-limit"


@on_arm64
@pytest.mark.parametrize("name", NOT_READY)
def test_device_that_is_not_ready(name: str) -> None:
    result = run_provocation(name)
    assert result.record is not None
    fault = result.record.fault
    assert (result.kernel, fault.report.source, result.record.fix) == (
        BARE,
        "reconstructed",
        "emulate",
    )
    assert (fault.cause, result.record.outcome) == ("device-not-ready", "resolved")
    assert result.guest.startswith("read ")


@on_arm64
@pytest.mark.parametrize("name", PROTECTED)
def test_protected_guest(name: str) -> None:
    result = run_provocation(name)
    assert result.record is not None
    found = (result.kernel, result.cause, result.record.fix, result.guest)
    assert found == (PROTECTED[name], BY_NAME[name].cause, "stop", "was stopped")
    assert result.record.fault.report.gpa is None


@on_arm64
def test_secret_memory_is_an_abort_for_the_guest() -> None:
    result = run_provocation("secret-memory")
    assert result.record is not None
    assert (result.kernel, result.cause, result.mark) == (BARE, "secret-memory", "known")
    assert (result.record.fix, result.record.outcome) == ("inject", "resolved")
    assert result.guest == "took an exception (syndrome 0x96000010)"  # external abort


@on_arm64
@pytest.mark.parametrize("name", RESOLVED)
def test_kernel_resolves_the_access(name: str) -> None:
    result = run_provocation(name)
    assert (result.kernel, result.guest) == ("no fault", RESOLVED[name])


@on_arm64
def test_rejected_memslot_is_emulated() -> None:
    result = run_provocation("cacheable-registered")
    if result.rejected is None:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert result.kernel == "EINVAL at registration"
    assert result.rejected.cause == "cacheable-pfnmap-unsupported"
    assert (result.record, result.guest) == (None, "read 0x0")


@on_arm64
def test_device_that_does_not_respond() -> None:
    result = run_provocation("does-not-answer")
    if result.record is None:
        pytest.skip("no abort came to EL2 (QEMU's CPU lacks HCR_EL2.TEA): run it on arm64 hardware")
    assert result.record.fault.cause == "external-abort"


@on_arm64
@pytest.mark.parametrize("name", ATOMICS_ON_A_BAR)
def test_atomic_on_a_bar(name: str) -> None:
    result = run_provocation(name)
    if result.record is None:
        assert result.guest.startswith(("went on", "took an exception"))
        pytest.skip("QEMU's CPU supports it on all memory: run it on arm64 hardware")
    assert result.record.fault.cause == "device-atomic"


@on_arm64
def test_dc_zva_to_a_bar() -> None:
    result = run_provocation("zeroed")
    if result.record is None:
        pytest.skip("QEMU's CPU lets DC ZVA be on Device memory: run it on arm64 hardware")
    assert result.record.fault.cause == "device-unaligned"


def read_memory(testbed: Bed) -> None:
    testbed.add_anonymous()
    testbed.read()


def read_unmapped(testbed: Bed) -> None:
    testbed.map_target()
    testbed.read()


def register_twice(testbed: Bed) -> None:
    testbed.add_anonymous()
    testbed.add_anonymous()


OUTCOMES = {
    "no fault, none expected": (read_memory, None, None, None, True),
    "no fault, but one expected": (read_memory, "hva-unmapped", None, None, False),
    "no fault where some CPUs have none": (read_memory, "hva-unmapped", "a CPU", None, True),
    "expected": (read_unmapped, "outside-memslots", None, "outside-memslots", True),
    "another cause": (read_unmapped, "hva-unmapped", "a CPU", "outside-memslots", False),
    "a fault, none expected": (read_unmapped, None, None, "outside-memslots", False),
    "rejected": (register_twice, "overlap", None, "overlap", True),
    "rejected for another cause": (register_twice, "flags", None, "overlap", False),
    "rejected, nothing expected": (register_twice, None, None, "overlap", False),
}


@pytest.mark.parametrize(
    ("function", "expected", "resolved_by", "cause", "as_expected"),
    OUTCOMES.values(),
    ids=OUTCOMES,
)
def test_as_expected(
    kvm: System,
    function: Callable[[Bed], None],
    expected: str | None,
    resolved_by: str | None,
    cause: str | None,
    as_expected: bool,
) -> None:
    [result] = provoke([Provocation("x", "", expected, function, resolved_by=resolved_by)])
    assert (result.cause, result.as_expected) == (cause, as_expected)
    assert result.mark == ("known" if cause else None)


@pytest.mark.parametrize("name", [name for name, each in BY_NAME.items() if not each.harm])
def test_cause_is_the_expected_one(name: str) -> None:
    assert run_provocation(name).as_expected


def test_every_provocation_is_tested() -> None:
    # examples/kernel tests what crashes the host.
    crashing = {each.name for each in PROVOCATIONS if each.crashes}
    others = {"secret-memory", "does-not-answer", "zeroed", "cacheable-registered", "cgroup-full"}
    others |= {*ATOMICS_ON_A_BAR, *NOT_READY, *CACHEABLE_RAM, *crashing}
    others |= {each.name for each in (*registrations.PROVOCATIONS, *vcpu_states.PROVOCATIONS)}
    assert {*FAULTS, *READ_ONLY_PTES, *PROTECTED, *RESOLVED, *others} == set(BY_NAME)


@pytest.mark.skipif(platform.machine() == "aarch64", reason="for hosts that are not arm64")
def test_skip_reason_of_an_arm64_provocation() -> None:
    [result] = provoke([BY_NAME["pair"]])
    assert result.skipped is not None
    assert "lab run" in result.skipped
