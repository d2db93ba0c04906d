# SPDX-License-Identifier: GPL-2.0-only
"""A guest with several vCPUs that count in the same pages while the VMM breaks these."""

import struct
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from random import Random

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults import FaultHandler, VcpuContext
from pyvmm.kvm import System
from pyvmm.kvm.exits import Mmio
from pyvmm.machine import ARGUMENT_BLOCK, ENTRY, Machine
from pyvmm.machine.machine import RAM_BASE
from pyvmm.machine.run_loop import RunOutcome, mmio_handler, run
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Mapping

GPA = 1 << 32
PAGES = 16
_DONE = 0x0A00_0000  # a write to it ends the vCPU
_BLOCK = struct.Struct("<5Q")  # GPA, rounds done, offset in each page, pages, stop

# x0: where to write at the end; x1: the block. In each round, add 1 to a word of each page.
_COUNT = """
    f9400022  // ldr x2, [x1]
    d2800003  // mov x3, #0
    a9411424  // ldp x4, x5, [x1, #16]
    d2800006  // 1: mov x6, #0
    8b063047  // 2: add x7, x2, x6, lsl #12
    8b0400e7  // add x7, x7, x4
    f94000e8  // ldr x8, [x7]
    91000508  // add x8, x8, #1
    f90000e8  // str x8, [x7]
    910004c6  // add x6, x6, #1
    eb0500df  // cmp x6, x5
    54ffff23  // b.lo 2b
    91000463  // add x3, x3, #1
    f9401029  // ldr x9, [x1, #32]
    b4fffea9  // cbz x9, 1b
    f9000423  // str x3, [x1, #8]
    b900001f  // str wzr, [x0]
    14000000  // b .
"""
_WORDS = [int(line.split()[0], 16) for line in _COUNT.strip().splitlines()]


class CountingGuest:
    """A guest whose vCPUs add 1 to their own word of each of `PAGES` pages, again and again.

    Before `run`, the caller registers memory at `GPA`.
    """

    def __init__(self, system: System, machine: Machine, vcpus: int) -> None:
        self._system, self.machine = system, machine
        self._vcpus = [machine.vcpu, *(machine.vm.create_vcpu(i) for i in range(1, vcpus))]
        self._handlers: dict[int, FaultHandler] = {}
        machine.windows.append(identity(GPA, PAGES << 12))
        machine.windows.append(identity(_DONE, PAGE_SIZE))
        self._tables = machine.arch.build_page_tables(RAM_BASE, machine.windows)
        machine.write(self._tables.gpa, self._tables.image)
        machine.write(ENTRY, struct.pack(f"<{len(_WORDS)}I", *_WORDS))

    def run(self, breakers: Iterable[Callable[[], object]]) -> None:
        """Run the guest while each of `breakers` is called, then let it end."""
        with ThreadPoolExecutor(len(self._vcpus)) as threads:
            running = [threads.submit(self._run, index) for index in range(len(self._vcpus))]
            try:
                for breaker in breakers:
                    breaker()
            finally:
                for index in range(len(self._vcpus)):
                    self.machine.write(_block(index) + _BLOCK.size - 8, b"\1")
        for index, each in enumerate(running):
            exit = each.result().last_exit
            assert isinstance(exit, Mmio), (exit, self._handlers[index].last)
            assert exit.gpa == _DONE

    def check(self, read: Callable[[int, int], bytes]) -> None:
        """Assert that no addition was lost, with `read` as of the memory at `GPA`."""
        for index in range(len(self._vcpus)):
            _, rounds, offset, *_ = _BLOCK.unpack(self.machine.read(_block(index), _BLOCK.size))
            assert rounds
            for page in range(PAGES):
                [count] = struct.unpack("<Q", read((page << 12) + offset, 8))
                assert count == rounds, (index, page)

    def _run(self, index: int) -> RunOutcome:
        machine, vcpu = self.machine, self._vcpus[index]
        at = _block(index)
        machine.write(at, _BLOCK.pack(GPA, 0, index * 8, PAGES, 0))
        machine.arch.prepare(self._system, machine.vm, vcpu)
        machine.arch.enter(vcpu, ENTRY, (_DONE, at), self._tables)
        context = VcpuContext(machine.vm, vcpu, machine.arch, machine.mmio)
        faults = self._handlers[index] = FaultHandler(context, machine.faults)
        answer = mmio_handler(vcpu, machine.mmio)
        resolve = faults.unless(answer)
        handlers = {**faults.handlers(), Mmio: lambda exit: exit.gpa != _DONE and resolve(exit)}
        return run(vcpu, handlers)


class Breaker:
    """Breaks the memory behind `GPA` of a counting guest in a way chosen at random.

    Attributes:
        memory: the memory behind `GPA` now.
    """

    def __init__(self, machine: Machine, memory: Mapping, pages: int = 1) -> None:
        """Make up to `pages` pages inaccessible in a call."""
        self.memory = memory
        self._pages = pages
        self._machine, self._chance = machine, Random(1)
        self._spare = Mapping.anonymous(memory.size)

    def __call__(self) -> None:
        self._chance.choice([self._protect, self._protect, self._protect, self._change_slots])()
        time.sleep(0.01)  # an access that fails again and again without progress is stopped

    def _protect(self) -> None:
        """Make pages inaccessible, but none that is emulated: the VMM itself accesses those."""
        pages = self._chance.sample(range(0, self.memory.size, PAGE_SIZE), self._pages)
        with self._machine.vm.lock:
            for at in pages:
                if not self._machine.mmio.at(GPA + at):
                    libc.mprotect(self.memory.hva + at, PAGE_SIZE, PROT_NONE)

    def _change_slots(self) -> None:
        """Move the contents to other memory; or, if pages are emulated, register them again."""
        vm, mmio = self._machine.vm, self._machine.mmio
        with vm.paused():
            self.memory.protect(PROT_READ | PROT_WRITE)
            slots = [slot for slot in vm.memslots if slot.memory is self.memory]
            if sum(slot.size for slot in slots) < self.memory.size:
                for slot in slots:
                    vm.memslots.remove(slot)
                mmio.detach(GPA, self.memory.size)
                vm.memslots.add(GPA, self.memory)
            else:
                self._spare.write(0, self.memory.read(0, self.memory.size))
                vm.memslots.replace(slots[0], self._spare)
                self.memory, self._spare = self._spare, self.memory

    def close(self) -> None:
        self._spare.close()


def _block(index: int) -> int:
    """Return the GPA of the block of vCPU `index`."""
    return ARGUMENT_BLOCK + index * _BLOCK.size
