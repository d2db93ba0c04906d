# SPDX-License-Identifier: GPL-2.0-only
"""Why something failed in a traced VM, by the same rules that explain pyvmm's own failures."""

import errno as errnos
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pyvmm.errno_names import errno_name
from pyvmm.errors import PyvmmError
from pyvmm.faults.board import Board
from pyvmm.faults.cause import Case, Cause, explain
from pyvmm.faults.report import FaultReport
from pyvmm.kvm import rejection
from pyvmm.kvm.exits import MemoryFault
from pyvmm.kvm.system import System
from pyvmm.kvm.vm import Vm
from pyvmm.memory import PAGE_SIZE
from pyvmm.memory.vma import Vma, vmas
from pyvmm.trace.vms import TracedSlot, TracedSlots, TracedVm

UNKNOWN = "unknown"  # `pyvmm.faults.cause` found nothing wrong


class Asked:
    """A traced VM, as the rules ask about one; what it cannot tell, a VM of our own does.

    KVM answers a VM's ioctls to one process only. A capability's answer is the kernel's and the
    CPU's, so another VM's is as good.
    """

    def __init__(self, vm: TracedVm, own: Vm | None) -> None:
        self._own = own
        self.vm_type = vm.vm_type
        self.enabled = vm.enabled
        self.memslots: TracedSlots = vm.memslots

    def check(self, capability: int) -> int:
        """``KVM_CHECK_EXTENSION``; 0 where we may not have a VM of our own."""
        return self._own.check(capability) if self._own else 0


class Explainer:
    """Holds the VM that is asked about capabilities: made when it is first needed."""

    @cached_property
    def _vm(self) -> Vm | None:
        try:
            with System.open() as system:
                return system.create_vm()
        except PyvmmError:
            return None

    def rejected(self, vm: TracedVm, slot: TracedSlot, errno: int) -> tuple[str, str]:
        """Why KVM rejected a memslot, as (cause, why)."""
        return rejection.explain(Asked(vm, self._vm), slot, errno, vm.pid)

    def fault(self, vm: TracedVm, fault: MemoryFault) -> Cause:
        """Why KVM could not resolve an access that it tells of."""
        board = self._board(vm)
        return explain(
            Case(
                FaultReport(
                    gpa=fault.gpa,
                    size=fault.size,
                    access=None,
                    errno=errno_name(fault.errno) if fault.errno else None,
                    source="kernel",
                    exit=fault,
                ),
                board,
            )
        )

    def bare_fault(self, vm: TracedVm) -> Cause:
        """What could make ``KVM_RUN`` fail with EFAULT and no address.

        The address is the vCPU's to tell, and only its own process may ask it: so the memory
        behind every memslot is looked at, and the first is named that a guest cannot have.
        """
        for gpa in _doubtful(vm):
            cause = self.fault(vm, MemoryFault(0, gpa, PAGE_SIZE, errnos.EFAULT))
            if cause.name != UNKNOWN:
                why = f"the kernel gave no address; a guest access at GPA {gpa:#x} would fail: "
                return Cause(cause.name, why + cause.why)
        why = "the kernel gave no address, and nothing is wrong with the memory behind the memslots"
        return Cause(UNKNOWN, why)

    def close(self) -> None:
        """Close the VM, if there is one."""
        if own := self.__dict__.pop("_vm", None):
            own.close()

    def _board(self, vm: TracedVm) -> Board:
        # The rules ask a VM for its memslots and its capabilities, which `Asked` knows, and a
        # vCPU, an architecture and a bus only where a traced VM is not explained by them.
        parts: Any = (Asked(vm, self._vm), None, None, _NoBus(), vm.pid)
        return Board(*parts)


class _NoBus:
    """Which devices the VMM emulates is not known."""

    def at(self, address: int) -> None:
        return None


def _doubtful(vm: TracedVm) -> Iterator[int]:
    """GPAs whose memory a guest might not get: where a slot's areas end, or are out of the way."""
    for slot in vm.memslots:
        if slot.guest_memfd:
            continue
        try:
            areas = vmas(slot.hva, slot.size, vm.pid)
        except OSError:  # the process is gone
            return
        here = slot.hva
        for area in areas:
            if area.start > here:
                yield slot.gpa + here - slot.hva
            if _out_of_the_way(area, slot):
                yield slot.gpa + max(area.start, slot.hva) - slot.hva
            here = area.end
        if here < slot.hva + slot.size:
            yield slot.gpa + here - slot.hva


def _out_of_the_way(area: Vma, slot: TracedSlot) -> bool:
    needed = "r" if slot.readonly else "rw"
    return area.pfnmap or not all(letter in area.perms for letter in needed)
