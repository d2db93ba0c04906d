# SPDX-License-Identifier: GPL-2.0-only
"""The cause of faults: chosen between the pages of one access, and for guests of random code.

The environment variables ``GUESTS`` and ``SEED`` set the number of random guests and the seed. The
lab does not pass them on:

python -m pyvmm lab shell --kernel lab --cpu neoverse-n1 -- env GUESTS=10000 \\
    python3 -m pytest -p pyvmm.testing.plugin tests/faults/test_examine.py
"""

import errno
import io
import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.examine import UNKNOWN, examine
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always, auto
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.kvm.exits import RunFailure
from pyvmm.machine import ENTRY, Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.passthrough.document import fault_to_json
from pyvmm.provoke import fixed_mmap
from pyvmm.why.registration import CACHEABLE_PFNMAP
from tests.devices import Find

pytestmark = pytest.mark.needs_arch("aarch64")

GUESTS = int(os.environ.get("GUESTS", 200))
PER_MACHINE = 20
TIME_LIMIT = 0.05  # seconds for each guest
GPA = 1 << 32
PAGES = 16
LDP_X4_X5_X2 = 0xA9401444
TABLES = 0x2000  # offset of some guests' page tables in the memory
CODE = ENTRY + 0x100  # the payload's room for instructions
POLICIES = (auto, *(always(fix) for fix in Fix))

# Loads and stores of every group; registers and offsets are added at random.
PATTERNS = (
    *(0xF9400000, 0xB9000000, 0x39400000, 0xA9400000, 0xA9000000, 0xAD400000, 0xC85F7C00),
    *(0xC8007C00, 0xB8200000, 0xC8A07C00, 0x4C407000, 0x4D408400, 0xD50B7420, 0xD50B7E20),
    *(0xF8400400, 0xF8000C00, 0x58000000, 0xF8606800, 0x88DFFC00, 0xD61F0000, 0xF8500000),
)


class Fuzz:
    """A machine that runs random guests on memory of which some pages are inaccessible."""

    def __init__(self, machine: Machine, memory: Mapping, chance: random.Random) -> None:
        self.machine, self.memory, self.chance = machine, memory, chance
        self.broken = range(1)  # page numbers

    def word(self) -> int:
        """Return an instruction on the registers that the payload sets, or a random word."""
        chance = self.chance
        if chance.random() < 0.1:
            return chance.getrandbits(32)
        word: int = chance.choice(PATTERNS) | chance.randrange(8) << 5 | chance.randrange(16)
        return word ^ 1 << chance.randrange(32) if chance.random() < 0.2 else word

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
            itself = GPA + TABLES | 0b11  # a descriptor of the table that it is in
            image[at : at + 8] = chance.choice((itself, chance.getrandbits(64))).to_bytes(
                8, "little"
            )
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
        machine.enter(snippet.pack([self.address() for _ in range(8)]))
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


@pytest.fixture
def machine(kvm: System) -> Iterator[Machine]:
    """Create a machine that stops at the first fault."""
    with Machine(kvm, console=io.BytesIO()) as machine:
        machine.faults.policy = always(Fix.STOP)
        yield machine


@pytest.fixture
def two_files(machine: Machine) -> Iterator[Mapping]:
    """Two pages at `GPA`: the first of one file, the second of another."""
    with ExitStack() as stack:
        memory = stack.enter_context(Mapping(2 * PAGE_SIZE))
        for at in (0, PAGE_SIZE):
            fd = os.memfd_create("guest")
            stack.callback(os.close, fd)
            os.ftruncate(fd, PAGE_SIZE)
            memory.place(fd, 0, at=at, size=PAGE_SIZE)
        machine.vm.memslots.add(GPA, memory)
        machine.windows.append(identity(GPA, 2 * PAGE_SIZE))
        yield memory


def load_pair(machine: Machine, gpa: int) -> None:
    """Run ``ldp x4, x5, [x2]`` with x2 at `gpa`."""
    machine.load(snippet.payload([LDP_X4_X5_X2]))
    machine.enter(snippet.pack([0, 0, gpa]))
    machine.run()


def test_the_broken_page_is_blamed_not_a_replaced_one(machine: Machine, two_files: Mapping) -> None:
    fixed_mmap.map_anonymous(two_files.hva, PAGE_SIZE)
    libc.mprotect(two_files.hva + PAGE_SIZE, PAGE_SIZE, PROT_NONE)
    load_pair(machine, GPA + PAGE_SIZE - 8)
    [record] = machine.faults.records
    assert (record.fault.cause, record.fault.report.gpa) == ("hva-no-access", GPA + PAGE_SIZE)
    assert (record.fault.report.size, record.fault.region) == (8, "RAM")


def test_a_fault_that_was_fixed_meanwhile_has_no_cause(
    machine: Machine, two_files: Mapping
) -> None:
    libc.mprotect(two_files.hva, PAGE_SIZE, PROT_NONE)
    load_pair(machine, GPA + PAGE_SIZE - 8)
    [record] = machine.faults.records
    libc.mprotect(two_files.hva, PAGE_SIZE, PROT_READ | PROT_WRITE)
    context = VcpuContext(machine.vm, machine.vcpu, machine.arch, machine.mmio)
    fault = examine(record.fault.report.exit, context)
    assert (fault.cause, fault.report.gpa, fault.region) == (UNKNOWN, None, None)
    assert "every page that the instruction accesses is accessible now" in fault.why
    assert fault.remedies == ()


def test_the_broken_bar_is_blamed_not_the_one_before_it(machine: Machine, find: Find) -> None:
    """The access starts in BAR2, which is healthy, and ends in BAR4, which replaced a memslot."""
    with AssignedDevice(machine, str(find("grace")), flip=["BAR4"]) as device:
        gpas = {bar.region.name: (bar.gpa, bar.gpa + bar.region.size) for bar in device.bars}
        start, _ = gpas["BAR4"]
        assert gpas["BAR2"][1] == start
        machine.windows.append(identity(start - PAGE_SIZE, 2 * PAGE_SIZE))
        load_pair(machine, start - 8)
    if not machine.vm.host.rejects_cacheable_pfnmap:
        assert machine.faults.records == []
        pytest.skip("this CPU maps BAR4 cacheable: pytest --lab --lab-cpu neoverse-n1")
    [record] = machine.faults.records
    assert (record.fault.report.gpa, record.fault.cause) == (start, CACHEABLE_PFNMAP)
    assert (record.fault.region, record.fault.report.size) == ("BAR4", 8)


def test_a_healthy_bar_is_not_called_inaccessible(machine: Machine, find: Find) -> None:
    with AssignedDevice(machine, str(find("grace"))) as device:
        [bar2] = (bar for bar in device.bars if bar.region.name == "BAR2")
        outside = bar2.gpa - PAGE_SIZE
        machine.windows.append(identity(outside, 2 * PAGE_SIZE))
        load_pair(machine, outside)
        assert [record.fault.cause for record in machine.faults.records] == ["outside-memslots"]
        machine.arch.write(machine.vcpu, {"x2": bar2.gpa})
        context = VcpuContext(machine.vm, machine.vcpu, machine.arch, machine.mmio)
        fault = examine(RunFailure(errno.EFAULT), context)
    assert (fault.cause, fault.report.gpa, fault.region) == (UNKNOWN, bar2.gpa, "BAR2")
    assert "device memory (PFNMAP), and no condition" in fault.why


@pytest.mark.parametrize("batch", range(-(-GUESTS // PER_MACHINE)))
def test_no_random_guest_fails_the_vmm(batch: int) -> None:
    chance = random.Random(int(os.environ.get("SEED", 0)) * 100_000 + batch)
    with ExitStack() as stack:
        machine = stack.enter_context(
            Machine(stack.enter_context(System.open()), console=io.BytesIO())
        )
        memory = stack.enter_context(Mapping((PAGES + 2) * PAGE_SIZE))
        memory.place_anonymous(at=PAGE_SIZE, size=PAGES * PAGE_SIZE)
        machine.vm.memslots.add(GPA, memory, at=PAGE_SIZE, size=PAGES * PAGE_SIZE)
        machine.windows.append(identity(GPA, PAGES * PAGE_SIZE, executable=True))
        fuzz = Fuzz(machine, memory, chance)
        for _ in range(PER_MACHINE):
            fuzz.guest()
        assert machine.faults.counts.total() > 0
