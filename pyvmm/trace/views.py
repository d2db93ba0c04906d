# SPDX-License-Identifier: GPL-2.0-only
"""Filter and print the events of a trace, live or from a recording."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TextIO

from pyvmm.errors import UsageError
from pyvmm.trace.event_text import event_line
from pyvmm.trace.events import Event, EventWriter, Ioctl, Mapping, Process, Run
from pyvmm.trace.summary import Summary
from pyvmm.trace.values import Values, int_member

# Members that hold an address, with the member that holds the size in bytes of its range.
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
    """A selection of events. An empty member does not restrict the selection.

    Attributes:
        on: labels or kinds of fds, with wildcards: "vm1", "vm1/*", "vcpu", "vfio-device".
        ioctls: names of ioctls, with wildcards: "KVM_*_ONE_REG".
        exits: kinds of exits: "mmio".
        addresses: ranges (first, last) of GPAs, HVAs, IOVAs or ports that an event must overlap.
    """

    on: tuple[str, ...] = ()
    ioctls: tuple[str, ...] = ()
    exits: tuple[str, ...] = ()
    addresses: tuple[tuple[int, int], ...] = ()

    def matches(self, event: Event) -> bool:
        """Return True if the event is selected."""
        if isinstance(event, Ioctl):
            values = {**event.argument, **event.returned, **event.details}
            return (
                not self.exits
                and _match_any(self.on, event.on, event.kind)
                and _match_any(self.ioctls, event.name)
                and self._overlaps(values)
            )
        if isinstance(event, Run):
            return (
                _match_any(self.on, event.on, "vcpu")
                and _match_any(self.ioctls, "KVM_RUN")
                and _match_any(self.exits, event.exit)
                and self._overlaps(event.payload)
            )
        if isinstance(event, Mapping):
            gpas = [slot for slot in event.slots if self._overlaps(slot)]
            hva: Values = {"vaddr": event.hva, "size": event.size}
            return not (self.on or self.ioctls or self.exits) and bool(
                not self.addresses or gpas or self._overlaps(hva)
            )
        return not (self.on or self.ioctls or self.exits or self.addresses)

    def _overlaps(self, values: Values) -> bool:
        if not self.addresses:
            return True
        for member, length in _ADDRESSES.items():
            start = values.get(member)
            if isinstance(start, int):
                end = start + max(int_member(values, length), 1) - 1
                if any(start <= last and first <= end for first, last in self.addresses):
                    return True
        return False


def address_range(text: str) -> tuple[int, int]:
    """Parse ``0x1000`` or ``0x1000-0x1fff`` (last address included). Raises `UsageError`."""
    first, _, last = text.partition("-")
    try:
        return int(first, 0), int(last or first, 0)
    except ValueError:
        raise UsageError(f"invalid address {text!r}: use 0x… or 0x…-0x…") from None


def _match_any(patterns: tuple[str, ...], *names: str) -> bool:
    return not patterns or any(fnmatchcase(name, p) for p in patterns for name in names)


@dataclass(frozen=True)
class ViewOptions:
    """The views to print. Without any, each event is one line.

    Attributes:
        summary: print counts at the end.
        slots: print only the memslot timeline.
        json: print JSON instead of text.
        filter: the events to print and to count.
    """

    summary: bool = False
    slots: bool = False
    json: bool = False
    filter: Filter = field(default_factory=Filter)

    @property
    def lines(self) -> bool:
        """Return True if single events are printed."""
        return self.slots or not self.summary


class EventPrinter:
    """A printer of the events that a trace or a recording yields."""

    def __init__(self, options: ViewOptions, out: TextIO, command: Sequence[str]) -> None:
        """Print the views in `options` to `out`; `command` is the traced command line."""
        self._options = options
        self._out = out
        self._summary = Summary() if options.summary else None
        self._print: Callable[[Event], None] | None = None
        if options.lines:
            self._print = EventWriter(out, command).write if options.json else self._print_text

    def run_counter(self) -> Callable[[str, str | None, float], None] | None:
        """Return `Summary.count_run` if each ``KVM_RUN`` needs only counting, else None."""
        if self._summary and not self._print and self._options.filter == Filter():
            return self._summary.count_run
        return None

    def finish(self) -> None:
        """Print the summary, if requested, at the end of the trace."""
        if self._summary and self._options.json:
            print(json.dumps(self._summary.to_json(), indent=1), file=self._out)
        elif self._summary:
            for text in self._summary.lines():
                print(text, file=self._out)
        self._out.flush()

    def add(self, event: Event) -> None:
        """Print and count an event if the filter selects it."""
        selected = self._options.filter.matches(event)
        if self._summary and (selected or isinstance(event, Process)):
            self._summary.add(event)
        if not selected:
            return
        if self._print and (not self._options.slots or in_memslot_timeline(event)):
            self._print(event)

    def _print_text(self, event: Event) -> None:
        print(event_line(event), file=self._out)


def in_memslot_timeline(event: Event) -> bool:
    """Return True for memslot ioctls, mapping calls under a memslot, and the close of a VM."""
    match event:
        case Ioctl():
            return event.name.startswith("KVM_SET_USER_MEMORY_REGION")
        case Mapping():
            return bool(event.slots)
        case Process():
            return event.what == "close" and event.text.startswith("vm")
    return False
