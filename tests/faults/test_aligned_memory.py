# SPDX-License-Identifier: GPL-2.0-only
"""Unaligned accesses to memory that only stage 2 maps as Device: a BAR mapped through sysfs."""

import ctypes
import io
import os
from collections.abc import Iterator
from typing import TypeAlias

import pytest

from pyvmm.arch.page_tables import identity
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always
from pyvmm.guest import snippet
from pyvmm.kvm import System
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.vma import vmas
from pyvmm.passthrough import AssignedDevice
from tests.devices import Find
from tests.faults.tracing import traced

pytestmark = pytest.mark.needs_arch("aarch64")

Words: TypeAlias = "ctypes.Array[ctypes.c_uint64]"

GPA = 1 << 36  # above every BAR
SIZE = 2 * PAGE_SIZE
CONTENT = bytes(n * 7 % 251 for n in range(SIZE))

LDRH_W4_X2 = 0x79400044
LDR_X4_X2 = 0xF9400044
LDR_X4_X2_8_AFTER = 0xF8408444  # ldr x4, [x2], #8
LDP_X4_X5_X2 = 0xA9401444
STR_X4_X2 = 0xF9000044
STP_X4_X5_X2 = 0xA9001444

ALIGNMENT_FAULT = 0x21  # ESR_EL2.DFSC
EXTERNAL_ABORT = 0x10

X4, X5 = 0x4444_3333_2222_1111, 0x8888_7777_6666_5555


@pytest.fixture
def machine(kvm: System) -> Iterator[Machine]:
    with Machine(kvm, console=io.BytesIO()) as machine:
        yield machine


@pytest.fixture
def device(kvm: System, machine: Machine, find: Find) -> Iterator[AssignedDevice]:
    """Open a device whose BAR0 is RAM with vfio, which enables its memory space."""
    with AssignedDevice(machine, str(find("bochs"))) as device:
        yield device


@pytest.fixture
def words(machine: Machine, device: AssignedDevice) -> Iterator[Words]:
    """Register the BAR at `GPA`, filled with `CONTENT`; this process maps it as Device, too."""
    fd = os.open(device.device.function.path / "resource0", os.O_RDWR | os.O_CLOEXEC)
    try:
        memory = Mapping.of_file(fd, SIZE)
    except OSError:
        pytest.skip("sysfs cannot map a BAR that vfio uses (CONFIG_IO_STRICT_DEVMEM)")
    finally:
        os.close(fd)
    with memory:
        words = (ctypes.c_uint64 * (SIZE // 8)).from_address(memory.hva)
        for n in range(len(words)):
            words[n] = int.from_bytes(CONTENT[8 * n :][:8], "little")
        machine.vm.memslots.add(GPA, memory)
        machine.windows.append(identity(GPA, SIZE))
        yield words


def content(words: Words) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


def execute(machine: Machine, word: int, x2: int) -> snippet.SnippetResult:
    """Run one instruction with x2, x4 and x5 set; return the guest's result."""
    machine.load(snippet.payload([word]))
    block = snippet.pack([0, 0, x2, 0, X4, X5])
    machine.enter(block)
    machine.run()
    return snippet.unpack(machine.read(ARGUMENT_BLOCK, len(block)))


def only_fault(machine: Machine) -> tuple[str, str, str]:
    """Return cause, fix and outcome of the only fault."""
    [record] = machine.faults.records
    return record.fault.cause, record.fix, record.outcome


EMULATED = ("device-unaligned", "emulate", "resolved")


@pytest.mark.parametrize("at", [1, 2, 4, 7, PAGE_SIZE - 4])
def test_an_unaligned_read_returns_the_bytes(machine: Machine, words: Words, at: int) -> None:
    result = execute(machine, LDR_X4_X2, GPA + at)
    assert result.registers[4].to_bytes(8, "little") == CONTENT[at : at + 8]
    assert only_fault(machine) == EMULATED


@pytest.mark.parametrize(
    ("word", "at", "size"),
    [(LDRH_W4_X2, 3, 2), (LDR_X4_X2_8_AFTER, 4, 8), (LDP_X4_X5_X2, 4, 16)],
)
def test_registers_after_unaligned_loads(
    machine: Machine, words: Words, word: int, at: int, size: int
) -> None:
    registers = execute(machine, word, GPA + at).registers
    loaded = b"".join(register.to_bytes(8, "little") for register in registers[4:6])
    assert loaded[:size] == CONTENT[at : at + size]
    assert registers[2] - (GPA + at) == (8 if word == LDR_X4_X2_8_AFTER else 0)
    assert only_fault(machine) == EMULATED


@pytest.mark.parametrize(("word", "at", "size"), [(STR_X4_X2, 5, 8), (STP_X4_X5_X2, 4092, 16)])
def test_an_unaligned_write_changes_only_its_bytes(
    machine: Machine, words: Words, word: int, at: int, size: int
) -> None:
    execute(machine, word, GPA + at)
    written = X4.to_bytes(8, "little") + X5.to_bytes(8, "little")
    assert content(words) == CONTENT[:at] + written[:size] + CONTENT[at + size :]
    assert only_fault(machine) == EMULATED


def test_a_pair_of_aligned_elements_does_not_fault(machine: Machine, words: Words) -> None:
    """The memslot stays after an emulation, so aligned accesses cause no exit."""
    execute(machine, LDR_X4_X2, GPA + 4)
    result = execute(machine, LDP_X4_X5_X2, GPA + 8)
    assert result.registers[5].to_bytes(8, "little") == CONTENT[16:24]
    assert machine.faults.counts.total() == 1
    assert machine.vm.memslots.at(GPA)


def test_the_cpu_reports_an_alignment_fault(machine: Machine, words: Words) -> None:
    with traced() as trace:
        trace.clear()
        execute(machine, LDR_X4_X2, GPA + 4)
        fault = trace.faults()[-1]
    assert (fault.ipa, fault.far, fault.esr & 0x3F) == (GPA, GPA + 4, ALIGNMENT_FAULT)


def test_replay_is_not_offered(machine: Machine, words: Words) -> None:
    machine.faults.policy = always(Fix.REPLAY)
    execute(machine, LDR_X4_X2, GPA + 4)
    assert only_fault(machine) == ("device-unaligned", "stop", "stopped")
    assert "possible: emulate, inject" in machine.faults.records[0].how


def test_an_injected_abort_reaches_the_guest(machine: Machine, words: Words) -> None:
    machine.faults.policy = always(Fix.INJECT)
    result = execute(machine, LDR_X4_X2, GPA + 4)
    assert (result.outcome, result.far) == (snippet.SnippetOutcome.EXCEPTION, GPA + 4)
    assert result.syndrome & 0x3F == EXTERNAL_ABORT


def test_an_unaligned_read_through_vfio(machine: Machine, device: AssignedDevice) -> None:
    """Stage 2 is Normal-NC if vfio-pci sets VM_ALLOW_ANY_UNCACHED, since Linux 6.9; else Device."""
    bar = device.bars[0]
    bar.region.write(0, CONTENT[:16])
    machine.windows.append(identity(bar.gpa, PAGE_SIZE))
    result = execute(machine, LDR_X4_X2, bar.gpa + 4)
    assert result.registers[4].to_bytes(8, "little") == CONTENT[4:12]
    [vma] = vmas(bar.mapping.memory.hva, PAGE_SIZE)
    if vma.any_uncached:
        assert machine.faults.records == []
    else:
        assert only_fault(machine) == EMULATED
