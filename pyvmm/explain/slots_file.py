# SPDX-License-Identifier: GPL-2.0-only
"""The memslots of another VMM, read from a file, since KVM does not return them.

The file is a JSON list of objects with the members of ``struct kvm_userspace_memory_region``::

    [{"slot": 0, "guest_phys_addr": "0x40000000", "memory_size": "0x40000000",
      "userspace_addr": "0x7f0000000000", "flags": 0}]
"""

import json
from pathlib import Path
from typing import Any

from pyvmm.errors import UsageError
from pyvmm.input_file import read_bytes
from pyvmm.why import Slot

_MEMBERS = ("slot", "guest_phys_addr", "memory_size", "userspace_addr")


def read(path: Path) -> tuple[Slot, ...]:
    """Read the memslots in a file. Raises `UsageError` if it is not such a list."""
    try:
        entries = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise UsageError(f"{path} is not a list of memslots with members {', '.join(_MEMBERS)}")
    return tuple(_slot(entry, path) for entry in entries)


def _slot(entry: Any, path: Path) -> Slot:
    try:
        number, gpa, size, hva = (_number(entry[member]) for member in _MEMBERS)
        return Slot(number, gpa, size, hva, _number(entry.get("flags", 0)))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(
            f"{path}: {json.dumps(entry)} is not a memslot: it needs {', '.join(_MEMBERS)}"
        ) from None


def _number(value: object) -> int:
    """Return a number, or the number in a string: JSON has no hexadecimal."""
    number = int(value, 0) if isinstance(value, str) else value
    if not isinstance(number, int) or not 0 <= number < 1 << 64:
        raise ValueError(value)
    return number
