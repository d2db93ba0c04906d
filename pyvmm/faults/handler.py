# SPDX-License-Identifier: GPL-2.0-only
"""The fault handler of one vCPU: examine each fault, decide, apply the remedy, record it."""

import errno
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pyvmm.errors import PyvmmError
from pyvmm.faults import poison
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.examine import UNKNOWN, examine
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
from pyvmm.memory.peek import peek
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


class Faults:
    """The faults of a machine's vCPUs.

    Attributes:
        policy: the function that chooses a remedy.
        records: the first `KEPT` faults, in order.
        counts: the number of faults by cause.
        recorder: records the kernel's own path to each fault, or None.
        repeated: the accesses that failed and were repeated, because the memory was changed
            meanwhile: another vCPU had the same fault, for example.
    """

    def __init__(self, policy: Policy = auto) -> None:
        """Start with no faults recorded."""
        self.policy = policy
        self.recorder: Recorder | None = None
        self.records: list[FaultRecord] = []
        self.counts: Counter[str] = Counter()
        self.repeated = 0


class FaultHandler:
    """Handles the exits of one vCPU that are faults, one vCPU at a time.

    Attributes:
        last: the latest fault, or None.
    """

    def __init__(self, context: VcpuContext, faults: Faults) -> None:
        """Handle the faults of `context`; `faults` is shared by the machine's vCPUs."""
        self._context = context
        self._faults = faults
        self._guard = Guard()
        self.last: FaultRecord | None = None
        self._changes = 0  # `Vm.changes` when this vCPU last handled a fault

    def handlers(self) -> Mapping[type[Exit], Callable[[Any], bool]]:
        """Return the handlers of fault exits for `pyvmm.machine.run_loop.run`.

        `Mmio` is a fault only if no device responds, so the caller handles it (`unless`).
        """
        kinds: tuple[type[Exit], ...] = (MemoryFault, RunFailure, ArmNisv, ArmLdst64b, ArmSea)
        return {**dict.fromkeys(kinds, self.handle), Interrupted: self.interrupted}

    def handle(self, exit: Exit | Poisoned) -> bool:
        """Handle a fault; return True if the guest continues."""
        with self._context.vm.lock:
            record = self._handle(exit)
        return record is None or record.outcome == "resolved"

    def _handle(self, exit: Exit | Poisoned) -> FaultRecord | None:
        """Handle a fault; return its record, or None if another vCPU has fixed it already."""
        faults, vm = self._faults, self._context.vm
        changed, self._changes = vm.changes != self._changes, vm.changes
        # Repeating the access costs an exit; examining it costs a hundred times as much.
        if changed and len(vm.vcpus) > 1 and _is_bare_efault(exit):
            faults.repeated += 1
            return None
        path = faults.recorder.last_run() if faults.recorder else None
        fault = examine(exit, self._context)
        if changed and (fault.cause == UNKNOWN or _replaced_since(exit)):
            faults.repeated += 1
            return None
        faults.counts[fault.cause] += 1
        attempt = self._guard.attempt(fault.report.pc, (fault.report.gpa, fault.cause), self._state)
        if attempt > 1 and faults.records and faults.records[-1] is self.last:
            faults.records.pop()
        record = self._resolve(fault, attempt)
        self.last = replace(record, path=path) if path else record
        if len(faults.records) < KEPT:
            faults.records.append(self.last)
        if self.last.fix in (Fix.REPLAY, Fix.CONVERT):
            vm.changes += 1
        self._changes = vm.changes
        return self.last

    def unless(self, answer: Callable[[Mmio], bool]) -> Callable[[Mmio], bool]:
        """Return a handler of MMIO exits that handles as a fault what `answer` does not handle."""

        def handle(exit: Mmio) -> bool:
            if answer(exit):
                return True
            with self._context.vm.lock:
                record = self._handle(exit)
                if record and record.outcome != "resolved":
                    return False
                # An injected abort cancels the MMIO exit. Otherwise KVM still waits for the data,
                # even if the memory is accessible now: it has already started to emulate the
                # instruction.
                injected = record is not None and record.fix is Fix.INJECT
                return injected or answer(exit) or self._answer_from_memory(exit)

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
        wanted = self._faults.policy(fault)
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


def _is_bare_efault(exit: Exit | Poisoned) -> bool:
    return isinstance(exit, RunFailure) and exit.errno == errno.EFAULT


def _replaced_since(exit: Exit | Poisoned) -> bool:
    """Return True if the guest accessed poisoned memory and the page is accessible now."""
    return isinstance(exit, Poisoned) and exit.consumed and peek(exit.hva, 1) is not None


def _refusal(fault: Fault, wanted: Fix) -> str:
    possible = ", ".join(remedy.fix for remedy in fault.remedies) or "nothing else"
    if wanted is Fix.STOP:
        return f"the policy says stop; possible: {possible}"
    return f"the policy says {wanted}, which this fault does not offer; possible: {possible}"
