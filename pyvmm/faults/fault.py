# SPDX-License-Identifier: GPL-2.0-only
"""A fault as a policy sees it: the report, the cause, the remedies."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pyvmm.faults.report import FaultReport
from pyvmm.why import Mark


class Fix(StrEnum):
    """The kinds of remedy."""

    REPLAY = "replay"
    """Repair the memory behind the address; the guest runs the instruction again."""
    EMULATE = "emulate"
    """Emulate this access, and the next ones to the same memory, in the VMM."""
    CONVERT = "convert"
    """Make the memory private or shared, as the guest accesses it, and replay."""
    INJECT = "inject"
    """Inject an external abort into the guest."""
    STOP = "stop"
    """End the run."""


@dataclass(frozen=True)
class Remedy:
    """One way to handle a fault.

    Attributes:
        fix: its kind.
        how: what it does, as a sentence in the past tense for the report.
        faithful: the guest cannot notice that anything was wrong.
        apply: carry it out. Raises `OSError` if the kernel refuses.
    """

    fix: Fix
    how: str
    faithful: bool
    apply: Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """A fault with its cause and its remedies, on which a policy decides.

    Attributes:
        report: the access.
        cause: the name of the condition in `pyvmm.why.kvm_run`, or "unknown".
        why: the cause in one sentence.
        region: what the guest accessed, such as ``BAR4`` or ``RAM``; None if no memslot or
            device is at the GPA.
        remedies: at most one of each kind, the preferred one first. Stopping is always possible
            and not among them.
        mark: how sure the cause is, or None if it is "unknown".
    """

    report: FaultReport
    cause: str
    why: str
    region: str | None
    remedies: tuple[Remedy, ...]
    mark: Mark | None = None

    def remedy(self, wanted: Fix) -> Remedy | None:
        """Return the remedy of one kind, or None if the fault does not have it."""
        return next((remedy for remedy in self.remedies if remedy.fix is wanted), None)
