# SPDX-License-Identifier: GPL-2.0-only
"""A failed ioctl as a person writes it: its name, ``errno=NAME``, and its arguments."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyvmm.errno_names import errno_number
from pyvmm.errors import UsageError
from pyvmm.uapi import kvm
from pyvmm.uapi.kvm import (
    KVM_MEM_GUEST_MEMFD,
    KVM_RUN,
    KVM_SET_USER_MEMORY_REGION,
    KVM_SET_USER_MEMORY_REGION2,
)
from pyvmm.why import Slot
from pyvmm.why.slot import UndescribedMemfd

_REGION = ("slot", "guest_phys_addr", "memory_size", "userspace_addr")
_OPTIONAL = {
    KVM_SET_USER_MEMORY_REGION.name: ("flags",),
    KVM_SET_USER_MEMORY_REGION2.name: ("flags", "guest_memfd", "guest_memfd_offset"),
    KVM_RUN.name: ("gpa",),
}
IOCTLS = tuple(_OPTIONAL)


@dataclass(frozen=True)
class Failure:
    """A failed ioctl.

    Attributes:
        ioctl: its name.
        errno: a positive number.
        arguments: the members of the ioctl's struct by name. ``KVM_RUN`` has none; for it, `gpa`
            is the GPA accessed, if known.
    """

    ioctl: str
    errno: int
    arguments: dict[str, int]

    def slot(self) -> Slot:
        """Return the requested memslot."""
        number, gpa, size, hva = (self.arguments[name] for name in _REGION)
        flags = self.arguments.get("flags", 0)
        memfd = UndescribedMemfd() if flags & KVM_MEM_GUEST_MEMFD else None
        offset = self.arguments.get("guest_memfd_offset", 0)
        return Slot(number, gpa, size, hva, flags, memfd, offset)


def parse(words: Sequence[str]) -> Failure:
    """Read ``IOCTL errno=NAME NAME=VALUE…``. Raises `UsageError`."""
    name, *rest = words
    if name not in IOCTLS:
        raise UsageError(f"cannot explain {name}: give one of {', '.join(IOCTLS)}")
    given = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or key in given:
            raise UsageError(f"{word!r} is not NAME=VALUE, or is given twice")
        given[key] = value
    if "errno" not in given:
        raise UsageError(f"no errno given for {name}: add errno=EINVAL, or another")
    number = _errno(given.pop("errno"))
    needed = () if name == KVM_RUN.name else _REGION
    if missing := [each for each in needed if each not in given]:
        raise UsageError(f"{name} needs {', '.join(f'{each}=…' for each in missing)}")
    allowed = (*needed, *_OPTIONAL[name])
    if unknown := [each for each in given if each not in allowed]:
        raise UsageError(f"{name} has no {', '.join(unknown)}: it has {', '.join(allowed)}")
    return Failure(name, number, {key: _value(key, text) for key, text in given.items()})


def _errno(text: str) -> int:
    number = errno_number(text)
    if number is None:
        raise UsageError(f"there is no errno {text!r}: write EINVAL, or 22")
    return number


def _value(name: str, text: str) -> int:
    """Return a number, or flags by name: ``KVM_MEM_READONLY|KVM_MEM_LOG_DIRTY_PAGES``."""
    value = 0
    for part in text.split("|"):
        flag = getattr(kvm, part, None) if part.startswith("KVM_") else None
        try:
            value |= flag if type(flag) is int else int(part, 0)
        except ValueError:
            raise UsageError(f"{name}={text}: {part!r} is not a number") from None
    if not 0 <= value < 1 << 64:
        raise UsageError(f"{name}={text} does not fit into 64 bits")
    return value
