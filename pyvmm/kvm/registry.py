# SPDX-License-Identifier: GPL-2.0-only
"""What has to be known of a VM to say why it rejected a memslot.

`Vm` knows it of itself; of another process's VM, `pyvmm.trace` knows what it has seen go by.
"""

from collections.abc import Iterator
from typing import Protocol


class Memfd(Protocol):
    """A guest_memfd; `size` in bytes."""

    @property
    def size(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def owner(self) -> object: ...


class Slot(Protocol):
    """A memslot, as `pyvmm.kvm.memslots.Memslot` has it."""

    @property
    def number(self) -> int: ...
    @property
    def gpa(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def hva(self) -> int: ...
    @property
    def flags(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def guest_memfd(self) -> Memfd | None: ...
    @property
    def guest_memfd_offset(self) -> int: ...


class Slots(Protocol):
    """The memslots that a VM has."""

    def numbered(self, number: int) -> Slot | None: ...
    def __iter__(self) -> Iterator[Slot]: ...


class Registry(Protocol):
    """A VM: its type, what was switched on, its memslots, and what it answers."""

    @property
    def vm_type(self) -> int: ...
    @property
    def enabled(self) -> set[int]: ...
    @property
    def memslots(self) -> Slots: ...
    def check(self, capability: int) -> int: ...
