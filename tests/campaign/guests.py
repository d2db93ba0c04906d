# SPDX-License-Identifier: GPL-2.0-only
"""Hostile guests: random code, registers and page tables on memory that is partly inaccessible."""

import io
import json
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always, auto
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.machine import ENTRY, Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.passthrough.job_document import fault_to_json
from tests.campaign.a64_forms import FORMS, allocated, decodable
from tests.campaign.campaign import Campaign

TIME_LIMIT = 0.5  # seconds for each guest, of which one in 25 loops
FIRST_GPA = 1 << 32
PAGES = 16
SIZE = PAGES * PAGE_SIZE
TABLES = 0x2000  # offset of some guests' page tables in the memory
CODE = ENTRY + 0x100  # the payload's room for instructions
POLICIES = (auto, *(always(fix) for fix in Fix))

REGISTERS = 8  # x0 to x7, which the payload sets


class Guests:
    """A machine that runs random guests on memory of which some pages are inaccessible."""

    def __init__(self, machine: Machine, memory: Mapping, chance: random.Random) -> None:
        self.machine, self.memory, self.chance = machine, memory, chance
        self.broken = range(1)  # page numbers
        self.gpa = FIRST_GPA
        machine.windows.append(identity(self.gpa, SIZE, executable=True))

    def word(self) -> int:
        """Return a load or store of a random form, or a random word."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.05:
            return chance.getrandbits(32)
        if kind < 0.1:  # a branch to one of the other instructions: a loop
            return 0x1400_0000 | chance.randrange(-snippet.LONGEST, 2) & 0x3FF_FFFF
        form = chance.choice(FORMS if kind < 0.15 else decodable())
        return form.word(chance, chance.randrange(REGISTERS), chance.randrange(16))

    def first_word(self, number: int) -> int:
        """Return an instruction of allocated form `number`, with base x0."""
        form = allocated()[number % len(allocated())]
        return form.word(self.chance, 0, self.chance.randrange(16))

    def broken_address(self) -> int:
        """Return an address in an inaccessible page, or just before one."""
        page = self.gpa + self.chance.choice(self.broken) * PAGE_SIZE
        return page + self.chance.choice((0, 8, 0x40, 0x800, -1, -4, -8, -16, 3))

    def address(self) -> int:
        """Return an address, mostly one in or before an inaccessible page."""
        kind = self.chance.random()
        if kind < 0.7:
            return self.broken_address()
        if kind < 0.85:  # the guest changes its own code
            return CODE + 4 * self.chance.randrange(snippet.LONGEST)
        return self.chance.getrandbits(64)

    def tables(self) -> None:
        """Move the guest's page tables to the memory, with random descriptors and registers."""
        machine, chance = self.machine, self.chance
        tables = machine.arch.build_page_tables(self.gpa + TABLES, machine.windows)
        image = bytearray(tables.image[: SIZE - TABLES])
        used = [at for at in range(0, len(image), 8) if any(image[at : at + 8])]
        for _ in range(chance.choice((0, 0, 1, 4))):
            at = chance.choice((chance.choice(used), chance.randrange(len(image) // 8) * 8))
            match chance.randrange(3):
                case 0:  # a table that is its own next level
                    value = self.gpa + TABLES + at // PAGE_SIZE * PAGE_SIZE | 0b11
                case 1:  # any page as a table: a cycle of several levels, or an inaccessible one
                    value = self.gpa + chance.randrange(PAGES) * PAGE_SIZE | 0b11
                case _:
                    value = chance.getrandbits(64)
            image[at : at + 8] = value.to_bytes(8, "little")
        self.memory.write(PAGE_SIZE + TABLES, bytes(image))
        machine.arch.write(machine.vcpu, tables.registers)
        if chance.random() < 0.3:
            name = chance.choice(("TCR_EL1", "TTBR0_EL1", "SCTLR_EL1", "MAIR_EL1"))
            bit = 1 << chance.randrange(64)
            machine.arch.write(machine.vcpu, {name: machine.arch.read(machine.vcpu, name) ^ bit})

    def restore_memory(self) -> None:
        """Map all pages, and register them again as one memslot if the last guest's fixes cut it.

        The new GPA has none of the devices that emulate the parts which were cut out.
        """
        self.memory.restore()
        memslots = self.machine.vm.memslots
        slots = [slot for slot in memslots if slot.memory is self.memory]
        if [(slot.gpa, slot.size) for slot in slots] == [(self.gpa, SIZE)]:
            return
        for slot in slots:
            memslots.remove(slot)
        self.gpa += SIZE
        self.machine.windows[-1] = identity(self.gpa, SIZE, executable=True)
        memslots.add(self.gpa, self.memory, at=PAGE_SIZE, size=SIZE)

    def choose_pages(self) -> Callable[[], int]:
        """Choose the pages to make inaccessible, and return what does that."""
        first = self.chance.randrange(PAGES)
        last = self.chance.randrange(first, PAGES)
        hva = self.memory.hva + (1 + first) * PAGE_SIZE
        size = (last + 1 - first) * PAGE_SIZE
        self.broken = range(first, last + 1)
        match self.chance.randrange(3):
            case 0:
                return lambda: libc.mprotect(hva, size, PROT_NONE)
            case 1:
                return lambda: libc.mprotect(hva, size, PROT_READ)
        self.broken = range(first, first + 1)  # malloc could take a larger hole
        return lambda: libc.munmap(hva, PAGE_SIZE)

    def guest(self, number: int) -> None:
        """Run a random guest, and convert each record of its faults to JSON.

        Its first instruction is of form `number` and accesses broken memory.
        """
        machine, chance = self.machine, self.chance
        self.restore_memory()
        machine.faults.policy = chance.choice(POLICIES)
        break_pages = self.choose_pages()
        words = [self.first_word(number), *(self.word() for _ in range(snippet.LONGEST - 1))]
        machine.load(snippet.payload(words))
        addresses = [self.broken_address(), *(self.address() for _ in range(1, REGISTERS))]
        machine.enter(snippet.pack(addresses))
        if chance.random() < 0.4:
            self.tables()
        break_pages()
        with self.time_limit(), self.code_changing(chance.random() < 0.1):
            machine.run()
        for record in machine.faults.records:
            json.dumps(fault_to_json(record))
        machine.faults.records.clear()

    @contextmanager
    def time_limit(self) -> Iterator[None]:
        """Stop the vCPU after `TIME_LIMIT`. A signal needs no thread, which takes 80 ms here."""
        signal.signal(signal.SIGALRM, lambda number, frame: self.machine.vcpu.stop())
        signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.machine.vcpu.resume()

    @contextmanager
    def code_changing(self, wanted: bool) -> Iterator[None]:
        """Change the code from another thread, as another vCPU could, if `wanted`."""
        done = threading.Event()
        chance = random.Random(self.chance.random())

        def rewrite() -> None:
            while not done.wait(0.001):
                at = CODE + 4 * chance.randrange(snippet.LONGEST)
                self.machine.write(at, self.word().to_bytes(4, "little"))

        thread = threading.Thread(target=rewrite)
        if wanted:
            thread.start()
        try:
            yield
        finally:
            done.set()
            if wanted:
                thread.join()


def _run(runs: range) -> Iterator[str]:
    """Run guests in one machine; a guest can only be repeated with those before it."""
    with ExitStack() as stack:
        machine = stack.enter_context(
            Machine(stack.enter_context(System.open()), console=io.BytesIO())
        )
        memory = stack.enter_context(Mapping(SIZE + 2 * PAGE_SIZE))
        memory.place_anonymous(at=PAGE_SIZE, size=SIZE)
        guests = Guests(machine, memory, random.Random(runs.start))
        for number in runs:
            guests.guest(number)
        if not machine.faults.counts.total():
            yield f"no guest of {runs} faulted"


CAMPAIGN = Campaign(runs=10_000, short=100, batch=100, limit=900, run=_run, lab=("--kernel", "lab"))
