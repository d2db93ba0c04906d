# SPDX-License-Identifier: GPL-2.0-only
"""Run provocations one after the other, each on its own virtual machine."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pyvmm.errors import SkippedError
from pyvmm.faults import Fault, FaultRecord
from pyvmm.faults.poison import Poisoned
from pyvmm.kvm.exits import MemoryFault, RunFailure
from pyvmm.kvm.memslots import MemslotError
from pyvmm.kvm.system import System
from pyvmm.passthrough import SlotOutcome
from pyvmm.provenance import KernelPath, Recorder
from pyvmm.provoke import (
    bar_faults,
    instruction_faults,
    memory_faults,
    pfnmap_ram,
    protected_guest,
    registrations,
    vcpu_states,
)
from pyvmm.provoke.agreement import disagreements
from pyvmm.provoke.testbed import Failure, Provocation, Testbed
from pyvmm.uapi.kvm import KVM_RUN, KVM_SET_USER_MEMORY_REGION
from pyvmm.uapi.names import names
from pyvmm.why import Mark

PROVOCATIONS = (
    *memory_faults.PROVOCATIONS,
    *instruction_faults.PROVOCATIONS,
    *bar_faults.PROVOCATIONS,
    *pfnmap_ram.PROVOCATIONS,
    *protected_guest.PROVOCATIONS,
    *registrations.PROVOCATIONS,
    *vcpu_states.PROVOCATIONS,
)


@dataclass(frozen=True)
class ProvocationResult:
    """The result of a provocation.

    Attributes:
        provocation: the provocation.
        record: the fault and its fix, or None if there was no fault.
        rejected: the memslot over a BAR that KVM rejected, or None.
        failure: another ioctl that KVM failed, or None.
        guest: what the guest noticed.
        skipped: why it cannot run on this machine, or None.
        path: the kernel's own path to the failure, if it was recorded.
        disagreements: the points in which that path and the cause disagree.
    """

    provocation: Provocation
    record: FaultRecord | None = None
    rejected: SlotOutcome | None = None
    failure: Failure | None = None
    guest: str = ""
    skipped: str | None = None
    path: KernelPath | None = None
    disagreements: tuple[str, ...] = ()

    @property
    def as_expected(self) -> bool:
        """Return True if the cause is the expected one, or no cause is and KVM did not fail.

        A provocation that is skipped, or that this kernel or CPU resolves (`resolved_by`), is as
        expected too.
        """
        if self.skipped or (self.named is None and self.provocation.resolved_by):
            return True
        return self.cause == self.provocation.cause

    @property
    def named(self) -> Fault | SlotOutcome | Failure | None:
        """Return what KVM failed, with its cause and mark, or None."""
        return self.record.fault if self.record else self.rejected or self.failure

    @property
    def cause(self) -> str | None:
        """Return the cause that pyvmm found, "unknown", or None if KVM did not fail."""
        return self.named.cause if self.named else None

    @property
    def mark(self) -> Mark | None:
        """Return how sure the cause is, or None if there is none, or it is "unknown"."""
        return self.named.mark if self.named else None

    @property
    def kernel(self) -> str:
        """Return the exit or errno from the kernel, as tables and JSON print it."""
        if self.rejected:
            return f"{self.rejected.errno} at registration"
        if self.failure:
            at = "" if self.failure.ioctl == KVM_RUN.name else " at registration"
            return f"{self.failure.errno}{at}"
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


def provoke(
    provocations: Iterable[Provocation], recorder: Recorder | None = None
) -> Iterator[ProvocationResult]:
    """Run the provocations and yield their results, with the kernel's path if `recorder` has it."""
    with System.open() as system:
        for provocation in provocations:
            if recorder is None:
                yield _provoke(system, provocation, None)
            else:
                recorder.clear()
                yield _judged(_provoke(system, provocation, recorder), recorder)


def _provoke(
    system: System, provocation: Provocation, recorder: Recorder | None
) -> ProvocationResult:
    with ExitStack() as stack:
        testbed = Testbed(system, stack, recorder)
        try:
            provocation.provoke(testbed)
        except SkippedError as error:
            return ProvocationResult(provocation, skipped=str(error))
        except MemslotError as error:
            testbed.failure = Failure.of_memslot(error)
        records = testbed.machine.faults.records
        record = records[0] if records else None
        return ProvocationResult(
            provocation, record, testbed.rejected, testbed.failure, testbed.guest
        )


def _judged(result: ProvocationResult, recorder: Recorder) -> ProvocationResult:
    """Add the kernel's path, and the points in which it disagrees with the cause."""
    if result.cause is None:
        return result
    report = None
    if result.record:
        path, report = result.record.path, result.record.fault.report
    elif result.failure:
        path = recorder.first(result.failure.ioctl, result.failure.errno)
    else:
        assert result.rejected is not None
        path = recorder.first(KVM_SET_USER_MEMORY_REGION.name, result.rejected.errno or "")
    found = disagreements(result.cause, path, report, recorder.left_out)
    return replace(result, path=path, disagreements=tuple(found))
