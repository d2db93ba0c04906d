# SPDX-License-Identifier: GPL-2.0-only
"""The VM state in the report of a failed test: fault, code at PC, registers, memslots."""

from collections.abc import Iterator, Mapping
from typing import Any

from pyvmm.arch.native import native
from pyvmm.bus import Bus
from pyvmm.errors import PyvmmError
from pyvmm.faults import VcpuContext
from pyvmm.faults.examine import examine
from pyvmm.faults.guest_memory import GuestMemory
from pyvmm.faults.report import FaultReport
from pyvmm.kvm import Vcpu, Vm
from pyvmm.kvm.exits import Exit, Mmio
from pyvmm.testing.expect import describe
from pyvmm.testing.guest import Guest

_BEFORE, _AFTER = 16, 32  # bytes of code to show before and after PC
_REGISTERS_PER_ROW = 4
_PC = {"arm64": "pc", "x86_64": "rip"}
_GENERAL = {
    "arm64": (*(f"x{n}" for n in range(31)), "sp_el1", "pc", "pstate"),
    "x86_64": (
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
        *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
    ),
}
_SYSTEM = {
    "arm64": ("ESR_EL1", "FAR_EL1", "elr_el1", "SCTLR_EL1", "TTBR0_EL1", "TCR_EL1", "MAIR_EL1"),
    "x86_64": ("cr0", "cr2", "cr3", "cr4", "efer"),
}


def sections(fixtures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield titles and texts of report sections for a test with these fixtures."""
    vm, vcpu, guest = fixtures.get("vm"), fixtures.get("vcpu"), fixtures.get("guest")
    if not isinstance(vm, Vm) or vm.closed:
        return
    if isinstance(vcpu, Vcpu) and not vcpu.closed:
        context = VcpuContext(vm, vcpu, native(), Bus())
        exit = guest.run.exit if isinstance(guest, Guest) and guest.run else None
        try:
            if exit is not None:
                yield "guest: the last exit", "\n".join(_fault(exit, context))
            yield "guest: code", "\n".join(_code(context))
            yield "guest: registers", "\n".join(_registers(context))
        except (PyvmmError, OSError) as error:  # the vCPU is not initialized
            yield "guest: registers", f"cannot read them: {error}"
    yield "guest: memslots", "\n".join(_memslots(vm)) or "none"


def _fault(exit: Exit, context: VcpuContext) -> Iterator[str]:
    yield describe(exit)
    try:
        fault = examine(exit, context)
    except TypeError:  # the exit is not a fault
        return
    report = fault.report
    where = "an unknown address" if report.gpa is None else f"GPA {report.gpa:#x}"
    yield f"{report.access or 'access'} of {report.size:#x} bytes at {where}, {_source(report)}"
    if report.instruction is not None:
        yield f"by {report.instruction}" + (f", VA {report.va:#x}" if report.va is not None else "")
    if isinstance(exit, Mmio):
        return  # MMIO is normal for a GPA without a memslot
    yield f"{fault.cause}: {fault.why}"
    for remedy in fault.remedies:
        yield f"remedy ({remedy.fix}): {remedy.how}"


def _source(report: FaultReport) -> str:
    derived = "derived from the vCPU's state (KVM does not report it)"
    return "reported by KVM" if report.source == "kernel" else derived


def _code(context: VcpuContext) -> Iterator[str]:
    pc = context.arch.read(context.vcpu, _PC[context.arch.NAME])
    for start in (pc - _BEFORE, pc):
        if context.arch.NAME == "arm64" or start == pc:  # x86 code cannot be decoded backwards
            end = pc if start < pc else pc + _AFTER
            code = GuestMemory(context).peek(start, end - start)
            if code is None:
                if start == pc:
                    yield f"> {pc:#x}: unreadable memory"
                continue
            for address, text in _disassemble(context.arch.NAME, code, start):
                yield f"{'>' if address == pc else ' '} {address:#x}: {text}"


def _disassemble(arch: str, code: bytes, address: int) -> Iterator[tuple[int, str]]:
    if arch == "arm64":
        from pyvmm.arch.arm64.a64.disassemble import disassemble

        for at in range(0, len(code), 4):
            word = int.from_bytes(code[at : at + 4], "little")
            yield address + at, disassemble(word, address + at)
        return
    try:
        import capstone
    except ImportError:
        yield address, f"{code.hex(' ')} (to disassemble it: pip install 'pyvmm[decode]')"
        return
    reader = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for at, _, mnemonic, operands in reader.disasm_lite(code, address):
        yield at, f"{mnemonic} {operands}".rstrip()


def _registers(context: VcpuContext) -> Iterator[str]:
    for names in (_GENERAL[context.arch.NAME], _SYSTEM[context.arch.NAME]):
        cells = [f"{name:>9} {context.arch.read(context.vcpu, name):#018x}" for name in names]
        for row in range(0, len(cells), _REGISTERS_PER_ROW):
            yield " ".join(cells[row : row + _REGISTERS_PER_ROW])


def _memslots(vm: Vm) -> Iterator[str]:
    for slot in vm.memslots:
        flags = "".join(
            f" {name}"
            for name, is_set in (("read-only", slot.readonly), ("guest_memfd", slot.guest_memfd))
            if is_set
        )
        yield (
            f"{slot.number}: GPA {slot.gpa:#x}-{slot.end:#x}, {slot.size:#x} bytes "
            f"at HVA {slot.hva:#x}{flags}"
        )
