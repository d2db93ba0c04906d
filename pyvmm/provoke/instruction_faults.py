# SPDX-License-Identifier: GPL-2.0-only
"""Faults that depend on the guest's instruction: fetches, table walks, no valid syndrome."""

import os
import struct
from collections.abc import Callable
from typing import TypeAlias

from pyvmm import libc
from pyvmm.errors import SkippedError
from pyvmm.memory import PAGE_SIZE, PROT_READ
from pyvmm.provoke.bar_faults import VFIO_PCI, map_memslot_bar
from pyvmm.provoke.memory_faults import attach_device
from pyvmm.provoke.testbed import TARGET_GPA, Provocation, Testbed

_LDP_X4_X5_X2 = 0xA9401444
_STR_POST_INDEXED = 0xF8008444  # str x4, [x2], #8
_LDADD_W4_W5_X2 = 0xB8240045
_LDADD_X4_X5_X2 = 0xF8240045
_LDXR_X4_X2 = 0xC85F7C44
_STXR_W6_X4_X2 = 0xC8067C44
_CAS_X4_X5_X2 = 0xC8A47C45
_BLR_X2 = 0xD63F0040
_RET = 0xD65F03C0

_PAGE_TABLES_SIZE = 1 << 20  # bytes; more than the page tables need
_REGISTERS = (0, 0, TARGET_GPA)  # x0 to x2

# Bits of a leaf descriptor and of TCR_EL1. A table descriptor has no AF: bit 10 is RES0.
_ACCESS_FLAG, _READ_ONLY, _DBM = 1 << 10, 1 << 7, 1 << 51
_TCR_HA, _TCR_HD = 1 << 39, 1 << 40

_QEMU_ATOMIC = "QEMU's CPUs, which support atomics and exclusives on all memory"

Provoke: TypeAlias = Callable[[Testbed], None]


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

    def move_tables() -> None:
        _move_tables(testbed, fd)
        libc.munmap(hva, _PAGE_TABLES_SIZE)

    testbed.execute([], _REGISTERS, before_run=move_tables)


def _move_tables(
    testbed: Testbed, fd: int, change: Callable[[int], int] = lambda leaf: leaf, tcr: int = 0
) -> None:
    """Write the guest's page tables to `fd`, `change` their leaves, and set the bits `tcr`."""
    machine = testbed.machine
    tables = machine.arch.build_page_tables(TARGET_GPA, machine.windows)
    entries = [
        change(entry) if entry & _ACCESS_FLAG else entry
        for (entry,) in struct.iter_unpack("<Q", tables.image)
    ]
    os.pwrite(fd, struct.pack(f"<{len(entries)}Q", *entries), 0)
    registers = dict(tables.registers)
    machine.arch.write(machine.vcpu, {**registers, "TCR_EL1": registers["TCR_EL1"] | tcr})


def _set_flags_by_hardware(change: Callable[[int], int], level: int, tcr: int) -> Provoke:
    """Return a provocation: the walk updates a descriptor that the host cannot write.

    `level` is the least ID_AA64MMFR1_EL1.HAFDBS that the update needs.
    """

    def provoke(testbed: Testbed) -> None:
        hva, fd = testbed.add_file(_PAGE_TABLES_SIZE)

        def move_tables() -> None:
            machine = testbed.machine
            if machine.arch.read(machine.vcpu, "ID_AA64MMFR1_EL1") & 0xF < level:
                raise SkippedError(f"needs a CPU with ID_AA64MMFR1_EL1.HAFDBS {level}: --cpu max")
            _move_tables(testbed, fd, change, tcr)
            libc.mprotect(hva, _PAGE_TABLES_SIZE, PROT_READ)

        testbed.execute([], _REGISTERS, before_run=move_tables)

    return provoke


def _execute_on_bar(*words: int) -> Provoke:
    """Return a provocation: instructions on a BAR at the address in x2."""

    def provoke(testbed: Testbed) -> None:
        testbed.need_device_memory()
        bar = map_memslot_bar(testbed, testbed.assign(VFIO_PCI))
        testbed.execute(words, (0, 0, bar.gpa))

    return provoke


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
    Provocation(
        "table-accessed",
        "the guest's page tables read-only, and the walk sets AF",
        "hva-read-only",
        _set_flags_by_hardware(lambda leaf: leaf & ~_ACCESS_FLAG, 1, _TCR_HA),
    ),
    Provocation(
        "table-dirtied",
        "the guest's page tables read-only, and the walk marks a page dirty (DBM)",
        "hva-read-only",
        _set_flags_by_hardware(lambda leaf: leaf | _READ_ONLY | _DBM, 2, _TCR_HA | _TCR_HD),
    ),
    Provocation(
        "bar-atomic",
        "LDADD to a BAR",
        "device-atomic",
        _execute_on_bar(_LDADD_X4_X5_X2),
        resolved_by=_QEMU_ATOMIC,
    ),
    Provocation(
        "bar-exclusive",
        "LDXR and STXR to a BAR",
        "device-atomic",
        _execute_on_bar(_LDXR_X4_X2, _STXR_W6_X4_X2),
        resolved_by=_QEMU_ATOMIC,
    ),
    Provocation(
        "bar-compare-and-swap",
        "CAS to a BAR",
        "device-atomic",
        _execute_on_bar(_CAS_X4_X5_X2),
        resolved_by=_QEMU_ATOMIC,
    ),
)
