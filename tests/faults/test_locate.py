# SPDX-License-Identifier: GPL-2.0-only
"""The access rebuilt from the vCPU equals the one in the kernel's trace event."""

import errno
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.fault import Fix
from pyvmm.faults.locate import locate
from pyvmm.faults.poison import Poisoned
from pyvmm.faults.policy import always
from pyvmm.faults.report import FaultReport
from pyvmm.guest import snippet
from pyvmm.guest.assemble import assemble
from pyvmm.kvm import System
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
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.provoke import fixed_mmap
from pyvmm.uapi.kvm import KVM_EXIT_ARM_SEA_FLAG_GPA_VALID
from tests.faults.tracing import GuestFault, Trace, traced

pytestmark = pytest.mark.needs_arch("aarch64")

SCTLR_MMU_OFF = 0x30D0_0800  # the bits that are RES1 in ARMv8.0
GPA = 1 << 32
PAGES = 4
BAD = GPA + PAGE_SIZE  # the inaccessible page; x2 points into it
END = BAD + PAGE_SIZE

# Each accesses the inaccessible page: x2 is BAD + 0x40, and x3 is 0x10.
READS = """
ldrb w4, [x2]; ldrsb w4, [x2]; ldrsb x4, [x2]; ldrh w4, [x2, #2]; ldrsh x4, [x2, #2]
ldr w4, [x2, #4]; ldrsw x4, [x2, #4]; ldr x4, [x2, #8]; ldr x4, [x2, x3]; ldr x4, [x2, w3, uxtw #3]
ldr x4, [x2], #8; ldr x4, [x2, #8]!; ldur x4, [x2, #-8]; ldp w4, w5, [x2]
ldp x4, x5, [x2]; ldpsw x4, x5, [x2]; ldp x4, x5, [x2], #16; ldp x4, x5, [x2, #16]!
ldnp x4, x5, [x2]; ldar w4, [x2]; ldarb w4, [x2]; ldxr x4, [x2]; ldaxr w4, [x2]; ldxp x4, x5, [x2]
ldr b0, [x2]; ldr h0, [x2]; ldr s0, [x2]; ldr d0, [x2]; ldr q0, [x2]; ldp q0, q1, [x2]
ldp d0, d1, [x2]; ldnp q0, q1, [x2]; ld1 {v0.16b}, [x2]; ld1 {v0.8b-v3.8b}, [x2]
ld2 {v0.4s, v1.4s}, [x2]; ld3 {v0.2d-v2.2d}, [x2]; ld4 {v0.8h-v3.8h}, [x2]; ld1 {v0.s}[1], [x2]
ld1r {v0.4s}, [x2]; ld1 {v0.16b}, [x2], #16; ld1 {v0.16b}, [x2], x3
ldapr x4, [x2]; ldapur x4, [x2, #8]
"""
ATOMICS = """
ldadd w4, w5, [x2]; ldaddal x4, x5, [x2]; ldclr x4, x5, [x2]; ldset w4, w5, [x2]; swp x4, x5, [x2]
swpb w4, w5, [x2]; cas x4, x5, [x2]; casp x4, x5, x6, x7, [x2]
"""
WRITES = """
strb w4, [x2]; strh w4, [x2]; str w4, [x2]; str x4, [x2]; str x4, [x2], #8; str x4, [x2, #8]!
str xzr, [x2]; stur x4, [x2, #-8]; stp w4, w5, [x2]; stp x4, x5, [x2]
stp x4, x5, [x2, #-16]!; stnp x4, x5, [x2]; stlr x4, [x2]; stlrb w4, [x2]; stlur x4, [x2, #8]
str b0, [x2]; str q0, [x2]; stp q0, q1, [x2]; st1 {v0.16b}, [x2]; st2 {v0.4s, v1.4s}, [x2]
st4 {v0.8h-v3.8h}, [x2]; st1 {v0.s}[1], [x2]; dc zva, x2
"""
# For a page that is readable and not writable.
READ_ONLY = """
ldxr w4, [x2] then stxr w5, w4, [x2]; ldaxr x4, [x2] then stlxr w5, x4, [x2]; ldadd w4, w5, [x2]
swp x4, x5, [x2]; cas x4, x5, [x2]; str x4, [x2]; stp q0, q1, [x2]
"""
MAINTENANCE = "dc cvac, x2; dc civac, x2; ic ivau, x2"
UNPRIVILEGED = "ldtr x4, [x2]; ldtrsb w4, [x2]; sttr x4, [x2]; sttrb w4, [x2]"
FETCH = "br x2"

# With an x2 from which the access crosses into the inaccessible page, or out of it.
CROSSING = (
    ("ldr x4, [x2]", BAD - 4),
    ("ldr x4, [x2]", END - 4),
    ("ldp x4, x5, [x2]", BAD - 8),
    ("ldp x4, x5, [x2]", END - 8),
    ("str x4, [x2]", BAD - 4),
    ("stp x4, x5, [x2]", BAD - 8),
    ("stp x4, x5, [x2]", END - 8),
    ("ldr q0, [x2]", BAD - 8),
    ("stp q0, q1, [x2]", BAD - 16),
    ("ld4 {v0.8h-v3.8h}, [x2]", BAD - 32),
    ("st1 {v0.16b-v3.16b}, [x2]", BAD - 48),
)


def cases(text: str) -> list[str]:
    """Return the cases in a table: one instruction each, or two joined by ``then``."""
    return [case for line in text.split("\n") for case in line.split("; ") if case]


TABLES = (READS, ATOMICS, WRITES, READ_ONLY, MAINTENANCE, UNPRIVILEGED, FETCH)
EVERY = {*(case for table in TABLES for case in cases(table)), *(case for case, _ in CROSSING)}


def assembled(directory: Path) -> dict[str, list[int]]:
    """Return the words of every case, two instructions each, from one run of the assembler."""
    path, ordered = directory / "cases.s", sorted(EVERY)
    lines = (f"\t.balign 8\n\t{case.replace(' then ', chr(10))}" for case in ordered)
    path.write_text("\n".join(("\t.arch armv8.5-a+simd", *lines, "\t.balign 8", "")))
    code = assemble(path, "arm64")
    words = struct.unpack(f"<{len(ordered) * 2}I", code)
    return {case: list(words[2 * n : 2 * n + 2]) for n, case in enumerate(ordered)}


class BrokenPage:
    """A machine with memory in which one page is made inaccessible."""

    def __init__(
        self, machine: Machine, memory: Mapping, trace: Trace, code: dict[str, list[int]]
    ) -> None:
        self.machine, self.memory, self.trace, self.code = machine, memory, trace, code

    def fault(
        self, case: str, x2: int = BAD + 0x40, *, prot: int = PROT_NONE, mmu: bool = True
    ) -> tuple[FaultReport, GuestFault] | None:
        """Run a case on the inaccessible page; return pyvmm's report and the kernel's event."""
        machine = self.machine
        fixed_mmap.map_anonymous(self.memory.hva, self.memory.size)
        libc.mprotect(self.memory.hva + PAGE_SIZE, PAGE_SIZE, prot)
        machine.load(snippet.payload(self.code[case]))
        machine.enter(snippet.pack([0, 0, x2, 0x10, 1, 2, 3, 4]))
        if not mmu:
            machine.arch.write(machine.vcpu, {"SCTLR_EL1": SCTLR_MMU_OFF})
        machine.faults.records.clear()
        self.trace.clear()
        machine.run()
        if not machine.faults.records:
            return None
        [record] = machine.faults.records
        return record.fault.report, self.trace.faults()[-1]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokenPage]:
    code = assembled(tmp_path_factory.mktemp("code"))
    with System.open() as system, Machine(system) as machine, traced() as trace:
        with Mapping.anonymous(PAGES * PAGE_SIZE) as memory:
            machine.vm.memslots.add(GPA, memory)
            machine.windows.append(identity(GPA, memory.size, executable=True))
            machine.faults.policy = always(Fix.STOP)
            yield BrokenPage(machine, memory, trace, code)


def agree(found: tuple[FaultReport, GuestFault] | None) -> FaultReport:
    """Assert that report and trace event agree, and return the report."""
    assert found is not None
    report, event = found
    assert report.gpa is not None, report.incomplete
    assert (report.gpa & -PAGE_SIZE, report.pc) == (event.ipa, event.pc)
    assert (report.access, report.table) == (event.access, event.table)
    assert report.va == event.far
    assert (report.source, report.errno) == ("reconstructed", "EFAULT")
    return report


@pytest.mark.parametrize("case", [*cases(READS), *cases(WRITES)])
def test_loads_and_stores(page: BrokenPage, case: str) -> None:
    if case.startswith(("ldapur", "stlur")) and "ilrcpc" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU has no FEAT_LRCPC2: pytest --lab --lab-cpu max")
    agree(page.fault(case))


@pytest.mark.parametrize("case", cases(READ_ONLY))
def test_writes_to_a_read_only_page(page: BrokenPage, case: str) -> None:
    assert agree(page.fault(case, prot=PROT_READ)).access == "write"


@pytest.mark.parametrize(("case", "x2"), CROSSING)
def test_of_two_pages_the_inaccessible_one_is_located(page: BrokenPage, case: str, x2: int) -> None:
    agree(page.fault(case, x2))


@pytest.mark.parametrize("case", cases(ATOMICS))
def test_an_atomic_on_an_unreadable_page_is_a_read(page: BrokenPage, case: str) -> None:
    """ESR_EL2.WnR is 0 on hardware and 1 on QEMU, which checks both permissions together."""
    found = page.fault(case)
    assert found is not None
    report, event = found
    assert (report.va, report.pc, report.access) == (event.far, event.pc, "read")


@pytest.mark.parametrize("case", cases(MAINTENANCE))
def test_cache_maintenance_is_a_write(page: BrokenPage, case: str) -> None:
    if (found := page.fault(case)) is None:
        pytest.skip(
            "this CPU, like QEMU's, does not translate the address: run it on arm64 hardware"
        )
    report, event = found
    assert report.gpa is not None
    assert report.gpa & -PAGE_SIZE == event.ipa
    assert report.access == event.access == "write"


@pytest.mark.parametrize("case", cases(UNPRIVILEGED))
def test_accesses_with_the_mmu_off_are_device_accesses(page: BrokenPage, case: str) -> None:
    assert agree(page.fault(case, mmu=False)).memory_type == "Device-nGnRnE"


@pytest.mark.parametrize("mmu", [True, False])
def test_instruction_fetches(page: BrokenPage, mmu: bool) -> None:
    assert agree(page.fault(FETCH, mmu=mmu)).access == "exec"


@pytest.fixture
def crossing(page: BrokenPage) -> VcpuContext:
    """Stop the vCPU at an LDP of 8 bytes before `BAD` and 8 bytes in it."""
    page.fault("ldp x4, x5, [x2]", BAD - 8)
    machine = page.machine
    return VcpuContext(machine.vm, machine.vcpu, machine.arch, machine.mmio)


@pytest.mark.parametrize(
    "exit", [RunFailure(errno.EFAULT), ArmSea(0, 0, 0, 0)], ids=["errno", "arm_sea"]
)
def test_without_an_address_each_page_is_a_candidate(crossing: VcpuContext, exit: Exit) -> None:
    reports = locate(exit, crossing)
    assert [(report.gpa, report.size) for report in reports] == [(BAD - 8, 8), (BAD, 8)]
    assert {report.source for report in reports} == {"reconstructed"}
    assert {report.access for report in reports} == {"read"}


@pytest.mark.parametrize(
    ("exit", "size", "access"),
    [
        (MemoryFault(0, BAD, PAGE_SIZE, errno.EFAULT), PAGE_SIZE, "read"),
        (ArmSea(KVM_EXIT_ARM_SEA_FLAG_GPA_VALID, 0, 0, BAD), PAGE_SIZE, "read"),
        (ArmNisv(0, BAD), 8, "read"),
        (ArmLdst64b(0, BAD), 8, "read"),
        (Mmio(BAD, 4, True, 0), 4, "write"),
    ],
    ids=["memory_fault", "arm_sea", "arm_nisv", "arm_ldst64b", "mmio"],
)
def test_the_address_in_the_exit_counts(
    crossing: VcpuContext, exit: Exit, size: int, access: str
) -> None:
    [report] = locate(exit, crossing)
    assert (report.gpa, report.size, report.access) == (BAD, size, access)
    assert (report.source, report.va, report.exit) == ("kernel", BAD, exit)
    assert report.memory_type == "Normal-WB"


def test_an_address_that_the_instruction_does_not_access(crossing: VcpuContext) -> None:
    [report] = locate(MemoryFault(0, END, PAGE_SIZE, errno.EFAULT), crossing)
    assert (report.gpa, report.size, report.va, report.access) == (END, PAGE_SIZE, None, None)
    assert report.pc is not None


def test_the_gpa_of_poisoned_memory(crossing: VcpuContext, page: BrokenPage) -> None:
    [report] = locate(Poisoned(page.memory.hva + PAGE_SIZE, PAGE_SIZE), crossing)
    assert (report.gpa, report.size, report.va) == (BAD, PAGE_SIZE, BAD)
    [elsewhere] = locate(Poisoned(PAGE_SIZE, PAGE_SIZE), crossing)
    assert elsewhere.gpa is None


def test_an_exit_that_is_no_fault_is_rejected(crossing: VcpuContext) -> None:
    with pytest.raises(TypeError, match="is not a fault"):
        locate(Interrupted(), crossing)
