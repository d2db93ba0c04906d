# SPDX-License-Identifier: GPL-2.0-only
"""One provocation's stage: a machine, memory that will be broken, and a guest that touches it."""

import io
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TypeVar

from pyvmm.arch.page_tables import MemoryType, identity
from pyvmm.errors import SkippedError
from pyvmm.faults import Fault, Fix
from pyvmm.guest import probe, snippet
from pyvmm.guest.payload import Payload
from pyvmm.kvm.exits import Halt, SystemEvent
from pyvmm.kvm.system import System
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, Mapping, round_up
from pyvmm.passthrough import AssignedDevice, SlotOutcome
from pyvmm.passthrough.assigned import PlacedBar
from pyvmm.vfio.sysfs import PciFunction, list_functions

WHERE = 1 << 32  # GPA of the memory that is broken
SIZE = 4 * PAGE_SIZE
CONTENT = b"content!"  # of memory that is made of a file

_T = TypeVar("_T")


@dataclass(frozen=True)
class Provocation:
    """One way to a fault.

    Attributes:
        name: what to call it.
        how: what is done, in a sentence.
        cause: what pyvmm should call the fault; None where the kernel is known to resolve it.
        act: does it.
        harm: what it does to the host, if anything; then it is done only where asked for.
    """

    name: str
    how: str
    cause: str | None
    act: "Callable[[Testbed], None]"
    harm: str | None = None


def first_offered(fault: Fault) -> Fix:
    """The policy here: whatever helps, however much it costs the guest."""
    return fault.remedies[0].fix if fault.remedies else Fix.STOP


def function_of(driver: str) -> PciFunction:
    """The first PCI function that a driver has. Raises `SkippedError` without one."""
    for function in list_functions():
        if function.driver == driver:
            return function
    raise SkippedError(f"needs a device that {driver} has: in the lab, --device bochs or grace")


class Testbed:
    """A machine of its own for each provocation.

    Attributes:
        guest: how it ended for the guest, in a few words.
        rejected: a memslot that KVM would not take.
    """

    def __init__(self, system: System, stack: ExitStack) -> None:
        self._system = system
        self._stack = stack
        self.machine = self.keep(Machine(system, console=io.BytesIO()))
        self.machine.faults.policy = first_offered
        self.guest = "did not run"
        self.rejected: SlotOutcome | None = None

    def keep(self, resource: AbstractContextManager[_T]) -> _T:
        """Let something end with the testbed."""
        return self._stack.enter_context(resource)

    def own(self, fd: int) -> None:
        """Let a file descriptor be closed with the testbed."""
        self.finally_do(lambda: os.close(fd))

    def finally_do(self, undo: Callable[[], object]) -> None:
        """Do this when the testbed ends, before what was done earlier is undone."""
        self._stack.callback(undo)

    def anonymous(self) -> int:
        """Show anonymous memory; returns its HVA."""
        memory = self._reserved(SIZE)
        memory.place_anonymous(at=PAGE_SIZE, size=SIZE)
        return self._shown(memory, SIZE)

    def file(self, size: int = SIZE) -> tuple[int, int]:
        """Show memory made of a file with `CONTENT` at its start: its HVA, and its descriptor."""
        fd = os.memfd_create("pyvmm-guest-memory")
        self.own(fd)
        os.ftruncate(fd, size)
        os.pwrite(fd, CONTENT, 0)
        memory = self._reserved(size)
        memory.place(fd, 0, at=PAGE_SIZE, size=size)
        return self._shown(memory, size), fd

    def _reserved(self, size: int) -> Mapping:
        """A range with a page on either side that nothing is ever placed in.

        A hole in the midst of it is less likely to be given to a malloc of this process.
        """
        return self.keep(Mapping(size + 2 * PAGE_SIZE))

    def _shown(self, memory: Mapping, size: int) -> int:
        """Register memory at `WHERE`, let the guest's page tables lead there; returns the HVA."""
        self.machine.vm.memslots.add(WHERE, memory, at=PAGE_SIZE, size=size)
        self.open_window()
        return memory.hva + PAGE_SIZE

    def open_window(self) -> None:
        """Let the guest's page tables lead to `WHERE`, whatever is there."""
        self.machine.windows.append(identity(WHERE, SIZE, executable=True))

    def assign(self, driver: str, flip: Collection[str] = ()) -> AssignedDevice:
        """Take the first device that a vfio driver has. Raises `SkippedError` without one."""
        function = function_of(driver)
        return self.keep(AssignedDevice(self.machine, str(function), flip=flip))

    def see(self, bar: PlacedBar) -> PlacedBar:
        """Let the guest's page tables lead to a BAR."""
        size = round_up(bar.region.size)
        self.machine.windows.append(
            identity(bar.gpa, size, MemoryType.NON_CACHEABLE, executable=True)
        )
        return bar

    def read(self, gpa: int = WHERE, *, after: Callable[[], None] = lambda: None) -> None:
        """Let the guest read 4 bytes, `after` something that is done just before it runs."""
        self._probe(probe.Probe(gpa), after)

    def write(self, gpa: int = WHERE, *, after: Callable[[], None] = lambda: None) -> None:
        """The same for a write."""
        self._probe(probe.Probe(gpa, op=probe.Op.WRITE, value=0x1234_5678), after)

    def _probe(self, access: probe.Probe, after: Callable[[], None]) -> None:
        machine = self.machine
        machine.load(Payload.builtin("probe", machine.arch.NAME))
        block = probe.pack([access])
        machine.enter(block)
        after()
        ended = isinstance(machine.run().last_exit, SystemEvent | Halt)
        [answer] = probe.unpack([access], machine.read(ARGUMENT_BLOCK, len(block)))
        if not ended:
            self.guest = "was stopped"
        elif answer.outcome is probe.ProbeOutcome.ABORT:
            self.guest = f"took an exception (syndrome {answer.syndrome:#x})"
        else:
            self.guest = "wrote" if access.op is probe.Op.WRITE else f"read {answer.value:#x}"

    def carry_out(
        self,
        words: Sequence[int],
        registers: Sequence[int],
        *,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """The same for instructions of an arm64 guest, given as words."""
        machine = self.machine
        if machine.arch.NAME != "arm64":
            raise SkippedError("needs an arm64 guest: python -m pyvmm lab run -- provoke")
        machine.load(snippet.payload(words))
        block = snippet.pack(registers)
        machine.enter(block)
        after()
        ended = isinstance(machine.run().last_exit, SystemEvent)
        answer = snippet.unpack(machine.read(ARGUMENT_BLOCK, len(block)))
        if not ended:
            self.guest = "was stopped"
        elif answer.outcome is snippet.SnippetOutcome.OK:
            self.guest = "went on"
        else:
            self.guest = f"took an exception (syndrome {answer.syndrome:#x})"
