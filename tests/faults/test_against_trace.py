# SPDX-License-Identifier: GPL-2.0-only
"""What is rebuilt from the vCPU is what the hardware told the kernel, for every kind of access."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm import libc
from pyvmm.arch.page_tables import identity
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always
from pyvmm.faults.report import FaultReport
from pyvmm.guest import snippet
from pyvmm.guest.assemble import assemble
from pyvmm.kvm import System
from pyvmm.machine import Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.provoke import fixed_mmap
from tests.faults.tracing import GuestFault, Trace, traced

pytestmark = pytest.mark.needs_arch("aarch64")

SCTLR_MMU_OFF = 0x30D0_0800  # the bits that are RES1 in ARMv8.0
GPA = 1 << 32
PAGES = 4
BAD = GPA + PAGE_SIZE  # the page that fails, with x2 pointing into it
END = BAD + PAGE_SIZE

# Instructions, with x2 at BAD + 0x40 and x3 at 0x10; each touches the page that fails.
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
# On a page that may be read and not written.
READ_ONLY = """
ldxr w4, [x2] then stxr w5, w4, [x2]; ldaxr x4, [x2] then stlxr w5, x4, [x2]; ldadd w4, w5, [x2]
swp x4, x5, [x2]; cas x4, x5, [x2]; str x4, [x2]; stp q0, q1, [x2]
"""
MAINTENANCE = "dc cvac, x2; dc civac, x2; ic ivau, x2"
UNPRIVILEGED = "ldtr x4, [x2]; ldtrsb w4, [x2]; sttr x4, [x2]; sttrb w4, [x2]"
FETCH = "br x2"

# With x2 where the access crosses into the page that fails, or out of it.
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
    """One instruction a case, or two joined by ``then``."""
    return [case for line in text.split("\n") for case in line.split("; ") if case]


TABLES = (READS, ATOMICS, WRITES, READ_ONLY, MAINTENANCE, UNPRIVILEGED, FETCH)
EVERY = {*(case for table in TABLES for case in cases(table)), *(case for case, _ in CROSSING)}


def assembled(directory: Path) -> dict[str, list[int]]:
    """The words of every case, padded to two instructions, out of one run of the assembler."""
    path, ordered = directory / "cases.s", sorted(EVERY)
    lines = (f"\t.balign 8\n\t{case.replace(' then ', chr(10))}" for case in ordered)
    path.write_text("\n".join(("\t.arch armv8.5-a+simd", *lines, "\t.balign 8", "")))
    code = assemble(path, "arm64")
    words = struct.unpack(f"<{len(ordered) * 2}I", code)
    return {case: list(words[2 * n : 2 * n + 2]) for n, case in enumerate(ordered)}


class Bench:
    """One machine, with a page to break."""

    def __init__(
        self, machine: Machine, memory: Mapping, trace: Trace, code: dict[str, list[int]]
    ) -> None:
        self.machine, self.memory, self.trace, self.code = machine, memory, trace, code

    def fault(
        self, case: str, x2: int = BAD + 0x40, *, prot: int = PROT_NONE, mmu: bool = True
    ) -> tuple[FaultReport, GuestFault] | None:
        """Run a case with the page broken: what was rebuilt, and what the kernel saw."""
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
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    code = assembled(tmp_path_factory.mktemp("code"))
    with System.open() as system, Machine(system) as machine, traced() as trace:
        with Mapping.anonymous(PAGES * PAGE_SIZE) as memory:
            machine.vm.memslots.add(GPA, memory)
            machine.windows.append(identity(GPA, memory.size, executable=True))
            machine.faults.policy = always(Fix.STOP)
            yield Bench(machine, memory, trace, code)


def agree(found: tuple[FaultReport, GuestFault] | None) -> FaultReport:
    assert found is not None
    report, seen = found
    assert report.gpa is not None, report.incomplete
    assert (report.gpa & -PAGE_SIZE, report.pc) == (seen.ipa, seen.pc)
    assert (report.access, report.table) == (seen.access, seen.table)
    assert report.va == seen.far
    assert (report.source, report.errno) == ("reconstructed", "EFAULT")
    return report


@pytest.mark.parametrize("case", [*cases(READS), *cases(WRITES)])
def test_an_access(bench: Bench, case: str) -> None:
    if case.startswith(("ldapur", "stlur")) and "ilrcpc" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU has no FEAT_LRCPC2: pytest --lab --lab-cpu max")
    agree(bench.fault(case))


@pytest.mark.parametrize("case", cases(READ_ONLY))
def test_a_write_to_a_page_that_may_only_be_read(bench: Bench, case: str) -> None:
    assert agree(bench.fault(case, prot=PROT_READ)).access == "write"


@pytest.mark.parametrize(("case", "x2"), CROSSING)
def test_the_page_that_failed_of_those_crossed(bench: Bench, case: str, x2: int) -> None:
    agree(bench.fault(case, x2))


@pytest.mark.parametrize("case", cases(ATOMICS))
def test_an_atomic_that_may_not_even_read(bench: Bench, case: str) -> None:
    """ESR_EL2.WnR is then 0 on a CPU, and 1 on QEMU's, which looks for both at once."""
    found = bench.fault(case)
    assert found is not None
    report, seen = found
    assert (report.va, report.pc, report.access) == (seen.far, seen.pc, "read")


@pytest.mark.parametrize("case", cases(MAINTENANCE))
def test_cache_maintenance(bench: Bench, case: str) -> None:
    if (found := bench.fault(case)) is None:
        pytest.skip("this CPU translates no address for it, as QEMU's: run it on arm64 hardware")
    report, seen = found
    assert report.gpa is not None
    assert report.gpa & -PAGE_SIZE == seen.ipa
    assert report.access == seen.access == "write"


@pytest.mark.parametrize("case", cases(UNPRIVILEGED))
def test_an_access_with_the_mmu_off(bench: Bench, case: str) -> None:
    assert agree(bench.fault(case, mmu=False)).memory_type == "Device-nGnRnE"


@pytest.mark.parametrize("mmu", [True, False])
def test_a_fetch(bench: Bench, mmu: bool) -> None:
    assert agree(bench.fault(FETCH, mmu=mmu)).access == "exec"
