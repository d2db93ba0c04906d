# SPDX-License-Identifier: GPL-2.0-only
"""How the kernel's selftests run under emulation: reduced arguments, exclusions, what they need."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How a test runs in the lab.

    Attributes:
        arguments: its arguments.
        reduced: why they are not the default ones, or "".
        excluded: why it does not run, or "".
        note: why it passes on no row of the matrix, verified, or "".
    """

    arguments: tuple[str, ...] = ()
    reduced: str = ""
    excluded: str = ""
    note: str = ""


_LATE = "interrupts come late where the CPU is emulated"
_SLOW = "the default takes minutes where each instruction is emulated"

PLANS = {
    "access_tracking_perf_test": Plan(
        # -w 1 only warns, as the test does by default in a VM.
        ("-b", "16M", "-w", "1"),
        f"{_SLOW}; QEMU's TLB keeps more pages than a CPU's, so they stay idle",
    ),
    "arch_timer": Plan(("-n", "1", "-e", "300000"), _LATE),
    "arm64/sea_to_user": Plan(
        excluded="it needs ACPI's error injection (EINJ), and QEMU's machine has none"
    ),
    "demand_paging_test": Plan(("-b", "16M"), _SLOW),
    "dirty_log_perf_test": Plan(("-b", "16M"), _SLOW),
    "dirty_log_test": Plan(("-i", "2"), _SLOW),
    "kvm_page_table_test": Plan(("-b", "16M"), _SLOW),
    "memslot_modification_stress_test": Plan(("-b", "16M", "-i", "50"), _SLOW),
    "mmu_stress_test": Plan(("-m", "2", "-s", "1"), _SLOW),
    "vfio_pci_driver_test": Plan(
        note="init_remove reaches the limit of kselftest_harness.h, 30 s, and keeps the IOMMU group"
    ),
    "rseq_test": Plan(("-u",), "few KVM_RUN succeed where the CPU is emulated"),
}


def plan(name: str) -> Plan:
    """Return the plan of a test; by default it runs without arguments."""
    return PLANS.get(name, Plan())
