# SPDX-License-Identifier: GPL-2.0-only
"""Compare two traces: of two VMMs, or of one VMM on two kernels.

The comparison covers each ioctl, its members that are comparable between runs (slots, GPAs, sizes,
flags, capabilities, register names), and its result. It ignores what differs in every run:
descriptors, HVAs, times, register and timer values. Each object is compared separately, because
threads race. Interrupt ioctls are ignored because their timing varies. Exits are only counted by
kind.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from pyvmm.trace.event_text import format_members
from pyvmm.trace.events import Event, Ioctl, Run
from pyvmm.trace.values import Value, Values

# Members whose values are comparable between runs.
_COMPARABLE = {
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
# Ioctls whose result is a value, not a descriptor.
_VALUE_IOCTLS = {"KVM_CHECK_EXTENSION", "KVM_GET_API_VERSION", "VFIO_CHECK_EXTENSION"}
_INTERRUPT_IOCTLS = {"KVM_IRQ_LINE", "KVM_IRQ_LINE_STATUS", "KVM_SIGNAL_MSI", "KVM_INTERRUPT"}


@dataclass(frozen=True)
class Divergence:
    """A place where the two traces differ.

    Attributes:
        on: the label of the object.
        before: the last line before it that both traces have, or "".
        first, second: the lines that only the first or only the second trace has.
    """

    on: str
    before: str
    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True)
class TraceDiff:
    """The differences between two traces; False if there are none.

    Attributes:
        changes: the divergences, object by object.
        exits: the counts (first, second) of each kind of exit whose counts differ.
    """

    changes: list[Divergence]
    exits: dict[str, tuple[int, int]]

    def __bool__(self) -> bool:
        """Return True if the traces differ."""
        return bool(self.changes or self.exits)


def compare(first: Iterable[Event], second: Iterable[Event]) -> TraceDiff:
    """Return the differences between two traces."""
    a, exits_a = _comparable_lines(first)
    b, exits_b = _comparable_lines(second)
    changes = [
        divergence
        for label in dict.fromkeys([*a, *b])
        for divergence in _divergences(label, a.get(label, []), b.get(label, []))
    ]
    kinds = dict.fromkeys([*exits_a, *exits_b])
    differ = {k: (exits_a[k], exits_b[k]) for k in kinds if exits_a[k] != exits_b[k]}
    return TraceDiff(changes, differ)


def _divergences(on: str, a: list[str], b: list[str]) -> Iterator[Divergence]:
    for tag, i, to, j, until in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            yield Divergence(on, a[i - 1] if i else "", tuple(a[i:to]), tuple(b[j:until]))


def _comparable_lines(events: Iterable[Event]) -> tuple[dict[str, list[str]], Counter[str]]:
    """Return the ioctls of each object as lines, and the number of exits of each kind."""
    lines: dict[str, list[str]] = {}
    exits: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Run):
            exits[event.exit] += 1
        elif isinstance(event, Ioctl) and event.name not in _INTERRUPT_IOCTLS:
            text, previous = _line(event), lines.setdefault(event.on, [])
            if not previous or previous[-1] != text:  # repetitions count once
                previous.append(text)
    return lines, exits


def _line(event: Ioctl) -> str:
    parts = [
        event.name,
        format_members(_comparable(event.argument), event.names, "argument."),
        format_members(_comparable(event.details), event.names, "details."),
    ]
    if event.errno:
        parts.append(f"= {event.errno}")
    elif event.name in _VALUE_IOCTLS:
        parts.append(f"= {event.result}")
    if event.injected:
        parts.append("[injected]")
    return " ".join(part for part in parts if part)


def _comparable(values: Values) -> Values:
    return {name: value for name, value in values.items() if name in _COMPARABLE and _short(value)}


def _short(value: Value) -> bool:
    return not isinstance(value, str) or len(value) <= 64


def to_json(difference: TraceDiff) -> dict[str, Any]:
    """Return the JSON document (schema pyvmm.trace-diff/1)."""
    return {
        "schema": "pyvmm.trace-diff/1",
        "changes": [asdict(change) for change in difference.changes],
        "exits": {kind: list(counts) for kind, counts in difference.exits.items()},
    }


def text_lines(difference: TraceDiff) -> Iterator[str]:
    """Yield text lines: ``-`` marks the first trace, ``+`` the second."""
    for change in difference.changes:
        yield f"{change.on}: after {change.before or 'the start'}"
        yield from (f"- {text}" for text in change.first)
        yield from (f"+ {text}" for text in change.second)
    for kind, (one, other) in difference.exits.items():
        yield f"exits, {kind}: {one} → {other}"
