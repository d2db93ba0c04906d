# SPDX-License-Identifier: GPL-2.0-only
"""Carrying a remedy out. Each function raises `OSError` where the kernel refuses."""

import errno
import os

from pyvmm.faults.board import BackedDevice, Board, GuestMemory, page_of
from pyvmm.faults.cause import Case
from pyvmm.faults.evidence import Evidence
from pyvmm.kvm.exits import MemoryFault
from pyvmm.kvm.memslots import Memslot
from pyvmm.memory import PAGE_SIZE, Backing, Mapping
from pyvmm.memory.peek import peek, poke
from pyvmm.uapi.kvm import (
    KVM_MEMORY_ATTRIBUTE_PRIVATE,
    KVM_MEMORY_EXIT_FLAG_PRIVATE,
    KVM_SET_MEMORY_ATTRIBUTES,
    kvm_memory_attributes,
)

_WORD = 4  # bytes


class MappedMemory:
    """A `Backing` that is the VMM's own mapping, read and written with care."""

    name = "RAM"

    def __init__(self, memory: Mapping) -> None:
        self._memory = memory

    def read(self, offset: int, size: int) -> bytes:
        if (data := peek(self._memory.hva + offset, size)) is None:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return data

    def write(self, offset: int, data: bytes) -> None:
        if not poke(self._memory.hva + offset, data):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def failure(self) -> str | None:
        return None


class EmptyBus:
    """A device on the bus that is not there."""

    def read(self, offset: int, size: int) -> int:
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        pass


def restore(e: Evidence) -> None:
    """Map what was placed there again, as far as the fault's cause reaches."""
    start, size = _reach(e)
    _memory(e).restore(at=start, size=size, vacant=e.area is None)


def refresh(e: Evidence) -> None:
    """The same for one page."""
    _memory(e).restore(at=e.at, size=PAGE_SIZE)


def permit(e: Evidence) -> None:
    """Give the area back the permissions that its parts were placed with."""
    start, size = _reach(e)
    memory = _memory(e)
    for placement in list(memory.placements.within(start, start + size)):
        memory.protect(placement.prot, at=placement.start, size=placement.size)


def copy(e: Evidence, backing: Backing) -> None:
    """Put anonymous memory with the region's contents in the place of one page."""
    data = backing.read(e.at, PAGE_SIZE)
    memory = _memory(e)
    memory.place_anonymous(at=e.at, size=PAGE_SIZE)
    memory.write(e.at, data)


def prefault(e: Evidence) -> None:
    """Make the page's entry in the VMM's own page table writable, by a write that changes nothing.

    The kernel reads and writes for us, through a pipe: where the memory is a SIGBUS, that is
    EFAULT, and no signal.
    """
    memory = _memory(e)
    word = memory.view(at=e.at + (e.gpa % PAGE_SIZE & -_WORD), size=_WORD)
    reader, writer = os.pipe()
    try:
        os.write(writer, word)
        os.readv(reader, [word])
    finally:
        os.close(reader)
        os.close(writer)


def lengthen(e: Evidence) -> None:
    """Make the file reach to the end of the page again."""
    assert e.placement
    assert e.placement.fd is not None
    os.ftruncate(e.placement.fd, e.placement.offset + PAGE_SIZE)


def emulate(e: Evidence, backing: Backing) -> None:
    """Take the area out of its memslot, and let the bus answer for it."""
    assert e.slot is not None
    start, end = e.span
    offset = _reach(e)[0]
    _cut(e.board, e.slot, start, end)
    e.board.mmio.attach(start, end - start, BackedDevice(backing, offset))


def leave_empty(e: Evidence) -> None:
    """Let the page around the address read as all ones."""
    e.board.mmio.attach(page_of(e.gpa), PAGE_SIZE, EmptyBus())


def renew_guest_memfd(e: Evidence) -> None:
    """Register a new guest_memfd, of the same size and flags, in the place of a closed one."""
    assert e.slot
    assert e.slot.guest_memfd
    slot, old = e.slot, e.slot.guest_memfd
    new = e.board.vm.create_guest_memfd(old.size, old.flags)
    if slot.memory:
        prot, start = e.meant, slot.hva - slot.memory.hva
        slot.memory.place(
            new.fileno(), slot.guest_memfd_offset, at=start, size=slot.size, prot=prot
        )
    e.board.vm.memslots.remove(slot)
    e.board.vm.memslots.add(
        slot.gpa,
        slot.memory,
        at=slot.hva - slot.memory.hva if slot.memory else 0,
        size=slot.size,
        number=slot.number,
        guest_memfd=new,
        guest_memfd_offset=slot.guest_memfd_offset,
    )


def convert(case: Case) -> None:
    """``KVM_SET_MEMORY_ATTRIBUTES``: private or shared, as the exit says."""
    assert isinstance(case.report.exit, MemoryFault)
    private = case.report.exit.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE
    request = kvm_memory_attributes(
        address=case.report.exit.gpa,
        size=case.report.exit.size,
        attributes=KVM_MEMORY_ATTRIBUTE_PRIVATE if private else 0,
    )
    case.board.vm.ioctl(KVM_SET_MEMORY_ATTRIBUTES, request)


def finish(board: Board, memory: GuestMemory) -> None:
    """Carry out the instruction that the vCPU stands on, against `memory`."""
    if why := board.arch.emulate(board.vcpu, memory):
        raise OSError(errno.EOPNOTSUPP, why)


def _memory(e: Evidence) -> Mapping:
    assert e.slot
    assert e.slot.memory
    return e.slot.memory


def _reach(e: Evidence) -> tuple[int, int]:
    """How far the cause reaches: where it begins in the mapping, and how many bytes it is."""
    assert e.slot is not None
    start, end = e.span
    return e.slot.hva_of(start) - _memory(e).hva, end - start


def _cut(board: Board, slot: Memslot, start: int, end: int) -> None:
    """Remove a memslot's GPAs from `start` to `end`; what lies around them stays registered."""
    memslots = board.vm.memslots
    memslots.remove(slot)
    for first, last in ((slot.gpa, start), (end, slot.end)):
        if first < last:
            assert slot.memory is not None
            memslots.add(
                first,
                slot.memory,
                at=slot.hva_of(first) - slot.memory.hva,
                size=last - first,
                readonly=slot.readonly,
            )
