# SPDX-License-Identifier: GPL-2.0-only
"""Which events are wanted: by fd, ioctl, exit and address."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyvmm.errors import UsageError
from pyvmm.trace.events import Event, Ioctl, Mapping, Run
from pyvmm.trace.values import Values, number_of

# Members that are addresses, with the member that is the size of what is there.
_ADDRESSES = {
    "guest_phys_addr": "memory_size",
    "userspace_addr": "memory_size",
    "gpa": "size",
    "address": "size",
    "addr": "len",
    "iova": "length",
    "user_va": "length",
    "vaddr": "size",
    "fault_ipa": "",
    "phys_addr": "len",
    "port": "",
}


@dataclass(frozen=True)
class Filter:
    """What to show; a list that is empty lets everything through.

    Attributes:
        on: fds, by label or kind: "vm1", "vm1/vcpu0", "vcpu", "vfio-device"; ``*`` works.
        ioctls: names, ``KVM_*_ONE_REG`` works.
        exits: kinds of exit, "mmio".
        addresses: ranges (first, last) that a GPA, HVA, IOVA or port has to touch.
    """

    on: tuple[str, ...] = ()
    ioctls: tuple[str, ...] = ()
    exits: tuple[str, ...] = ()
    addresses: tuple[tuple[int, int], ...] = ()

    def wants(self, event: Event) -> bool:
        """Is the event to be shown?"""
        if isinstance(event, Ioctl):
            values = {**event.argument, **event.returned, **event.details}
            return (
                not self.exits
                and _any(self.on, event.on, event.kind)
                and _any(self.ioctls, event.name)
                and self._touches(values)
            )
        if isinstance(event, Run):
            return (
                _any(self.on, event.on, "vcpu")
                and _any(self.ioctls, "KVM_RUN")
                and _any(self.exits, event.exit)
                and self._touches(event.payload)
            )
        if isinstance(event, Mapping):
            gpas = [slot for slot in event.slots if self._touches(slot)]
            hva: Values = {"vaddr": event.hva, "size": event.size}
            return not (self.on or self.ioctls or self.exits) and bool(
                not self.addresses or gpas or self._touches(hva)
            )
        return not (self.on or self.ioctls or self.exits or self.addresses)

    def _touches(self, values: Values) -> bool:
        if not self.addresses:
            return True
        for member, length in _ADDRESSES.items():
            start = values.get(member)
            if isinstance(start, int):
                end = start + max(number_of(values, length), 1) - 1
                if any(start <= last and first <= end for first, last in self.addresses):
                    return True
        return False


def address_range(text: str) -> tuple[int, int]:
    """``0x1000`` or ``0x1000-0x1fff``, the last included. Raises `UsageError`."""
    first, _, last = text.partition("-")
    try:
        return int(first, 0), int(last or first, 0)
    except ValueError:
        raise UsageError(f"an address is 0x… or 0x…-0x…, not {text!r}") from None


def _any(patterns: tuple[str, ...], *names: str) -> bool:
    return not patterns or any(fnmatchcase(name, p) for p in patterns for name in names)
