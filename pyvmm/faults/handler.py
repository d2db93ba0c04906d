# SPDX-License-Identifier: GPL-2.0-only
"""The fault handler of one machine: examine each fault, decide, apply the remedy, record it."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pyvmm.errors import PyvmmError
from pyvmm.faults import poison
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.examine import examine
from pyvmm.faults.fault import Fault, Fix
from pyvmm.faults.guard import ATTEMPTS, Guard
from pyvmm.faults.guest_memory import GuestMemory
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.policy import Policy, auto
from pyvmm.kvm.exits import (
    ArmLdst64b,
    ArmNisv,
    ArmSea,
    Exit,
    Interrupted,
    MemoryFault,
    Mmio,
    RunFailure,
)
from pyvmm.kvm.vm import Vm
from pyvmm.uapi.kvm import KVM_CAP_ARM_NISV_TO_USER, KVM_CAP_ARM_SEA_TO_USER

if TYPE_CHECKING:
    from pyvmm.provenance import KernelPath, Recorder

_REPORTING = (KVM_CAP_ARM_NISV_TO_USER, KVM_CAP_ARM_SEA_TO_USER)

KEPT = 256  # records; later faults are only counted


@dataclass(frozen=True)
class FaultRecord:
    """A fault and its outcome.

    Attributes:
        fix: the last remedy applied.
        how: what it did, or why nothing was done, in a sentence.
        attempts: the number of times it was fixed; more than one if the fault came back.
        path: the kernel's own path to it, if it was recorded.
    """

    fault: Fault
    fix: Fix
    how: str
    outcome: Literal["resolved", "stopped"]
    attempts: int = 1
    path: "KernelPath | None" = None


def enable_fault_reporting(vm: Vm) -> None:
    """Enable the capabilities that make KVM report more faults to user space."""
    for capability in _REPORTING:
        if vm.check(capability):
            vm.enable(capability)


class FaultHandler:
    """Handles the exits of one vCPU that are faults.

    Attributes:
        policy: the function that chooses a remedy.
        records: the first `KEPT` faults, in order.
        last: the latest fault.
        counts: the number of faults by cause.
        recorder: records the kernel's own path to each fault, or None.
    """

    def __init__(self, context: VcpuContext, policy: Policy = auto) -> None:
        """Start with no faults recorded."""
        self.policy = policy
        self.recorder: Recorder | None = None
        self.records: list[FaultRecord] = []
        self.last: FaultRecord | None = None
        self.counts: Counter[str] = Counter()
        self._context = context
        self._guard = Guard()

    def handlers(self) -> Mapping[type[Exit], Callable[[Any], bool]]:
        """Return the handlers of fault exits for `pyvmm.machine.run_loop.run`.

        `Mmio` is a fault only if no device responds, so the caller handles it (`unless`).
        """
        kinds: tuple[type[Exit], ...] = (MemoryFault, RunFailure, ArmNisv, ArmLdst64b, ArmSea)
        return {**dict.fromkeys(kinds, self.handle), Interrupted: self.interrupted}

    def handle(self, exit: Exit | Poisoned) -> bool:
        """Handle a fault; return True if the guest continues."""
        path = self.recorder.last_run() if self.recorder else None
        fault = examine(exit, self._context)
        self.counts[fault.cause] += 1
        attempt = self._guard.attempt(fault.report.pc, (fault.report.gpa, fault.cause), self._state)
        if attempt > 1 and self.records and self.records[-1] is self.last:
            self.records.pop()
        self.last = replace(self._resolve(fault, attempt), path=path)
        if len(self.records) < KEPT:
            self.records.append(self.last)
        return self.last.outcome == "resolved"

    def unless(self, answer: Callable[[Mmio], bool]) -> Callable[[Mmio], bool]:
        """Return a handler of MMIO exits that handles as a fault what `answer` does not handle."""

        def handle(exit: Mmio) -> bool:
            if answer(exit):
                return True
            if not self.handle(exit) or self.last is None:
                return False
            # An injected abort cancels the MMIO exit. Otherwise KVM still waits for the data, even
            # if the memory is accessible now: it has already started to emulate the instruction.
            return self.last.fix is Fix.INJECT or answer(exit) or self._answer_from_memory(exit)

        return handle

    def _answer_from_memory(self, exit: Mmio) -> bool:
        memory = GuestMemory(self._context)
        if exit.write:
            return memory.write(exit.gpa, exit.value.to_bytes(exit.size, "little"))
        data = memory.read(exit.gpa, exit.size)
        if data is not None:
            self._context.vcpu.answer(data)
        return data is not None

    def interrupted(self, exit: Interrupted) -> bool:
        """Handle a signal: poisoned memory is a fault; else continue unless asked to stop."""
        if poisoned := poison.pending():
            return self.handle(poisoned)
        return not self._context.vcpu.stopping

    def _resolve(self, fault: Fault, attempt: int) -> FaultRecord:
        wanted = self.policy(fault)
        remedy = fault.remedy(wanted)
        if attempt > ATTEMPTS:
            how = f"the same access failed again after {ATTEMPTS} fixes, with no progress between"
            return FaultRecord(fault, Fix.STOP, how, "stopped", ATTEMPTS)
        if remedy is None:
            return FaultRecord(fault, Fix.STOP, _refusal(fault, wanted), "stopped", attempt)
        try:
            remedy.apply()
        except (ValueError, PyvmmError) as error:
            why = str(error)
        except OSError as error:
            why = error.strerror or str(error)  # str() alone begins with "[Errno 17]"
        else:
            return FaultRecord(fault, remedy.fix, remedy.how, "resolved", attempt)
        how = f"{remedy.fix} failed: {why}"
        return FaultRecord(fault, Fix.STOP, how, "stopped", attempt)

    def _state(self) -> Hashable:
        return self._context.arch.fingerprint(self._context.vcpu)


def _refusal(fault: Fault, wanted: Fix) -> str:
    possible = ", ".join(remedy.fix for remedy in fault.remedies) or "nothing else"
    if wanted is Fix.STOP:
        return f"the policy says stop; possible: {possible}"
    return f"the policy says {wanted}, which this fault does not offer; possible: {possible}"
