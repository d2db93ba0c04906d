# SPDX-License-Identifier: GPL-2.0-only
"""The actions behind the remedies, on memory that backs a memslot. No guest runs."""

import errno
import mmap
import os
from collections.abc import Iterator

import pytest

from pyvmm import libc
from pyvmm.arch.native import native
from pyvmm.bus import Bus
from pyvmm.faults import repairs
from pyvmm.faults.access_facts import GuestAccessFacts, facts_of
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.report import FaultReport
from pyvmm.ioctl import IoctlError
from pyvmm.kvm import Vm
from pyvmm.kvm.exits import MemoryFault, RunFailure
from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.peek import peek, poke
from pyvmm.memory.vma import vmas
from pyvmm.uapi.kvm import (
    GUEST_MEMFD_FLAG_INIT_SHARED,
    GUEST_MEMFD_FLAG_MMAP,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_GUEST_MEMFD_FLAGS,
    KVM_CAP_MEMORY_ATTRIBUTES,
)

GPA = 0x1000_0000
SIZE = 4 * PAGE_SIZE
SECOND = GPA + PAGE_SIZE  # the page that is broken
OFFSET = PAGE_SIZE  # its offset


@pytest.fixture
def context(vm: Vm) -> VcpuContext:
    return VcpuContext(vm, vm.create_vcpu(), native(), Bus())


@pytest.fixture
def memory(vm: Vm) -> Iterator[Mapping]:
    """Anonymous memory at `GPA`; its pages begin with "0" to "3"."""
    with Mapping.anonymous(SIZE) as memory:
        vm.memslots.add(GPA, memory)
        for n in range(4):
            memory.write(n * PAGE_SIZE, str(n).encode())
        yield memory


@pytest.fixture
def file(vm: Vm) -> Iterator[Mapping]:
    """Register a file's memory at `GPA`; its pages begin with "0" to "3"."""
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    with Mapping.of_file(fd, SIZE) as memory:
        vm.memslots.add(GPA, memory)
        for n in range(4):
            memory.write(n * PAGE_SIZE, str(n).encode())
        yield memory
    os.close(fd)


def facts(context: VcpuContext, gpa: int = SECOND) -> GuestAccessFacts:
    """Return the facts of a read at `gpa` that failed with EFAULT."""
    report = FaultReport(
        gpa=gpa,
        size=4,
        access="read",
        errno="EFAULT",
        source="reconstructed",
        exit=RunFailure(errno.EFAULT),
    )
    return facts_of(report, context)


def first_bytes(memory: Mapping) -> list[bytes | None]:
    """Return the first byte of each page, or None if it is not accessible."""
    return [peek(memory.hva + at, 1) for at in range(0, memory.size, PAGE_SIZE)]


def fd_of(memory: Mapping) -> int:
    placement = next(memory.placements.within(0, PAGE_SIZE))
    assert placement.fd is not None
    return placement.fd


def test_restore_maps_a_file_again(context: VcpuContext, file: Mapping) -> None:
    libc.munmap(file.hva + OFFSET, 2 * PAGE_SIZE)
    repairs.restore(facts(context))
    assert first_bytes(file) == [b"0", b"1", b"2", b"3"]


def test_restore_zeroes_anonymous_memory(context: VcpuContext, memory: Mapping) -> None:
    libc.munmap(memory.hva + OFFSET, PAGE_SIZE)
    repairs.restore(facts(context))
    assert first_bytes(memory) == [b"0", b"\0", b"2", b"3"]


def test_restore_does_not_overwrite_a_mapping_in_the_hole(
    context: VcpuContext, memory: Mapping
) -> None:
    libc.munmap(memory.hva + OFFSET, PAGE_SIZE)
    found = facts(context)
    assert found.area is None
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    at = libc.mmap(memory.hva + OFFSET, PAGE_SIZE, PROT_READ, flags, -1, 0)
    assert at == memory.hva + OFFSET
    with pytest.raises(FileExistsError):
        repairs.restore(found)


def test_replace_page_maps_one_page_again(context: VcpuContext, memory: Mapping) -> None:
    repairs.replace_page(facts(context))
    assert first_bytes(memory) == [b"0", b"\0", b"2", b"3"]


def test_protect_restores_the_placed_permissions(context: VcpuContext, memory: Mapping) -> None:
    memory.protect(PROT_READ, at=2 * PAGE_SIZE, size=PAGE_SIZE)
    libc.mprotect(memory.hva + OFFSET, 2 * PAGE_SIZE, PROT_NONE)
    repairs.protect(facts(context))
    assert first_bytes(memory) == [b"0", b"1", b"2", b"3"]
    perms = [vma.perms for vma in vmas(memory.hva, SIZE)]
    assert perms == ["rw-p", "r--p", "rw-p"]


def test_copy_keeps_the_contents_and_not_the_file(context: VcpuContext, file: Mapping) -> None:
    repairs.copy(facts(context), context, repairs.MappedMemory(file))
    assert first_bytes(file) == [b"0", b"1", b"2", b"3"]
    file.write(OFFSET, b"x")
    assert os.pread(fd_of(file), 1, OFFSET) == b"1"


@pytest.mark.parametrize("offset", [0, 2, PAGE_SIZE - 1])
def test_prefault_keeps_the_contents(context: VcpuContext, memory: Mapping, offset: int) -> None:
    repairs.prefault(facts(context, SECOND + offset), context)
    assert first_bytes(memory) == [b"0", b"1", b"2", b"3"]


def test_prefault_of_truncated_memory_raises_no_signal(context: VcpuContext, file: Mapping) -> None:
    os.ftruncate(fd_of(file), 0)
    with pytest.raises(OSError, match="Bad address"):
        repairs.prefault(facts(context), context)


def test_extend_file_ends_after_the_page(context: VcpuContext, file: Mapping) -> None:
    os.ftruncate(fd_of(file), 0)
    repairs.extend_file(facts(context))
    assert os.fstat(fd_of(file)).st_size == OFFSET + PAGE_SIZE
    assert first_bytes(file) == [b"\0", b"\0", None, None]


def test_emulate_cuts_the_vma_out_of_its_memslot(context: VcpuContext, memory: Mapping) -> None:
    libc.mprotect(memory.hva + OFFSET, PAGE_SIZE, PROT_READ)
    repairs.emulate(facts(context), context, repairs.MappedMemory(memory))
    slots = [(slot.gpa, slot.end, slot.hva) for slot in context.vm.memslots]
    assert slots == [
        (GPA, SECOND, memory.hva),
        (SECOND + PAGE_SIZE, GPA + SIZE, memory.hva + 2 * PAGE_SIZE),
    ]
    assert context.mmio.read(SECOND, 1) == ord("1")
    assert context.mmio.read(SECOND + PAGE_SIZE, 1) is None


def test_emulate_cuts_a_hole_out_from_the_page_on(context: VcpuContext, memory: Mapping) -> None:
    libc.munmap(memory.hva + OFFSET, 2 * PAGE_SIZE)
    repairs.emulate(facts(context, SECOND + PAGE_SIZE), context, repairs.MappedMemory(memory))
    ranges = [(slot.gpa, slot.end) for slot in context.vm.memslots]
    assert ranges == [(GPA, SECOND + PAGE_SIZE), (SECOND + 2 * PAGE_SIZE, GPA + SIZE)]


def test_the_rest_of_a_read_only_memslot_stays_read_only(context: VcpuContext) -> None:
    with Mapping.anonymous(SIZE) as memory:
        context.vm.memslots.add(GPA, memory, readonly=True)
        libc.mprotect(memory.hva + OFFSET, PAGE_SIZE, PROT_NONE)
        repairs.emulate(facts(context), context, repairs.MappedMemory(memory))
        assert [slot.readonly for slot in context.vm.memslots] == [True, True]


def test_attach_empty_bus_covers_the_page(context: VcpuContext) -> None:
    repairs.attach_empty_bus(GPA + 8, context)
    assert context.mmio.write(GPA, 4, 0)
    assert context.mmio.read(GPA, 4) == 0xFFFF_FFFF
    assert context.mmio.read(GPA + PAGE_SIZE - 2, 2) == 0xFFFF
    assert context.mmio.read(GPA + PAGE_SIZE, 1) is None


@pytest.mark.parametrize("mapped", [True, False])
def test_renew_guest_memfd_keeps_the_memslot(context: VcpuContext, mapped: bool) -> None:
    flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED
    vm = context.vm
    if not vm.check(KVM_CAP_GUEST_MEMFD) or flags & ~vm.check(KVM_CAP_GUEST_MEMFD_FLAGS):
        pytest.skip("this kernel has no mappable guest_memfd: pytest --lab --lab-kernel lab")
    with vm.create_guest_memfd(SIZE, flags) as memfd:
        memory = Mapping.of_file(memfd.fileno(), SIZE) if mapped else None
        old = vm.memslots.add(
            GPA, memory, guest_memfd=memfd, guest_memfd_offset=PAGE_SIZE, size=SIZE - PAGE_SIZE
        )
    repairs.renew_guest_memfd(facts(context), context)
    [slot] = vm.memslots
    assert slot.guest_memfd
    assert slot.guest_memfd is not memfd
    assert (slot.number, slot.gpa, slot.size) == (old.number, old.gpa, old.size)
    assert (slot.guest_memfd_offset, slot.guest_memfd.flags) == (PAGE_SIZE, flags)
    if memory:
        assert poke(slot.hva, b"new")
    slot.guest_memfd.close()


def test_convert_needs_memory_attributes(context: VcpuContext, memory: Mapping) -> None:
    if context.vm.check(KVM_CAP_MEMORY_ATTRIBUTES):
        pytest.skip("this VM has memory attributes")
    with pytest.raises(IoctlError, match="KVM_SET_MEMORY_ATTRIBUTES"):
        repairs.convert(MemoryFault(0, GPA, PAGE_SIZE), context)


def test_mapped_memory_is_read_and_written(memory: Mapping) -> None:
    backing = repairs.MappedMemory(memory)
    backing.write(OFFSET, b"data")
    assert backing.read(OFFSET, 4) == memory.read(OFFSET, 4) == b"data"
    assert backing.failure() is None


def test_inaccessible_mapped_memory_is_an_error(memory: Mapping) -> None:
    backing = repairs.MappedMemory(memory)
    memory.protect(PROT_NONE)
    with pytest.raises(OSError, match="Bad address"):
        backing.read(0, 4)
    with pytest.raises(OSError, match="Bad address"):
        backing.write(0, b"data")
