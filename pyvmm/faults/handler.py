# SPDX-License-Identifier: GPL-2.0-only
"""Faults of one machine: each examined, decided on, mended, and put on record."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyvmm.faults import poison
from pyvmm.faults.board import Board, GuestMemory
from pyvmm.faults.cause import Case
from pyvmm.faults.fault import Fault, Fix
from pyvmm.faults.guard import ATTEMPTS, Guard
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.policy import Policy, auto
from pyvmm.faults.remedies import examine
from pyvmm.faults.report import report_of
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

# What makes KVM hand more faults to user space, where it is offered.
_SYNDROMES = (KVM_CAP_ARM_NISV_TO_USER, KVM_CAP_ARM_SEA_TO_USER)

KEPT = 256  # records; the rest is only counted


@dataclass(frozen=True)
class FaultRecord:
    """A fault, and what became of it.

    Attributes:
        fix: what was done last.
        how: the same in a sentence, or why nothing was done.
        attempts: how often it was fixed; more than once where it came back.
    """

    fault: Fault
    fix: Fix
    how: str
    outcome: Literal["resolved", "stopped"]
    attempts: int = 1


def ask_for_syndromes(vm: Vm) -> None:
    """Switch on every exit that tells user space more of a fault than none would."""
    for capability in _SYNDROMES:
        if vm.check(capability):
            vm.enable(capability)


class FaultHandler:
    """Answers the exits that are faults.

    Attributes:
        policy: who decides.
        records: the first `KEPT` faults, in order.
        last: the latest.
        counts: all of them, by cause.
    """

    def __init__(self, board: Board, policy: Policy = auto) -> None:
        self.policy = policy
        self.records: list[FaultRecord] = []
        self.last: FaultRecord | None = None
        self.counts: Counter[str] = Counter()
        self._board = board
        self._guard = Guard()

    def handlers(self) -> Mapping[type[Exit], Callable[[Any], bool]]:
        """Who answers which exit, as `pyvmm.machine.run_loop.run` wants it.

        `Mmio` is a fault only where no device answers, so that is left to the caller.
        """
        kinds: tuple[type[Exit], ...] = (MemoryFault, RunFailure, ArmNisv, ArmLdst64b, ArmSea)
        return {**dict.fromkeys(kinds, self.answer), Interrupted: self.interrupted}

    def answer(self, exit: Exit | Poisoned) -> bool:
        """Deal with a fault; True where the guest goes on."""
        fault = examine(Case(report_of(exit, self._board), self._board))
        self.counts[fault.cause] += 1
        pc = self._board.arch.read(self._board.vcpu, self._board.arch.PC)
        attempt = self._guard.attempt(pc, (fault.report.gpa, fault.cause), self._state)
        if attempt > 1 and self.records and self.records[-1] is self.last:
            self.records.pop()
        if kept := len(self.records) < KEPT:
            fault.settle()
        self.last = self._decided(fault, attempt)
        if kept:
            self.records.append(self.last)
        return self.last.outcome == "resolved"

    def unless(self, answer: Callable[[Mmio], bool]) -> Callable[[Mmio], bool]:
        """A handler of MMIO exits that leaves to `answer` what it can answer."""

        def handle(exit: Mmio) -> bool:
            if answer(exit):
                return True
            if not self.answer(exit) or self.last is None:
                return False
            # After an injected abort KVM waits for no answer any more. Else it still does, even
            # where the memory is back: it has taken the instruction on itself.
            return self.last.fix is Fix.INJECT or answer(exit) or self._from_memory(exit)

        return handle

    def _from_memory(self, exit: Mmio) -> bool:
        memory = GuestMemory(self._board)
        if exit.write:
            return memory.write(exit.gpa, exit.value.to_bytes(exit.size, "little"))
        data = memory.read(exit.gpa, exit.size)
        if data is not None:
            self._board.vcpu.answer(data)
        return data is not None

    def interrupted(self, exit: Interrupted) -> bool:
        """A signal came: poisoned memory, or else the guest goes on unless it shall stop."""
        if poisoned := poison.taken():
            return self.answer(poisoned)
        return not self._board.vcpu.stopping

    def _decided(self, fault: Fault, attempt: int) -> FaultRecord:
        wanted = self.policy(fault)
        remedy = fault.remedy(wanted)
        if attempt > ATTEMPTS:
            how = f"the same access failed again after {ATTEMPTS} fixes, with no progress between"
            return FaultRecord(fault, Fix.STOP, how, "stopped", ATTEMPTS)
        if remedy is None:
            return FaultRecord(fault, Fix.STOP, _refusal(fault, wanted), "stopped", attempt)
        try:
            remedy.apply()
        except (OSError, ValueError) as error:
            how = f"{remedy.fix} failed: {error}"
            return FaultRecord(fault, Fix.STOP, how, "stopped", attempt)
        return FaultRecord(fault, remedy.fix, remedy.how, "resolved", attempt)

    def _state(self) -> Hashable:
        return self._board.arch.fingerprint(self._board.vcpu)


def _refusal(fault: Fault, wanted: Fix) -> str:
    possible = ", ".join(remedy.fix for remedy in fault.remedies) or "nothing else"
    if wanted is Fix.STOP:
        return f"the policy says stop; possible: {possible}"
    return f"the policy says {wanted}, which this fault does not offer; possible: {possible}"
