# SPDX-License-Identifier: GPL-2.0-only
"""Summarize a trace: ioctls by name, exits by kind, and the memslots at its end."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pyvmm.trace.events import Event, Ioctl, Process, Run
from pyvmm.trace.values import Values, int_member
from pyvmm.units import size

SCHEMA = "pyvmm.trace-summary/1"


@dataclass(slots=True)
class CallStats:
    """Statistics of one ioctl or one kind of exit.

    Attributes:
        calls: the number of calls.
        errors: the number of failed calls, by errno name.
        injected: the number of calls with an injected result.
        seconds: the total duration.
    """

    calls: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    injected: int = 0
    seconds: float = 0

    def add(self, errno: str | None, injected: str, seconds: float) -> None:
        """Count one call."""
        self.calls += 1
        self.seconds += seconds
        if errno:
            self.errors[errno] = self.errors.get(errno, 0) + 1
        if injected:
            self.injected += 1

    def merge(self, other: "CallStats") -> None:
        """Add the counts of `other`."""
        self.calls += other.calls
        self.seconds += other.seconds
        self.injected += other.injected
        for errno, number in other.errors.items():
            self.errors[errno] = self.errors.get(errno, 0) + number


class Summary:
    """Counts of events. The size does not grow with the length of the trace.

    Attributes:
        exits: statistics by kind of exit.
        slots: the memslots of the open VMs and of the last closed one, by VM label and slot number.
    """

    def __init__(self) -> None:
        """Start with all counts at 0."""
        self._ioctls: dict[tuple[str, str], CallStats] = {}
        self.exits: dict[str, CallStats] = {}
        self.slots: dict[str, dict[int, Values]] = {}
        self._closed_vm = ""  # its memslots are kept until another VM is closed

    def add(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Run):
            self.count_run(event.exit, event.errno, event.seconds, event.injected)
        elif isinstance(event, Ioctl):
            key = (event.kind, event.name)
            self._ioctls.setdefault(key, CallStats()).add(
                event.errno, event.injected, event.seconds
            )
            if not event.errno and event.name.startswith("KVM_SET_USER_MEMORY_REGION"):
                self._set_memslot(event)
        elif isinstance(event, Process) and event.what == "close" and event.text in self.slots:
            self.slots.pop(self._closed_vm, None)
            self._closed_vm = event.text

    def count_run(self, exit: str, errno: str | None, seconds: float, injected: str = "") -> None:
        """Count a ``KVM_RUN`` by its kind of exit."""
        count = self.exits.get(exit)
        if count is None:
            count = self.exits[exit] = CallStats()
        if errno or injected:
            count.add(errno, injected, seconds)
        else:  # same as `add`, inlined: this runs a hundred thousand times
            count.calls += 1
            count.seconds += seconds

    @property
    def ioctls(self) -> dict[tuple[str, str], CallStats]:
        """Return the statistics by fd kind and ioctl name, including ``KVM_RUN``."""
        if not self.exits:
            return self._ioctls
        runs = CallStats()
        for count in self.exits.values():
            runs.merge(count)
        return {**self._ioctls, ("vcpu", "KVM_RUN"): runs}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document (schema pyvmm.trace-summary/1)."""
        return {
            "schema": SCHEMA,
            "ioctls": [
                {"kind": kind, "name": name, **asdict(count)}
                for (kind, name), count in self.ioctls.items()
            ],
            "exits": {kind: asdict(count) for kind, count in self.exits.items()},
            "memslots": {vm: list(slots.values()) for vm, slots in self.slots.items()},
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines of the summary as text."""
        yield "ioctls:"
        yield f"  {'calls':>8} {'errors':>8} {'seconds':>10}  name"
        for (kind, name), count in sorted(self.ioctls.items(), key=_sort_key):
            errors = sum(count.errors.values())
            shown = "".join(f", {n} {errno}" for errno, n in count.errors.items())
            marked = f", {count.injected} injected" if count.injected else ""
            yield (
                f"  {count.calls:>8} {errors or '':>8} {count.seconds:>10.6f}  "
                f"{name} ({kind or 'unknown fd'}){shown}{marked}"
            )
        if self.exits:
            yield "exits:"
            for exit, count in sorted(self.exits.items(), key=lambda item: -item[1].calls):
                marked = f" ({count.injected} injected)" if count.injected else ""
                yield f"  {count.calls:>8} {'':>8} {count.seconds:>10.6f}  {exit}{marked}"
        for vm, slots in self.slots.items():
            when = "when it was closed" if vm == self._closed_vm else "at the end"
            yield f"memslots of {vm} {when}:"
            for number, slot in sorted(slots.items(), key=lambda item: int_member(item[1], "gpa")):
                gpa, hva = int_member(slot, "gpa"), int_member(slot, "hva")
                memory = size(int_member(slot, "size"))
                yield (
                    f"  {number:>4}  GPA {gpa:#014x}  {memory:<24} "
                    f"HVA {hva:#x}  {slot['flags']}".rstrip()
                )

    def _set_memslot(self, event: Ioctl) -> None:
        region = event.argument
        slots = self.slots.setdefault(event.on, {})
        number = region.get("slot")
        if not isinstance(number, int):
            return
        if not region.get("memory_size"):
            slots.pop(number, None)
            return
        slots[number] = {
            "slot": number,
            "gpa": int_member(region, "guest_phys_addr"),
            "size": int_member(region, "memory_size"),
            "hva": int_member(region, "userspace_addr"),
            "flags": event.names.get("argument.flags", ""),
        }


def _sort_key(item: tuple[tuple[str, str], CallStats]) -> tuple[int, str]:
    return -item[1].calls, item[0][1]
