# SPDX-License-Identifier: GPL-2.0-only
"""Run provocations one after the other, each on its own virtual machine."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from pyvmm.errors import SkippedError
from pyvmm.faults import FaultRecord
from pyvmm.faults.poison import Poisoned
from pyvmm.kvm.exits import MemoryFault, RunFailure
from pyvmm.kvm.system import System
from pyvmm.passthrough import SlotOutcome
from pyvmm.provoke import bar_faults, instruction_faults, memory_faults
from pyvmm.provoke.testbed import Provocation, Testbed
from pyvmm.uapi.names import names

PROVOCATIONS = (
    *memory_faults.PROVOCATIONS,
    *instruction_faults.PROVOCATIONS,
    *bar_faults.PROVOCATIONS,
)


@dataclass(frozen=True)
class ProvocationResult:
    """The result of a provocation.

    Attributes:
        provocation: the provocation.
        record: the fault and its fix, or None if there was no fault.
        rejected: the memslot that KVM rejected, or None.
        guest: what the guest noticed.
        skipped: why it cannot run on this machine, or None.
    """

    provocation: Provocation
    record: FaultRecord | None = None
    rejected: SlotOutcome | None = None
    guest: str = ""
    skipped: str | None = None

    @property
    def as_expected(self) -> bool:
        """Return True if there was no fault, or one of the expected cause."""
        named = self.record.fault if self.record else self.rejected
        return named is None or named.cause == self.provocation.cause

    @property
    def kernel(self) -> str:
        """Return the exit or errno from the kernel, as tables and JSON print it."""
        if self.rejected:
            return f"{self.rejected.errno} at registration"
        if self.record is None:
            return "no fault"
        report = self.record.fault.report
        match report.exit:
            case RunFailure():
                return f"bare {report.errno}"
            case Poisoned():
                return "SIGBUS"
            case MemoryFault() if report.errno:
                return f"KVM_EXIT_MEMORY_FAULT, {report.errno}"
            case exit:
                return names("KVM_EXIT_")[exit.reason]


def provoke(provocations: Iterable[Provocation]) -> Iterator[ProvocationResult]:
    """Run the provocations and yield their results."""
    with System.open() as system:
        for provocation in provocations:
            yield _provoke(system, provocation)


def _provoke(system: System, provocation: Provocation) -> ProvocationResult:
    with ExitStack() as stack:
        testbed = Testbed(system, stack)
        try:
            provocation.provoke(testbed)
        except SkippedError as error:
            return ProvocationResult(provocation, skipped=str(error))
        records = testbed.machine.faults.records
        record = records[0] if records else None
        return ProvocationResult(provocation, record, testbed.rejected, testbed.guest)
