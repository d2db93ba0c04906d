# SPDX-License-Identifier: GPL-2.0-only
"""Where two traces part: two VMMs, or one on two kernels.

Compared is what a VMM says and is told: each ioctl with the members that mean the same in every
run (slots, GPAs, sizes, flags, capabilities, registers by name) and its outcome. What differs in
every run is left out: descriptors, host addresses, times, register and timer values. Each object is
compared by itself, as threads race. Interrupts come when they do, and are left out; exits too, but
for how many of each kind there were.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from pyvmm.trace.events import Event, Ioctl, Run
from pyvmm.trace.text import members
from pyvmm.trace.values import Value, Values

# Members with the same meaning in every run.
_STABLE = {
    "args",
    "argument",
    "attr",
    "attribute",
    "attributes",
    "cap",
    "capabilities",
    "chip_id",
    "datamatch",
    "device",
    "flags",
    "group",
    "gsi",
    "guest_memfd_offset",
    "guest_phys_addr",
    "index",
    "iova",
    "irq",
    "len",
    "length",
    "memory_size",
    "mp_state",
    "num_irqs",
    "num_regions",
    "option_id",
    "register",
    "routes",
    "size",
    "slot",
    "target",
    "type",
}
# Ioctls whose result is an answer, not a descriptor.
_ANSWERS = {"KVM_CHECK_EXTENSION", "KVM_GET_API_VERSION", "VFIO_CHECK_EXTENSION"}
_INTERRUPTS = {"KVM_IRQ_LINE", "KVM_IRQ_LINE_STATUS", "KVM_SIGNAL_MSI", "KVM_INTERRUPT"}


@dataclass(frozen=True)
class Change:
    """A stretch where the traces differ: what only the first says, and what only the second.

    Attributes:
        on: the object that it is said to, by its label.
        before: the last line that both say.
    """

    on: str
    before: str
    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Two traces compared; `exits` are the counts by kind that differ, (first, second)."""

    changes: list[Change]
    exits: dict[str, tuple[int, int]]

    def __bool__(self) -> bool:
        return bool(self.changes or self.exits)


def diff(first: Iterable[Event], second: Iterable[Event]) -> Difference:
    """Compare two traces."""
    a, exits_a = _said(first)
    b, exits_b = _said(second)
    changes = [
        change
        for label in dict.fromkeys([*a, *b])
        for change in _changes(label, a.get(label, []), b.get(label, []))
    ]
    kinds = dict.fromkeys([*exits_a, *exits_b])
    differ = {k: (exits_a[k], exits_b[k]) for k in kinds if exits_a[k] != exits_b[k]}
    return Difference(changes, differ)


def _changes(on: str, a: list[str], b: list[str]) -> Iterator[Change]:
    for tag, i, to, j, until in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            yield Change(on, a[i - 1] if i else "", tuple(a[i:to]), tuple(b[j:until]))


def _said(events: Iterable[Event]) -> tuple[dict[str, list[str]], Counter[str]]:
    """What was said to each object, and how many exits of each kind there were."""
    said: dict[str, list[str]] = {}
    exits: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Run):
            exits[event.exit] += 1
        elif isinstance(event, Ioctl) and event.name not in _INTERRUPTS:
            text, before = _line(event), said.setdefault(event.on, [])
            if not before or before[-1] != text:  # the same again and again is said once
                before.append(text)
    return said, exits


def _line(event: Ioctl) -> str:
    parts = [
        event.name,
        members(_stable(event.argument), event.names, "argument."),
        members(_stable(event.details), event.names, "details."),
    ]
    if event.errno:
        parts.append(f"= {event.errno}")
    elif event.name in _ANSWERS:
        parts.append(f"= {event.result}")
    if event.injected:
        parts.append("[injected]")
    return " ".join(part for part in parts if part)


def _stable(values: Values) -> Values:
    return {name: value for name, value in values.items() if name in _STABLE and _short(value)}


def _short(value: Value) -> bool:
    return not isinstance(value, str) or len(value) <= 64


def to_json(difference: Difference) -> dict[str, Any]:
    """Schema pyvmm.trace-diff/1."""
    return {
        "schema": "pyvmm.trace-diff/1",
        "changes": [asdict(change) for change in difference.changes],
        "exits": {kind: list(counts) for kind, counts in difference.exits.items()},
    }


def lines(difference: Difference) -> Iterator[str]:
    """For a person: ``-`` is only in the first trace, ``+`` only in the second."""
    for change in difference.changes:
        yield f"{change.on}: after {change.before or 'nothing'}"
        yield from (f"- {text}" for text in change.first)
        yield from (f"+ {text}" for text in change.second)
    for kind, (one, other) in difference.exits.items():
        yield f"exits, {kind}: {one} → {other}"
