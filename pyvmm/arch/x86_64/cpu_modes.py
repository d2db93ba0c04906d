# SPDX-License-Identifier: GPL-2.0-only
"""The modes that a vCPU can start in: real, 32-bit protected, 64-bit long.

Intel SDM volume 3, chapters 3.4.5 (segment descriptors) and 10.8.5 (initializing IA-32e mode).
"""

from collections.abc import Iterable

from pyvmm.arch.page_tables import Translation
from pyvmm.arch.x86_64 import registers
from pyvmm.arch.x86_64.paging import CODE_SELECTOR, DATA_SELECTOR
from pyvmm.kvm.vcpu import Vcpu

ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")  # as the System V ABI has them

_RFLAGS_RESERVED = 1 << 1  # always set; without IF, interrupts are masked
_CR0_PE, _CR0_ET, _CR0_WP, _CR0_PG = 1 << 0, 1 << 4, 1 << 16, 1 << 31
_CR4_PAE = 1 << 5
_EFER_LME, _EFER_LMA, _EFER_NXE = 1 << 8, 1 << 10, 1 << 11

_CODE, _DATA = 0xB, 0x3  # segment types: execute/read and read/write, accessed
_REAL_MODE_END = 1 << 20


def enter_long(
    vcpu: Vcpu, pc: int, arguments: Iterable[int] = (), translation: Translation | None = None
) -> None:
    """Start at `pc` in 64-bit long mode, ring 0, with `translation`'s tables and GDT.

    The tables have to map themselves where they lie: the GDT behind them has a linear address.
    Raises `ValueError` without a translation: long mode has no life without paging.
    """
    if translation is None:
        raise ValueError("long mode needs page tables")
    registers.write(
        vcpu,
        {
            **_segment("cs", _CODE, selector=CODE_SELECTOR, l=1),
            **_segment("ds", _DATA, selector=DATA_SELECTOR, db=1),
            **_segment("ss", _DATA, selector=DATA_SELECTOR, db=1),
            **_segment("es", _DATA, selector=DATA_SELECTOR, db=1),
            **translation.registers,
            "cr0": _CR0_PE | _CR0_ET | _CR0_WP | _CR0_PG,
            "cr4": _CR4_PAE,
            "efer": _EFER_LME | _EFER_LMA | _EFER_NXE,
            **_start(pc, arguments),
        },
    )


def enter_protected(vcpu: Vcpu, gpa: int, arguments: Iterable[int] = ()) -> None:
    """Start at the byte at `gpa` in 32-bit protected mode without paging.

    CS, DS and SS begin there, so that the payload finds itself at 0; ES covers all GPAs.
    """
    registers.write(
        vcpu,
        {
            **_segment("cs", _CODE, selector=CODE_SELECTOR, base=gpa, db=1),
            **_segment("ds", _DATA, selector=DATA_SELECTOR, base=gpa, db=1),
            **_segment("ss", _DATA, selector=DATA_SELECTOR, base=gpa, db=1),
            **_segment("es", _DATA, selector=DATA_SELECTOR, db=1),
            "cr0": _CR0_PE | _CR0_ET,
            "cr4": 0,
            "efer": 0,
            **_start(0, arguments),
        },
    )


def enter_real(vcpu: Vcpu, gpa: int, arguments: Iterable[int] = ()) -> None:
    """Start at the byte at `gpa`, a multiple of 16 below 1 MiB, in real mode.

    CS, DS and SS begin there, so that the payload finds itself at 0; ES begins at GPA 0.
    """
    if gpa % 16 or gpa >= _REAL_MODE_END:
        raise ValueError(f"real mode reaches multiples of 16 below 1 MiB, not GPA {gpa:#x}")
    # A segment's selector says its base here, and hardware insists on it.
    own = {"base": gpa, "selector": gpa >> 4, "limit": 0xFFFF, "g": 0}
    registers.write(
        vcpu,
        {
            **_segment("cs", _CODE, **own),
            **_segment("ds", _DATA, **own),
            **_segment("ss", _DATA, **own),
            **_segment("es", _DATA, **own | {"base": 0, "selector": 0}),
            "cr0": _CR0_ET,
            "cr4": 0,
            "efer": 0,
            **_start(0, arguments),
        },
    )


def _start(pc: int, arguments: Iterable[int]) -> dict[str, int]:
    # strict=False: fewer arguments than registers is the usual case.
    return {
        "rip": pc,
        "rflags": _RFLAGS_RESERVED,
        **dict(zip(ARGUMENTS, arguments, strict=False)),
    }


def _segment(name: str, kind: int, **members: int) -> dict[str, int]:
    """A present ring-0 code or data segment of 4 GiB from 0, but for what `members` say."""
    flat = {"base": 0, "limit": 0xFFFF_FFFF, "g": 1, "db": 0, "l": 0, "s": 1, "dpl": 0}
    whole = flat | {"type": kind, "present": 1, "unusable": 0} | members
    return {f"{name}.{member}": value for member, value in whole.items()}
