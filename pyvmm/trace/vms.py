# SPDX-License-Identifier: GPL-2.0-only
"""What a trace knows of a VM: its type, what was switched on, and its memslots."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyvmm.trace.values import Values
from pyvmm.why import Absent, Slot


@dataclass(frozen=True)
class TracedMemfd:
    """A guest_memfd of `owner`; `size` in bytes."""

    size: int
    flags: int
    owner: "TracedVm"

    @property
    def closed(self) -> bool:
        """Raise `Absent`: the trace does not record the close of a guest_memfd."""
        raise Absent("whether the guest_memfd was closed")


class TracedSlots:
    """The memslots of one VM, by number."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}

    def set(self, slot: Slot) -> None:
        """The kernel took this request: size 0 removes the slot, and a known number changes it."""
        if slot.size:
            self._slots[slot.number] = slot
        else:
            self._slots.pop(slot.number, None)

    def numbered(self, number: int) -> Slot | None:
        """The slot of that number."""
        return self._slots.get(number)

    def at(self, gpa: int) -> Slot | None:
        """The slot that backs `gpa`."""
        return next((slot for slot in self if slot.gpa <= gpa < slot.end), None)

    def __iter__(self) -> Iterator[Slot]:
        """Every slot, by GPA."""
        return iter(sorted(self._slots.values(), key=lambda slot: slot.gpa))


@dataclass(eq=False)
class TracedVm:
    """One VM of process `pid`: only that process may ask KVM about it, so we remember."""

    label: str
    pid: int
    vm_type: int = 0
    enabled: set[int] = field(default_factory=set)
    memslots: TracedSlots = field(default_factory=TracedSlots)
    memfds: dict[int, TracedMemfd] = field(default_factory=dict)  # by the process's fd

    def request(self, region: Values) -> Slot:
        """The slot that a ``struct kvm_userspace_memory_region`` or ``…2`` asks for."""

        def member(name: str) -> int:
            value = region.get(name, 0)
            return value if isinstance(value, int) else 0

        return Slot(
            member("slot"),
            member("guest_phys_addr"),
            member("memory_size"),
            member("userspace_addr"),
            member("flags"),
            self.memfds.get(member("guest_memfd")) if "guest_memfd" in region else None,
            member("guest_memfd_offset"),
        )
