# SPDX-License-Identifier: GPL-2.0-only
"""The events of a trace, and their JSON form: live, or in a file.

Schema pyvmm.trace/1: the first line is ``{"schema": …, "command": …, "kernel": …, "arch": …}``,
and each further line is one event. Empty members (null, "", [], {}) are omitted.
"""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TextIO

from pyvmm.errors import UsageError
from pyvmm.input_file import LIMIT
from pyvmm.trace.values import Names, Values, is_value

SCHEMA = "pyvmm.trace/1"


@dataclass(slots=True)
class Event:
    """An event of thread `tid` in process `pid`, `time` seconds after the start of the trace."""

    type: ClassVar[str]
    time: float
    pid: int
    tid: int

    def to_json(self) -> dict[str, Any]:
        """Return the event as a JSON object."""
        document: dict[str, Any] = {"type": self.type}
        for member in fields(self):
            value = getattr(self, member.name)
            if value is not None and value != "" and value != [] and value != {}:
                document[member.name] = value
        return document


@dataclass(slots=True)
class Ioctl(Event):
    """An ioctl other than ``KVM_RUN``.

    Attributes:
        on: the label of the object that `fd` refers to; `kind` is the kind of fd.
        name: the name of the ioctl, or the C macro of its number if it is unknown.
        argument, returned, details, names, unread: as in `pyvmm.trace.ioctl_decode.Decoded`.
        result: the return value, or 0 if it failed; `errno` is then the name of the error.
        seconds: the duration, including the time that tracing takes.
        made: the label of the object whose descriptor it returned.
        mapped: for a memslot, the VMAs in its HVA range.
        cause: the name of the reason it failed, for scripts; "" if unknown.
        why: the same reason as a sentence.
        injected: the rule that injected the result.
    """

    type: ClassVar[str] = "ioctl"
    fd: int
    on: str
    kind: str
    name: str
    result: int
    seconds: float
    errno: str | None = None
    argument: Values = field(default_factory=dict)
    returned: Values = field(default_factory=dict)
    details: Values = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    unread: str = ""
    made: str = ""
    mapped: list[Values] = field(default_factory=list)
    cause: str = ""
    why: str = ""
    injected: str = ""


@dataclass(slots=True)
class Run(Event):
    """A ``KVM_RUN``.

    Attributes:
        before: the input that the VMM wrote into ``struct kvm_run``.
        exit: the kind of exit, such as "mmio".
        payload: the members of the exit; `names` are their symbolic names.
        cause, why, injected: as in `Ioctl`.
    """

    type: ClassVar[str] = "run"
    fd: int
    on: str
    exit: str
    seconds: float
    errno: str | None = None
    before: Values = field(default_factory=dict)
    payload: Values = field(default_factory=dict)
    names: Names = field(default_factory=dict)
    cause: str = ""
    why: str = ""
    injected: str = ""


@dataclass(slots=True)
class Mapping(Event):
    """A call that changes the mapping under a memslot, or maps a kernel object.

    Attributes:
        call: the call: mmap, munmap, mprotect, mremap or madvise.
        hva, size: the range that it changes, in bytes.
        what: the requested change, in words.
        slots: the parts of memslots in the range: ``{"vm", "slot", "gpa", "size"}``.
        mapped: the VMAs in the range after the call.
    """

    type: ClassVar[str] = "mapping"
    call: str
    hva: int
    size: int
    what: str
    slots: list[Values] = field(default_factory=list)
    mapped: list[Values] = field(default_factory=list)
    errno: str | None = None


@dataclass(slots=True)
class Process(Event):
    """A fork, an execve(2), the close of an object's last descriptor, or the end of a process.

    `what` is "fork", "exec", "close" or "end"; `text` has the details.
    """

    type: ClassVar[str] = "process"
    what: str
    text: str


_TYPES: dict[str, type[Event]] = {kind.type: kind for kind in (Ioctl, Run, Mapping, Process)}


# Members that each element of a list has.
_ELEMENTS = {"slots": {"vm", "slot", "gpa", "size"}, "mapped": {"start", "end", "perms"}}
_MAX_SECONDS = 1 << 63  # a larger int does not fit into a float


def _is_values(value: object) -> bool:
    return isinstance(value, dict) and is_value(value)


_CHECKS: dict[Any, Callable[[Any], bool]] = {
    float: lambda value: isinstance(value, int | float) and abs(value) < _MAX_SECONDS,
    int: lambda value: isinstance(value, int),
    str: lambda value: isinstance(value, str),
    str | None: lambda value: value is None or isinstance(value, str),
    Names: lambda value: _is_values(value) and all(isinstance(n, str) for n in value.values()),
    Values: _is_values,
    list[Values]: lambda value: isinstance(value, list) and all(map(_is_values, value)),
}


def from_json(document: dict[str, Any]) -> Event:
    """Return the event of a JSON object from `Event.to_json`. Raises `UsageError` if invalid."""
    name = document.get("type")
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UsageError(f"invalid trace event: unknown type {name!r}")
    values = {}
    for member in fields(kind):
        if member.name in document:
            values[member.name] = value = document[member.name]
            required = _ELEMENTS.get(member.name, set())
            if not _CHECKS[member.type](value) or (
                required and not all(required <= element.keys() for element in value)
            ):
                raise UsageError(f"invalid trace event: {kind.type} has an invalid {member.name!r}")
        elif member.default is MISSING and member.default_factory is MISSING:
            raise UsageError(f"invalid trace event: {kind.type} has no {member.name!r}")
    return kind(**values)


class EventWriter:
    """A writer of events as lines of JSON, after a header line."""

    def __init__(self, out: TextIO, command: Sequence[str]) -> None:
        """Write the header to `out`; `command` is the traced command line."""
        self._out = out
        self._write_line(
            {
                "schema": SCHEMA,
                "command": list(command),
                "kernel": platform.release(),
                "arch": platform.machine(),
            }
        )

    def write(self, event: Event) -> None:
        """Write an event."""
        self._write_line(event.to_json())

    def _write_line(self, document: dict[str, Any]) -> None:
        json.dump(document, self._out, separators=(",", ":"))
        self._out.write("\n")


@dataclass(frozen=True)
class Recording:
    """A recorded trace, with the JSON object of its first line as `header`."""

    path: Path
    header: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """Open a recording and read its header. Raises `UsageError` for any other file."""
        try:
            with path.open(errors="replace") as file:
                header = json.loads(file.readline(LIMIT))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        except (ValueError, RecursionError):
            header = None
        if (
            not isinstance(header, dict)
            or header.get("schema") != SCHEMA
            or not isinstance(header.get("command", []), list)
        ):
            raise UsageError(
                f"{path} is not a trace (schema {SCHEMA}): record one with trace --record"
            )
        return cls(path, header)

    def __iter__(self) -> Iterator[Event]:
        """Yield the events. Raises `UsageError` for a line that is not an event.

        An incomplete last line, as a killed tracer leaves it, ends the iteration.
        """
        with self.path.open(errors="replace") as file:
            next(file)
            for number, text in enumerate(file, 2):
                if not text.endswith("\n"):
                    return
                try:
                    document = json.loads(text)
                except (ValueError, RecursionError):
                    document = None
                if not isinstance(document, dict):
                    raise UsageError(f"line {number} of {self.path} is not an event")
                yield from_json(document)
