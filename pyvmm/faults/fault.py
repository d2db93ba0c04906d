# SPDX-License-Identifier: GPL-2.0-only
"""A fault as a policy sees it: the report, the cause, and what can be done."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from pyvmm.faults.report import FaultReport


class Fix(StrEnum):
    """The kinds of remedy."""

    REPLAY = "replay"
    """Mend what is behind the address, and let the guest's instruction run again."""
    EMULATE = "emulate"
    """Answer the access in the VMM, this one and those to come."""
    CONVERT = "convert"
    """Make the memory private, or shared, as the guest wants it; then run again."""
    INJECT = "inject"
    """Give the guest an external abort."""
    STOP = "stop"
    """End the run."""


@dataclass(frozen=True)
class Remedy:
    """One thing that can be done.

    Attributes:
        how: what it does, in a sentence.
        faithful: the guest can't tell that anything was ever wrong.
        apply: do it. Raises `OSError` where the kernel refuses.
    """

    fix: Fix
    how: str
    faithful: bool
    apply: Callable[[], None]


class Fault:
    """A fault with its cause and what can be done: what a policy decides on.

    Attributes:
        report: what was accessed.
        cause, why: a name to script against, and a sentence.
        region: what the guest touched: ``BAR4``, ``RAM``; None where there is nothing.
    """

    def __init__(
        self,
        report: FaultReport,
        cause: str,
        why: str,
        region: str | None,
        remedies: Iterable[Remedy],
    ) -> None:
        self.report = report
        self.cause = cause
        self.why = why
        self.region = region
        self._found: list[Remedy] = []
        self._more = iter(remedies)

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """At most one of a kind; stopping is always possible and not among them."""
        self._found += self._more
        return tuple(self._found)

    def remedy(self, wanted: Fix) -> Remedy | None:
        """The remedy of a kind, where it is possible. Those before it alone are looked into."""
        for remedy in self._found:
            if remedy.fix is wanted:
                return remedy
        for remedy in self._more:
            self._found.append(remedy)
            if remedy.fix is wanted:
                return remedy
        return None

    def settle(self) -> None:
        """Find out all there is to know, before the vCPU runs on."""
        _ = self.remedies, self.report.detail
