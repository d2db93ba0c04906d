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


_LATE = "an emulated CPU misses the default margin of 100 us"
_SLOW = "the default takes minutes where each instruction is emulated"

PLANS = {
    "access_tracking_perf_test": Plan(("-b", "16M"), _SLOW),
    "arch_timer": Plan(
        ("-e", "10000"), "an emulated CPU misses the default error margin of 100 us"
    ),
    "demand_paging_test": Plan(("-b", "16M"), _SLOW),
    "dirty_log_perf_test": Plan(("-b", "16M"), _SLOW),
    "dirty_log_test": Plan(("-i", "2"), _SLOW),
    "kvm_page_table_test": Plan(("-b", "16M"), _SLOW),
    "memslot_modification_stress_test": Plan(("-b", "16M", "-i", "50"), _SLOW),
}


def plan(name: str) -> Plan:
    """Return the plan of a test; by default it runs without arguments."""
    return PLANS.get(name, Plan())
