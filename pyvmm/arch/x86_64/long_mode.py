# SPDX-License-Identifier: GPL-2.0-only
"""Start a vCPU in 64-bit long mode.

Intel SDM volume 3, sections 3.4.5 (segment descriptors) and 10.8.5 (initializing IA-32e mode).
"""

from collections.abc import Iterable

from pyvmm.arch.page_tables import PageTables
from pyvmm.arch.x86_64 import registers
from pyvmm.arch.x86_64.paging import CODE_SELECTOR, DATA_SELECTOR
from pyvmm.kvm.vcpu import Vcpu

ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")  # System V ABI

_RFLAGS_RESERVED = 1 << 1  # always 1; IF is 0, so interrupts are masked
_CR0_PE, _CR0_ET, _CR0_WP, _CR0_PG = 1 << 0, 1 << 4, 1 << 16, 1 << 31
_CR4_PAE = 1 << 5
_EFER_LME, _EFER_LMA, _EFER_NXE = 1 << 8, 1 << 10, 1 << 11

_CODE, _DATA = 0xB, 0x3  # segment types: execute/read and read/write, accessed


def enter(
    vcpu: Vcpu, pc: int, arguments: Iterable[int] = (), tables: PageTables | None = None
) -> None:
    """Set the registers to start at GVA `pc` in ring 0 with the GDT and page tables of `tables`.

    The tables must map themselves at their own GPA: the GDT behind them has a linear address.
    Raises `ValueError` without tables, because long mode requires paging.
    """
    if tables is None:
        raise ValueError("long mode needs page tables")
    registers.write(
        vcpu,
        {
            **_segment("cs", _CODE, selector=CODE_SELECTOR, l=1),
            **_segment("ds", _DATA, selector=DATA_SELECTOR, db=1),
            **_segment("ss", _DATA, selector=DATA_SELECTOR, db=1),
            **_segment("es", _DATA, selector=DATA_SELECTOR, db=1),
            **tables.registers,
            "cr0": _CR0_PE | _CR0_ET | _CR0_WP | _CR0_PG,
            "cr4": _CR4_PAE,
            "efer": _EFER_LME | _EFER_LMA | _EFER_NXE,
            "rip": pc,
            "rflags": _RFLAGS_RESERVED,
            # strict=False: there are usually fewer arguments than registers.
            **dict(zip(ARGUMENTS, arguments, strict=False)),
        },
    )


def _segment(name: str, kind: int, **members: int) -> dict[str, int]:
    """Return a present, flat ring-0 segment of 4 GiB with `members` of ``struct kvm_segment``."""
    flat = {"base": 0, "limit": 0xFFFF_FFFF, "g": 1, "db": 0, "l": 0, "s": 1, "dpl": 0}
    whole = flat | {"type": kind, "present": 1, "unusable": 0} | members
    return {f"{name}.{member}": value for member, value in whole.items()}
