# SPDX-License-Identifier: GPL-2.0-only
"""A trace in a page: ioctls by name, exits by kind, and the memslots that there are at its end."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyvmm.trace.events import Event, Ioctl, Run
from pyvmm.trace.values import Values, number_of
from pyvmm.units import size

SCHEMA = "pyvmm.trace-summary/1"


@dataclass(slots=True)
class Count:
    """How often, how often in vain, how often by injection, and how long in all (seconds)."""

    calls: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    injected: int = 0
    seconds: float = 0

    def add(self, errno: str | None, injected: str, seconds: float) -> None:
        """Count one."""
        self.calls += 1
        self.seconds += seconds
        if errno:
            self.errors[errno] = self.errors.get(errno, 0) + 1
        if injected:
            self.injected += 1

    def merge(self, other: "Count") -> None:
        """Add all that another counted."""
        self.calls += other.calls
        self.seconds += other.seconds
        self.injected += other.injected
        for errno, times in other.errors.items():
            self.errors[errno] = self.errors.get(errno, 0) + times


class Summary:
    """Takes events, keeps counts: its size does not grow with the trace.

    Attributes:
        exits: by kind.
        slots: by VM, and by number: the memslots as they were asked for.
    """

    def __init__(self) -> None:
        self._ioctls: dict[tuple[str, str], Count] = {}
        self.exits: dict[str, Count] = {}
        self.slots: dict[str, dict[int, Values]] = {}

    def take(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Run):
            self.ran(event.exit, event.errno, event.seconds, event.injected)
        elif isinstance(event, Ioctl):
            key = (event.kind, event.name)
            self._ioctls.setdefault(key, Count()).add(event.errno, event.injected, event.seconds)
            if not event.errno and event.name.startswith("KVM_SET_USER_MEMORY_REGION"):
                self._slot(event)

    def ran(self, exit: str, errno: str | None, seconds: float, injected: str = "") -> None:
        """Count a ``KVM_RUN`` by its exit."""
        count = self.exits.get(exit)
        if count is None:
            count = self.exits[exit] = Count()
        if errno or injected:
            count.add(errno, injected, seconds)
        else:  # as `add` would; this is done a hundred thousand times
            count.calls += 1
            count.seconds += seconds

    @property
    def ioctls(self) -> dict[tuple[str, str], Count]:
        """By fd kind and name; ``KVM_RUN`` among them."""
        if not self.exits:
            return self._ioctls
        runs = Count()
        for count in self.exits.values():
            runs.merge(count)
        return {**self._ioctls, ("vcpu", "KVM_RUN"): runs}

    def to_json(self) -> dict[str, Any]:
        """Schema pyvmm.trace-summary/1."""
        return {
            "schema": SCHEMA,
            "ioctls": [
                {"kind": kind, "name": name, **_counted(count)}
                for (kind, name), count in self.ioctls.items()
            ],
            "exits": {kind: _counted(count) for kind, count in self.exits.items()},
            "memslots": {vm: list(slots.values()) for vm, slots in self.slots.items()},
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield "ioctls:"
        yield f"  {'calls':>8} {'errors':>8} {'seconds':>10}  name"
        for (kind, name), count in sorted(self.ioctls.items(), key=_order):
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
            yield f"memslots of {vm} at the end:"
            for number, slot in sorted(slots.items(), key=lambda item: number_of(item[1], "gpa")):
                gpa, memory = number_of(slot, "gpa"), size(number_of(slot, "size"))
                yield (
                    f"  {number:>4}  GPA {gpa:#014x}  {memory:<24} "
                    f"HVA {slot['hva']:#x}  {slot['flags']}".rstrip()
                )

    def _slot(self, event: Ioctl) -> None:
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
            "gpa": region.get("guest_phys_addr", 0),
            "size": region["memory_size"],
            "hva": region.get("userspace_addr", 0),
            "flags": event.names.get("argument.flags", ""),
        }


def _order(item: tuple[tuple[str, str], Count]) -> tuple[int, str]:
    return -item[1].calls, item[0][1]


def _counted(count: Count) -> dict[str, Any]:
    return {
        "calls": count.calls,
        "errors": count.errors,
        "injected": count.injected,
        "seconds": count.seconds,
    }
