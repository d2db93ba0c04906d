# SPDX-License-Identifier: GPL-2.0-only
"""Faults that depend on the guest's instruction: fetches, table walks, no valid syndrome."""

import os

from pyvmm import libc
from pyvmm.memory import PAGE_SIZE
from pyvmm.provoke.memory_faults import attach_device
from pyvmm.provoke.testbed import TARGET_GPA, Provocation, Testbed

_LDP_X4_X5_X2 = 0xA9401444
_STR_POST_INDEXED = 0xF8008444  # str x4, [x2], #8
_LDADD_W4_W5_X2 = 0xB8240045
_BLR_X2 = 0xD63F0040
_RET = 0xD65F03C0

_PAGE_TABLES_SIZE = 1 << 20  # bytes; more than the page tables need
_REGISTERS = (0, 0, TARGET_GPA)  # x0 to x2


def _load_pair(testbed: Testbed) -> None:
    attach_device(testbed)
    testbed.execute([_LDP_X4_X5_X2], _REGISTERS)


def _store_with_writeback(testbed: Testbed) -> None:
    attach_device(testbed)
    testbed.execute([_STR_POST_INDEXED], _REGISTERS)


def _add_atomically(testbed: Testbed) -> None:
    attach_device(testbed)
    testbed.execute([_LDADD_W4_W5_X2], _REGISTERS)


def _load_pair_outside_memslots(testbed: Testbed) -> None:
    testbed.map_target()
    testbed.execute([_LDP_X4_X5_X2], _REGISTERS)


def _unmap_code(testbed: Testbed) -> None:
    hva, fd = testbed.add_file()
    os.pwrite(fd, _RET.to_bytes(4, "little"), 0)
    testbed.execute([_BLR_X2], _REGISTERS, before_run=lambda: libc.munmap(hva, PAGE_SIZE))


def _unmap_page_tables(testbed: Testbed) -> None:
    hva, fd = testbed.add_file(_PAGE_TABLES_SIZE)
    machine = testbed.machine

    def move_tables() -> None:
        tables = machine.arch.build_page_tables(TARGET_GPA, machine.windows)
        os.pwrite(fd, tables.image, 0)
        machine.arch.write(machine.vcpu, tables.registers)
        libc.munmap(hva, _PAGE_TABLES_SIZE)

    testbed.execute([], _REGISTERS, before_run=move_tables)


PROVOCATIONS = (
    Provocation("pair", "LDP from a device of the VMM's", "mmio-no-syndrome", _load_pair),
    Provocation(
        "writeback",
        "STR with writeback to such a device",
        "mmio-no-syndrome",
        _store_with_writeback,
    ),
    Provocation("atomic", "LDADD to such a device", "mmio-no-syndrome", _add_atomically),
    Provocation(
        "pair-outside", "LDP where no one is", "outside-memslots", _load_pair_outside_memslots
    ),
    Provocation(
        "code-unmapped", "a call into memory that is unmapped", "hva-unmapped", _unmap_code
    ),
    Provocation(
        "table-unmapped", "the guest's page tables unmapped", "hva-unmapped", _unmap_page_tables
    ),
)
