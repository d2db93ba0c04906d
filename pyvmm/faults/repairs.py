# SPDX-License-Identifier: GPL-2.0-only
"""The actions behind the remedies. Each function raises `OSError` if the kernel refuses."""

import errno
import os

from pyvmm.bus import BusDevice
from pyvmm.errors import PyvmmError
from pyvmm.faults.access_facts import GuestAccessFacts
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.guest_memory import BackedDevice, GuestMemory, page_of
from pyvmm.faults.poison import Poisoned
from pyvmm.kvm.exits import Exit, MemoryFault
from pyvmm.kvm.memslots import Memslot
from pyvmm.memory import PAGE_SIZE, Backing, Mapping
from pyvmm.memory.peek import peek, poke
from pyvmm.uapi.kvm import (
    KVM_MEMORY_ATTRIBUTE_PRIVATE,
    KVM_MEMORY_EXIT_FLAG_PRIVATE,
)

_WORD = 4  # bytes


class MappedMemory:
    """A `Backing` that is the VMM's own mapping; inaccessible memory is an `OSError`."""

    name = "RAM"
    is_ram = True

    def __init__(self, memory: Mapping) -> None:
        """Read and write `memory`."""
        self._memory = memory

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at byte `offset`. Raises `OSError`."""
        if (data := peek(self._memory.hva + offset, size)) is None:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write `data` at byte `offset`. Raises `OSError`."""
        if not poke(self._memory.hva + offset, data):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def failure(self) -> str | None:
        """Return None: no device is involved."""
        return None


class EmptyBus(BusDevice):
    """A bus address at which no device responds."""

    def read(self, offset: int, size: int) -> int:
        """Return all ones."""
        return (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Drop the write."""


def restore(facts: GuestAccessFacts) -> None:
    """Map again what pyvmm had placed, over the whole hole or VMA at the page."""
    start, size = _extent(facts)
    _mapping(facts).restore(at=start, size=size, vacant=facts.area is None)


def replace_page(facts: GuestAccessFacts) -> None:
    """Map again what pyvmm had placed at one page."""
    _mapping(facts).restore(at=facts.at, size=PAGE_SIZE)


def protect(facts: GuestAccessFacts) -> None:
    """Restore the permissions that each part of the VMA was placed with."""
    start, size = _extent(facts)
    mapping = _mapping(facts)
    for placement in list(mapping.placements.within(start, start + size)):
        mapping.protect(placement.prot, at=placement.start, size=placement.size)


def copy(facts: GuestAccessFacts, context: VcpuContext, backing: Backing) -> None:
    """Map anonymous memory with the region's contents over one page."""
    mapping = _mapping(facts)
    with context.vm.paused():
        data = backing.read(facts.at, PAGE_SIZE)
        mapping.place_anonymous(at=facts.at, size=PAGE_SIZE)
        mapping.write(facts.at, data)


def prefault(facts: GuestAccessFacts, context: VcpuContext) -> None:
    """Make the page's host PTE writable by writing a word back to itself.

    The kernel copies the word through a pipe: where the memory raises SIGBUS, that gives EFAULT
    and no signal.
    """
    word = _mapping(facts).view(at=facts.at + (facts.gpa % PAGE_SIZE & -_WORD), size=_WORD)
    reader, writer = os.pipe()
    try:
        with context.vm.paused():  # a guest's write between the two would be lost
            os.write(writer, word)
            os.readv(reader, [word])
    finally:
        os.close(reader)
        os.close(writer)


def extend_file(facts: GuestAccessFacts) -> None:
    """Extend the file to the end of the page."""
    assert facts.placement
    assert facts.placement.fd is not None
    os.ftruncate(facts.placement.fd, facts.placement.offset + PAGE_SIZE)


def emulate(facts: GuestAccessFacts, context: VcpuContext, backing: Backing) -> None:
    """Cut the VMA's part out of its memslot and attach `backing` to the bus there."""
    start, end = _gpa_range(facts)
    offset, _ = _extent(facts)
    with context.vm.paused():
        context.vm.memslots.cut(_memslot(facts), start, end)
        context.mmio.attach(start, end - start, BackedDevice(backing, offset))


def attach_empty_bus(gpa: int, context: VcpuContext) -> None:
    """Let the page around `gpa` read as all ones."""
    with context.vm.paused():
        context.mmio.attach(page_of(gpa), PAGE_SIZE, EmptyBus())


def renew_guest_memfd(facts: GuestAccessFacts, context: VcpuContext) -> None:
    """Register a new guest_memfd of the same size and flags in place of a closed one."""
    slot = _memslot(facts)
    assert slot.guest_memfd
    new = context.vm.create_guest_memfd(slot.guest_memfd.size, slot.guest_memfd.flags)
    at = 0
    if slot.memory:
        at = slot.hva - slot.memory.hva
        prot = facts.placement.prot if facts.placement else 0
        offset = slot.guest_memfd_offset
        slot.memory.place(new.fileno(), offset, at=at, size=slot.size, prot=prot)
    with context.vm.paused():
        context.vm.memslots.remove(slot)
        context.vm.memslots.add(
            slot.gpa,
            slot.memory,
            at=at,
            size=slot.size,
            number=slot.number,
            guest_memfd=new,
            guest_memfd_offset=slot.guest_memfd_offset,
        )


def convert(exit: Exit | Poisoned, context: VcpuContext) -> None:
    """Set the memory attributes that a ``KVM_EXIT_MEMORY_FAULT`` asks for."""
    assert isinstance(exit, MemoryFault)
    private = exit.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE
    attributes = KVM_MEMORY_ATTRIBUTE_PRIVATE if private else 0
    context.vm.set_memory_attributes(exit.gpa, exit.size, attributes)


def emulate_instruction(context: VcpuContext, memory: GuestMemory) -> None:
    """Emulate the instruction at the vCPU's PC against `memory` and advance the PC.

    Raises `PyvmmError` if it cannot be emulated.
    """
    if why := context.arch.emulate(context.vcpu, memory):
        raise PyvmmError(why)


def _mapping(facts: GuestAccessFacts) -> Mapping:
    assert facts.mapping
    return facts.mapping


def _memslot(facts: GuestAccessFacts) -> Memslot:
    assert facts.memslot
    return facts.memslot


def _gpa_range(facts: GuestAccessFacts) -> tuple[int, int]:
    """Return the GPAs, from and to, of the memslot's part in the page's VMA or hole.

    Of a hole, it is the part from the page on: the kernel does not report where a hole starts.
    """
    slot = _memslot(facts)
    first, last = facts.page, slot.hva + slot.size
    if facts.area:
        first, last = max(facts.area.start, slot.hva), min(facts.area.end, last)
    elif facts.next_area:
        last = min(facts.next_area.start, last)
    shift = slot.gpa - slot.hva
    return first + shift, last + shift


def _extent(facts: GuestAccessFacts) -> tuple[int, int]:
    """Return the same range as an offset in the mapping and a size, in bytes."""
    start, end = _gpa_range(facts)
    return _memslot(facts).hva_of(start) - _mapping(facts).hva, end - start
