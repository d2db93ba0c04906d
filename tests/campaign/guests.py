# SPDX-License-Identifier: GPL-2.0-only
"""Hostile guests: random code, registers and page tables on memory that is partly inaccessible."""

import io
import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pyvmm import libc
from pyvmm.arch.arm64.a64.decode import decode
from pyvmm.arch.arm64.a64.operation import Operation
from pyvmm.arch.page_tables import identity
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always, auto
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.machine import ENTRY, Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.passthrough.document import fault_to_json
from tests.campaign.campaign import Campaign

TIME_LIMIT = 0.05  # seconds for each guest
GPA = 1 << 32
PAGES = 16
TABLES = 0x2000  # offset of some guests' page tables in the memory
CODE = ENTRY + 0x100  # the payload's room for instructions
POLICIES = (auto, *(always(fix) for fix in Fix))

# Encodings of loads and stores, in DDI 0487's order of C4.1 "Loads and Stores": the fixed bits of
# each class, and the bits that are random: size, opcode, options and offset, but not Rn and Rt.
CLASSES = (
    (0x0C000000, 0x40400C00 | 0xF << 12),  # structures
    (0x0C800000, 0x405F0C00 | 0xF << 12),  # structures, post-indexed
    (0x0D000000, 0x40601C00 | 0x7 << 13),  # single structures
    (0x0D800000, 0x407F1C00 | 0x7 << 13),  # single structures, post-indexed
    (0xD9200000, 0x00DFF000),  # tags
    (0x08000000, 0xC0FF8000 | 0x1F << 10),  # exclusive, ordered, compare and swap
    (0x19000000, 0xC0DFF000),  # unscaled, with release or acquire
    (0x18000000, 0xC4FFFFE0),  # literals
    (0x28000000, 0xC5C07C00 | 0x7F << 15),  # pairs
    (0x38000000, 0xC4DFF000 | 0xC00),  # immediate: unscaled, indexed, unprivileged
    (0x38200000, 0xC4DFFC00),  # atomics, register offset, pointer authentication
    (0x39000000, 0xC4FFFC00),  # unsigned immediate
    (0xD5087000, 0x00070FE0),  # cache maintenance, DC ZVA
)
REGISTERS = 8  # x0 to x7, which the payload sets


class Guests:
    """A machine that runs random guests on memory of which some pages are inaccessible."""

    def __init__(self, machine: Machine, memory: Mapping, chance: random.Random) -> None:
        self.machine, self.memory, self.chance = machine, memory, chance
        self.broken = range(1)  # page numbers

    def word(self) -> int:
        """Return a load or store of a random class and form, or a random word."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.1:
            return chance.getrandbits(32)
        if kind < 0.15:  # a branch to one of the other instructions: a loop
            return 0x1400_0000 | chance.randrange(-snippet.LONGEST, 2) & 0x3FF_FFFF
        fixed, free = chance.choice(CLASSES)
        while True:
            registers = chance.randrange(REGISTERS) << 5 | chance.randrange(16)
            word: int = fixed | chance.getrandbits(32) & free | registers
            if isinstance(decode(word), Operation) or chance.random() < 0.1:
                return word

    def address(self) -> int:
        """Return an address, mostly in an inaccessible page or at its boundary."""
        page = GPA + self.chance.choice(self.broken) * PAGE_SIZE
        near = page + self.chance.choice((0, 8, 0x40, 0x800, -1, -4, -8, -16, 3))
        wild = self.chance.getrandbits(64)
        return self.chance.choice((near, near, near, near, wild, ENTRY)) % (1 << 64)

    def tables(self) -> None:
        """Move the guest's page tables to the memory, with random descriptors and registers."""
        machine, chance = self.machine, self.chance
        tables = machine.arch.build_page_tables(GPA + TABLES, machine.windows)
        image = bytearray(tables.image[: PAGES * PAGE_SIZE - TABLES])
        for _ in range(chance.choice((0, 0, 1, 4))):
            at = chance.randrange(len(image) // 8) * 8
            match chance.randrange(3):
                case 0:  # a table that is its own next level
                    value = GPA + TABLES + at // PAGE_SIZE * PAGE_SIZE | 0b11
                case 1:  # any page as a table: a cycle of several levels, or an inaccessible one
                    value = GPA + chance.randrange(PAGES) * PAGE_SIZE | 0b11
                case _:
                    value = chance.getrandbits(64)
            image[at : at + 8] = value.to_bytes(8, "little")
        self.memory.write(PAGE_SIZE + TABLES, bytes(image))
        machine.arch.write(machine.vcpu, tables.registers)
        if chance.random() < 0.3:
            name = chance.choice(("TCR_EL1", "TTBR0_EL1", "SCTLR_EL1", "MAIR_EL1"))
            bit = 1 << chance.randrange(64)
            machine.arch.write(machine.vcpu, {name: machine.arch.read(machine.vcpu, name) ^ bit})

    def break_something(self) -> None:
        hva = self.memory.hva + (1 + self.broken.start) * PAGE_SIZE
        size = len(self.broken) * PAGE_SIZE
        match self.chance.randrange(3):
            case 0:
                libc.mprotect(hva, size, PROT_NONE)
            case 1:
                libc.mprotect(hva, size, PROT_READ)
            case _:
                libc.munmap(hva, PAGE_SIZE)  # one page: malloc could take a larger hole

    def guest(self) -> None:
        """Run a random guest, and convert each record of its faults to JSON."""
        machine, chance = self.machine, self.chance
        self.memory.restore()
        machine.faults.policy = chance.choice(POLICIES)
        first = chance.randrange(PAGES)
        self.broken = range(first, chance.randrange(first, PAGES) + 1)
        machine.load(snippet.payload([self.word() for _ in range(snippet.LONGEST)]))
        machine.enter(snippet.pack([self.address() for _ in range(REGISTERS)]))
        if chance.random() < 0.4:
            self.tables()
        self.break_something()
        with self.time_limit(), self.code_changing(chance.random() < 0.2):
            machine.run()
        for record in machine.faults.records:
            json.dumps(fault_to_json(record))
        machine.faults.records.clear()

    @contextmanager
    def time_limit(self) -> Iterator[None]:
        """Stop the vCPU after `TIME_LIMIT`."""
        timer = threading.Timer(TIME_LIMIT, self.machine.vcpu.stop)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
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
        memory = stack.enter_context(Mapping((PAGES + 2) * PAGE_SIZE))
        memory.place_anonymous(at=PAGE_SIZE, size=PAGES * PAGE_SIZE)
        machine.vm.memslots.add(GPA, memory, at=PAGE_SIZE, size=PAGES * PAGE_SIZE)
        machine.windows.append(identity(GPA, PAGES * PAGE_SIZE, executable=True))
        guests = Guests(machine, memory, random.Random(runs.start))
        for _ in runs:
            guests.guest()
        if not machine.faults.counts.total():
            yield f"no guest of {runs} faulted"


CAMPAIGN = Campaign(runs=10_000, short=100, batch=20, limit=300, run=_run, lab=("--kernel", "lab"))
