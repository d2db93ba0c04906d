# SPDX-License-Identifier: GPL-2.0-only
"""The argument block of ``probe``, and the payload on KVM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.arch.page_tables import MemoryType, Window
from pyvmm.guest import probe
from pyvmm.guest.payload import Payload
from pyvmm.guest.probe import Op, Probe, ProbeOutcome, ProbeResult
from pyvmm.machine import ARGUMENT_BLOCK, MINIMUM_RAM, RAM_BASE, Machine

SCRATCH = RAM_BASE + 0x30_0000
UNMAPPED = RAM_BASE + MINIMUM_RAM
ALIASES = 0x5000_0000
NO_RAM = 0x6000_0000
PATTERN = 0x1122_3344_5566_7788

probes = st.builds(
    Probe,
    gva=st.integers(0, (1 << 64) - 1),
    width=st.sampled_from(probe.WIDTHS),
    op=st.sampled_from(Op),
    value=st.integers(0, 255),
)


@given(st.lists(probes, max_size=5))
def test_an_unused_block_unpacks_to_not_run(table: list[Probe]) -> None:
    found = probe.unpack(table, probe.pack(table))
    assert found == [ProbeResult(p, ProbeOutcome.NOT_RUN, p.value, 0, 0) for p in table]


@given(st.lists(probes, max_size=5), st.data())
def test_any_block_unpacks(table: list[Probe], data: st.DataObject) -> None:
    size = len(probe.pack(table))
    found = probe.unpack(table, data.draw(st.binary(min_size=size, max_size=size)))
    assert [result.probe for result in found] == table


@pytest.mark.parametrize(("width", "value"), [(3, 0), (0, 0), (16, 0), (1, 256), (4, 1 << 32)])
def test_an_invalid_probe_is_a_value_error(width: int, value: int) -> None:
    with pytest.raises(ValueError, match=r"wide|fit"):
        Probe(0, width, Op.WRITE, value)


def run(machine: Machine, *table: Probe) -> list[ProbeResult]:
    block = probe.pack(table)
    machine.load(Payload.builtin("probe", machine.arch.NAME))
    machine.enter(block)
    machine.run()
    return probe.unpack(table, machine.read(ARGUMENT_BLOCK, len(block)))


@pytest.mark.parametrize(
    ("width", "read", "after"),
    [
        (1, 0x88, 0x1122_3344_5566_77FF),
        (2, 0x7788, 0x1122_3344_5566_FFFF),
        (4, 0x5566_7788, 0x1122_3344_FFFF_FFFF),
        (8, PATTERN, 0xFFFF_FFFF_FFFF_FFFF),
    ],
)
def test_each_width_accesses_that_many_bytes(
    machine: Machine, width: int, read: int, after: int
) -> None:
    machine.write(SCRATCH, PATTERN.to_bytes(8, "little"))
    ones = (1 << 8 * width) - 1
    results = run(machine, Probe(SCRATCH, width), Probe(SCRATCH, width, Op.WRITE, ones))
    assert [result.outcome for result in results] == [ProbeOutcome.OK, ProbeOutcome.OK]
    assert results[0].value == read
    assert int.from_bytes(machine.read(SCRATCH, 8), "little") == after


def test_the_payload_continues_after_an_abort(machine: Machine) -> None:
    machine.write(SCRATCH, PATTERN.to_bytes(8, "little"))
    first, second, third = run(
        machine, Probe(UNMAPPED), Probe(UNMAPPED + 8, 8, Op.WRITE, 1), Probe(SCRATCH, 8)
    )
    assert (first.outcome, first.far) == (ProbeOutcome.ABORT, UNMAPPED)
    assert (second.outcome, second.far) == (ProbeOutcome.ABORT, UNMAPPED + 8)
    assert (third.outcome, third.value, third.syndrome) == (ProbeOutcome.OK, PATTERN, 0)


@pytest.mark.parametrize("width", probe.WIDTHS)
@pytest.mark.parametrize("op", Op)
def test_every_kind_of_access_can_abort(machine: Machine, width: int, op: Op) -> None:
    aborted, after = run(machine, Probe(UNMAPPED, width, op), Probe(SCRATCH))
    assert (aborted.outcome, after.outcome) == (ProbeOutcome.ABORT, ProbeOutcome.OK)


@pytest.mark.parametrize("memory_type", MemoryType)
def test_every_memory_type_accesses_the_memory(machine: Machine, memory_type: MemoryType) -> None:
    machine.write(SCRATCH, PATTERN.to_bytes(8, "little"))
    machine.windows.append(Window(ALIASES, SCRATCH, 0x1000, memory_type))
    [result] = run(machine, Probe(ALIASES, 8))
    assert (result.outcome, result.value) == (ProbeOutcome.OK, PATTERN)


def test_a_write_to_a_read_only_window_aborts(machine: Machine) -> None:
    machine.windows.append(Window(ALIASES, SCRATCH, 0x1000, writable=False))
    read, written = run(machine, Probe(ALIASES), Probe(ALIASES, 4, Op.WRITE, 1))
    assert (read.outcome, written.outcome) == (ProbeOutcome.OK, ProbeOutcome.ABORT)


@pytest.mark.needs_arch("aarch64")
def test_the_syndrome_of_a_permission_fault_on_arm64(machine: Machine) -> None:
    machine.windows.append(Window(ALIASES, SCRATCH, 0x1000, writable=False))
    [result] = run(machine, Probe(ALIASES, 4, Op.WRITE, 1))
    # EC: data abort without a change of EL; WnR; DFSC: permission fault, level 3.
    assert result.syndrome >> 26 == 0x25
    assert result.syndrome & 0x7F == 0x4F


@pytest.mark.needs_arch("x86_64")
def test_exceptions_on_x86_64(machine: Machine) -> None:
    machine.windows.append(Window(ALIASES, SCRATCH, 0x1000, writable=False))
    table = Probe(ALIASES, 4, Op.WRITE, 1), Probe(UNMAPPED), Probe(1 << 63)
    syndromes = [result.syndrome for result in run(machine, *table)]
    # #PF: write to a present page; read of an absent one. #GP: not a canonical address.
    assert syndromes == [14 << 16 | 0b11, 14 << 16, 13 << 16]


def test_a_probe_outside_all_memslots_is_an_mmio_exit(machine: Machine) -> None:
    class Register:
        def read(self, offset: int, size: int) -> int:
            return 0xCAFE

        def write(self, offset: int, size: int, value: int) -> None: ...

    machine.windows.append(Window(NO_RAM, NO_RAM, 0x1000, MemoryType.DEVICE))
    machine.mmio.attach(NO_RAM, 0x1000, Register())
    [result] = run(machine, Probe(NO_RAM))
    assert (result.outcome, result.value) == (ProbeOutcome.OK, 0xCAFE)
