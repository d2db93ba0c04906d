# SPDX-License-Identifier: GPL-2.0-only
"""What depends on the guest's instruction: code, page tables, and accesses that say too little."""

import os

from pyvmm.memory import PAGE_SIZE
from pyvmm.provoke import raw_mmap
from pyvmm.provoke.memory_faults import register
from pyvmm.provoke.testbed import WHERE, Provocation, Testbed

_LDP_X4_X5_X2 = 0xA9401444
_STR_POST_INDEXED = 0xF8008444  # str x4, [x2], #8
_LDADD_W4_W5_X2 = 0xB8240045
_BLR_X2 = 0xD63F0040
_RET = 0xD65F03C0

_TABLES_SIZE = 1 << 20  # bytes, more than they take
_AT_WHERE = (0, 0, WHERE)  # x0 to x2


def _pair(testbed: Testbed) -> None:
    register(testbed)
    testbed.carry_out([_LDP_X4_X5_X2], _AT_WHERE)


def _writeback(testbed: Testbed) -> None:
    register(testbed)
    testbed.carry_out([_STR_POST_INDEXED], _AT_WHERE)


def _atomic(testbed: Testbed) -> None:
    register(testbed)
    testbed.carry_out([_LDADD_W4_W5_X2], _AT_WHERE)


def _pair_outside(testbed: Testbed) -> None:
    testbed.open_window()
    testbed.carry_out([_LDP_X4_X5_X2], _AT_WHERE)


def _code(testbed: Testbed) -> None:
    hva, fd = testbed.file()
    os.pwrite(fd, _RET.to_bytes(4, "little"), 0)
    testbed.carry_out([_BLR_X2], _AT_WHERE, after=lambda: raw_mmap.unmap(hva, PAGE_SIZE))


def _table(testbed: Testbed) -> None:
    hva, fd = testbed.file(_TABLES_SIZE)
    machine = testbed.machine

    def move_tables() -> None:
        tables = machine.arch.build_page_tables(WHERE, machine.windows)
        os.pwrite(fd, tables.image, 0)
        machine.arch.write(machine.vcpu, tables.registers)
        raw_mmap.unmap(hva, _TABLES_SIZE)

    testbed.carry_out([], _AT_WHERE, after=move_tables)


PROVOCATIONS = (
    Provocation("pair", "LDP from a device of the VMM's", "mmio-no-syndrome", _pair),
    Provocation("writeback", "STR with writeback to such a device", "mmio-no-syndrome", _writeback),
    Provocation("atomic", "LDADD to such a device", "mmio-no-syndrome", _atomic),
    Provocation("pair-outside", "LDP where no one is", "outside-memslots", _pair_outside),
    Provocation("code-unmapped", "a call into memory that is unmapped", "hva-unmapped", _code),
    Provocation("table-unmapped", "the guest's page tables unmapped", "hva-unmapped", _table),
)
