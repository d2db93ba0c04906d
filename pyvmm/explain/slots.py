# SPDX-License-Identifier: GPL-2.0-only
"""Memslots that someone wrote down, since KVM does not give them back.

The file is a JSON list of objects with the members of ``struct kvm_userspace_memory_region``::

    [{"slot": 0, "guest_phys_addr": "0x40000000", "memory_size": "0x40000000",
      "userspace_addr": "0x7f0000000000", "flags": 0}]
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyvmm.errors import UsageError
from pyvmm.kvm.slot import Slot

_MEMBERS = ("slot", "guest_phys_addr", "memory_size", "userspace_addr")


@dataclass(frozen=True)
class UnseenMemfd:
    """A guest_memfd of which only the number is known: it breaks no rule that can be checked."""

    owner: object
    size: int = 1 << 64
    flags: int = -1


@dataclass(frozen=True)
class ToldSlot(Slot):
    """A memslot as its VMM asked for it; GPA, HVA and size in bytes."""

    guest_memfd: UnseenMemfd | None = None
    guest_memfd_offset: int = 0


@dataclass(frozen=True)
class Slots:
    """The memslots of a VM; `known` is False where no one has told them."""

    slots: tuple[ToldSlot, ...] = ()
    known: bool = False

    def numbered(self, number: int) -> ToldSlot | None:
        """The slot of that number."""
        return next((slot for slot in self.slots if slot.number == number), None)

    def __iter__(self) -> Iterator[ToldSlot]:
        return iter(self.slots)


def read(path: Path) -> Slots:
    """The memslots in a file. Raises `UsageError` where it holds none."""
    try:
        listed = json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from None
    if not isinstance(listed, list):
        raise UsageError(f"{path} holds no list of memslots, {{{', '.join(_MEMBERS)}}} each")
    return Slots(tuple(_slot(entry, path) for entry in listed), known=True)


def _slot(entry: Any, path: Path) -> ToldSlot:
    try:
        number, gpa, size, hva = (_number(entry[member]) for member in _MEMBERS)
        return ToldSlot(number, gpa, size, hva, _number(entry.get("flags", 0)))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(
            f"{path}: {json.dumps(entry)} is no memslot: it needs {', '.join(_MEMBERS)}"
        ) from None


def _number(value: object) -> int:
    """A number, or one in a string (``0x…``), as JSON has no hexadecimal ones."""
    number = int(value, 0) if isinstance(value, str) else value
    if not isinstance(number, int) or not 0 <= number < 1 << 64:
        raise ValueError(value)
    return number
