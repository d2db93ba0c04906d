# SPDX-License-Identifier: GPL-2.0-only
"""An MMU to compare the walk with: AT instructions in Unicorn (QEMU 5.0) and their PAR_EL1.

The AT instruction is fetched from the *other* half of the address space, which maps memory flat,
so that the half under test can have any tables.
"""

import struct
from dataclasses import dataclass

from unicorn import UC_ARCH_ARM64, UC_HOOK_INTR, UC_MODE_ARM, Uc
from unicorn import arm64_const as uc

MEMORY_SIZE = 0x20_0000
CODE = 0x1000
FLAT_TABLE = 0x2000
TABLES = range(0x10_0000, MEMORY_SIZE)  # for the test to fill

# 4 KiB granule, 39 bits: one block of 1 GiB, EL1 only.
FLAT_SIZE = 25
FLAT_BLOCK = 1 << 10 | 0b01
HIGH_HALF = (1 << 64) - (1 << (64 - FLAT_SIZE))

_REGISTERS = {
    "sctlr_el1": (3, 0, 1, 0, 0),
    "ttbr0_el1": (3, 0, 2, 0, 0),
    "ttbr1_el1": (3, 0, 2, 0, 1),
    "tcr_el1": (3, 0, 2, 0, 2),
    "mair_el1": (3, 0, 10, 2, 0),
    "par_el1": (3, 0, 7, 4, 0),
    "hcr_el2": (3, 4, 1, 1, 0),
    "scr_el3": (3, 6, 1, 1, 0),
}
_HCR_RW = 1 << 31  # EL1 is AArch64
_SCR_NS_RW = 1 << 10 | 1 << 0  # not secure: QEMU 5.0 has no TTBR1 for secure EL1
_SCTLR_RES1 = 0x30D0_0800

# AT of x0 by exception level and access; each instruction has its own address.
_AT = {
    (1, "r"): 0xD5087800,  # s1e1r
    (1, "w"): 0xD5087820,  # s1e1w
    (0, "r"): 0xD5087840,  # s1e0r
    (0, "w"): 0xD5087860,  # s1e0w
}
_PROGRAMS = {key: CODE + n * 4 for n, key in enumerate(_AT)}


@dataclass(frozen=True)
class AtResult:
    """PAR_EL1 after an AT instruction (DDI 0487)."""

    par: int

    @property
    def failed(self) -> bool:
        """Return True if the translation failed (F)."""
        return bool(self.par & 1)

    @property
    def fault(self) -> tuple[int, int]:
        """Return FST: the class (1 translation, 2 access flag, 3 permission) and the level."""
        status = self.par >> 1 & 0x3F
        return status >> 2, status & 3

    @property
    def page(self) -> int:
        """Return PA, bits 47:12."""
        return self.par & 0xFFFF_FFFF_F000

    @property
    def attribute(self) -> int:
        """Return ATTR, encoded as in MAIR_EL1."""
        return self.par >> 56


class Mmu:
    """An emulated CPU that executes AT instructions."""

    def __init__(self) -> None:
        self._cpu = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        self._cpu.ctl_set_cpu_model(uc.UC_CPU_ARM64_MAX)
        self._cpu.mem_map(0, MEMORY_SIZE)
        self._cpu.mem_write(FLAT_TABLE, struct.pack("<Q", FLAT_BLOCK))
        for key, address in _PROGRAMS.items():
            self._cpu.mem_write(address, struct.pack("<I", _AT[key]))
        self._cpu.hook_add(UC_HOOK_INTR, self._interrupted)
        self._write("hcr_el2", _HCR_RW)
        self._write("scr_el3", _SCR_NS_RW)

    def fill(self, tables: bytes) -> None:
        """Write guest page tables to `TABLES`."""
        self._cpu.mem_write(TABLES.start, tables)

    def read(self, ipa: int, size: int) -> bytes | None:
        """Read guest memory for the walk."""
        if not 0 <= ipa <= MEMORY_SIZE - size:
            return None
        return bytes(self._cpu.mem_read(ipa, size))

    def translate(self, registers: dict[str, int], va: int, el: int, access: str) -> AtResult:
        """Execute AT for an access ("r" or "w") from EL0 or EL1."""
        for name, value in registers.items():
            self._write(name, value)
        # Disabling and enabling the MMU makes Unicorn flush its TLB.
        self._write("sctlr_el1", _SCTLR_RES1)
        self._write("sctlr_el1", _SCTLR_RES1 | registers["sctlr_el1"])
        self._cpu.reg_write(uc.UC_ARM64_REG_X0, va)
        start = _PROGRAMS[el, access] + (0 if va >> 55 & 1 else HIGH_HALF)
        self._cpu.emu_start(start, 0, count=1)
        return AtResult(self._cpu.reg_read(uc.UC_ARM64_REG_CP_REG, self._key("par_el1")))

    def _write(self, name: str, value: int) -> None:
        self._cpu.reg_write(uc.UC_ARM64_REG_CP_REG, (*self._key(name), value))

    def _key(self, name: str) -> tuple[int, ...]:
        op0, op1, crn, crm, op2 = _REGISTERS[name]
        return crn, crm, op0, op1, op2

    def _interrupted(self, cpu: Uc, number: int, _: object) -> None:
        cpu.emu_stop()
        raise AssertionError(f"the oracle took exception {number}")
