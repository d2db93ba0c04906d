# SPDX-License-Identifier: GPL-2.0-only
"""Guest memory as an emulated instruction accesses it: memslots, BARs behind them, devices."""

import io
import os
import struct
from collections.abc import Iterator, Sequence

import pytest

from pyvmm.arch.native import native
from pyvmm.arch.page_tables import identity
from pyvmm.bus import Bus
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.guest_memory import BackedDevice, GuestMemory, gpa_of, page_of, peek_guest
from pyvmm.guest import snippet
from pyvmm.kvm import System, Vm
from pyvmm.machine import ARGUMENT_BLOCK, Machine
from pyvmm.memory import PAGE_SIZE, PROT_NONE, Mapping
from pyvmm.passthrough import AssignedDevice
from pyvmm.uapi.kvm import KVM_VM_TYPE_ARM_PROTECTED
from tests.devices import Find

GPA = 0x1000_0000
SIZE = 4 * PAGE_SIZE
BUS = GPA + SIZE

LDP_X4_X5_X2 = 0xA9401444
STP_X4_X5_X2 = 0xA9001444
VALUES = (0x4444_3333_2222_1111, 0x8888_7777_6666_5555)  # of x4 and x5


class FileRegion:
    """A `Backing` that is a file, with the offsets of its mapping."""

    name = "file"
    is_ram = False

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        os.pwrite(self.fd, data, offset)

    def failure(self) -> str | None:
        return None


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("region")
    os.ftruncate(fd, SIZE)
    yield fd
    os.close(fd)


@pytest.fixture
def context(vm: Vm) -> VcpuContext:
    return VcpuContext(vm, vm.create_vcpu(), native(), Bus())


@pytest.fixture
def memory(context: VcpuContext) -> Iterator[Mapping]:
    """Memory in two memslots with adjacent GPAs, in reverse order of their HVAs."""
    with Mapping.anonymous(SIZE) as memory:
        memslots, half = context.vm.memslots, SIZE // 2
        memslots.add(GPA, memory, at=half, size=half)
        memslots.add(GPA + half, memory, at=0, size=half)
        yield memory


@pytest.fixture
def region(context: VcpuContext, file: int) -> Iterator[Mapping]:
    """Register an inaccessible mapping of a file at `GPA`, with the file as its backing."""
    with Mapping.of_file(file, SIZE) as region:
        region.backing = FileRegion(file)
        context.vm.memslots.add(GPA, region, at=PAGE_SIZE, size=SIZE - PAGE_SIZE)
        region.protect(PROT_NONE)
        yield region


def test_peek_spans_adjacent_memslots(context: VcpuContext, memory: Mapping) -> None:
    memory.write(SIZE - 2, b"ab")
    memory.write(0, b"cd")
    assert peek_guest(context.vm.memslots, GPA + SIZE // 2 - 2, 4) == b"abcd"


def test_peek_needs_every_byte(context: VcpuContext, memory: Mapping) -> None:
    assert peek_guest(context.vm.memslots, GPA + SIZE - 2, 4) is None
    memory.protect(PROT_NONE, at=0, size=PAGE_SIZE)
    assert peek_guest(context.vm.memslots, GPA + SIZE // 2 - 2, 4) is None


def test_memory_of_a_protected_guest_is_not_touched(context: VcpuContext, memory: Mapping) -> None:
    memory.write(SIZE // 2, b"kept")
    context.vm.vm_type |= KVM_VM_TYPE_ARM_PROTECTED
    guest = GuestMemory(context)
    assert guest.peek(GPA, 4) is None
    assert guest.read(GPA, 4) is None
    assert not guest.write(GPA, b"lost")
    assert memory.read(SIZE // 2, 4) == b"kept"


def test_memory_is_read_and_written(context: VcpuContext, memory: Mapping) -> None:
    guest = GuestMemory(context)
    assert guest.write(GPA + 8, b"data")
    assert memory.read(SIZE // 2 + 8, 4) == guest.read(GPA + 8, 4) == b"data"


def test_a_device_is_read_and_written(context: VcpuContext, file: int) -> None:
    context.mmio.attach(BUS, PAGE_SIZE, BackedDevice(FileRegion(file), PAGE_SIZE))
    guest = GuestMemory(context)
    assert guest.write(BUS + 4, b"data")
    assert os.pread(file, 4, PAGE_SIZE + 4) == guest.read(BUS + 4, 4) == b"data"
    assert guest.peek(BUS + 4, 4) is None


def test_nothing_responds_elsewhere(context: VcpuContext) -> None:
    guest = GuestMemory(context)
    assert guest.read(BUS, 4) is None
    assert not guest.write(BUS, b"data")


def test_inaccessible_memory_does_not_respond(context: VcpuContext, memory: Mapping) -> None:
    memory.protect(PROT_NONE)
    guest = GuestMemory(context)
    assert guest.read(GPA, 4) is None
    assert not guest.write(GPA, b"data")


def test_a_write_to_a_read_only_slot_goes_to_the_device(context: VcpuContext, file: int) -> None:
    context.mmio.attach(GPA, SIZE, BackedDevice(FileRegion(file), 0))
    with Mapping.anonymous(SIZE) as memory:
        context.vm.memslots.add(GPA, memory, readonly=True)
        guest = GuestMemory(context)
        assert guest.write(GPA, b"data")
        assert guest.read(GPA, 4) == bytes(4)
    assert os.pread(file, 4, 0) == b"data"


def test_a_region_is_accessed_behind_its_memslot(
    context: VcpuContext, region: Mapping, file: int
) -> None:
    guest = GuestMemory(context)
    assert guest.write(GPA + 8, b"data")
    assert os.pread(file, 4, PAGE_SIZE + 8) == guest.read(GPA + 8, 4) == b"data"
    assert guest.peek(GPA + 8, 4) is None


def test_a_private_copy_is_accessed_instead_of_its_region(
    context: VcpuContext, region: Mapping, file: int
) -> None:
    region.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)
    guest = GuestMemory(context)
    assert guest.write(GPA, b"data")
    assert guest.read(GPA, 4) == b"data"
    assert os.pread(file, 4, PAGE_SIZE) == bytes(4)


def test_a_region_that_fails_does_not_respond(context: VcpuContext, region: Mapping) -> None:
    region.backing = FileRegion(-1)  # EBADF
    guest = GuestMemory(context)
    assert guest.read(GPA, 4) is None
    assert not guest.write(GPA, b"data")


def test_a_device_that_fails_reads_as_all_ones() -> None:
    device = BackedDevice(FileRegion(-1), 0)
    assert device.read(0, 2) == 0xFFFF
    device.write(0, 2, 0)
    assert device.failures == 2


def test_gpa_of_an_hva(context: VcpuContext, memory: Mapping) -> None:
    assert gpa_of(context.vm.memslots, memory.hva + 5) == GPA + SIZE // 2 + 5
    assert gpa_of(context.vm.memslots, memory.hva + SIZE) is None


def test_page_of_an_address() -> None:
    assert page_of(2 * PAGE_SIZE + 7) == 2 * PAGE_SIZE


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize(
    ("word", "in_bars", "in_registers"),
    [(LDP_X4_X5_X2, VALUES, (0, 0)), (STP_X4_X5_X2, (0, 0), VALUES)],
    ids=["ldp", "stp"],
)
def test_an_access_may_cross_from_a_registered_bar_into_an_emulated_one(
    kvm: System, find: Find, word: int, in_bars: Sequence[int], in_registers: Sequence[int]
) -> None:
    """Without FWB, KVM rejects BAR4, so it is emulated; BAR2 is a memslot and ends there."""
    with Machine(kvm, console=io.BytesIO()) as machine:
        with AssignedDevice(machine, str(find("grace"))) as device:
            bar2, bar4 = (bar for bar in device.bars if bar.region.name in ("BAR2", "BAR4"))
            assert bar2.gpa + bar2.region.size == bar4.gpa
            at = bar2.region.size - 8
            before = bar2.region.read(at, 8), bar4.region.read(0, 8)
            bar2.region.write(at, in_bars[0].to_bytes(8, "little"))
            bar4.region.write(0, in_bars[1].to_bytes(8, "little"))
            machine.windows.append(identity(bar4.gpa - PAGE_SIZE, 2 * PAGE_SIZE))
            machine.load(snippet.payload([word]))
            block = snippet.pack([0, 0, bar4.gpa - 8, 0, *in_registers])
            try:
                machine.enter(block)
                machine.run()
                result = snippet.unpack(machine.read(ARGUMENT_BLOCK, len(block)))
                data = bar2.region.read(at, 8) + bar4.region.read(0, 8)
            finally:  # other tests read these BARs
                bar2.region.write(at, before[0])
                bar4.region.write(0, before[1])
    assert [record.outcome for record in machine.faults.records] in ([], ["resolved"])
    assert result.outcome is snippet.SnippetOutcome.OK
    assert result.registers[4:6] == VALUES
    assert struct.unpack("<2Q", data) == VALUES
