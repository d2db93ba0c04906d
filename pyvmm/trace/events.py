# SPDX-License-Identifier: GPL-2.0-only
"""What happened, as values: each event is one line of JSON, and comes back from it as it was.

Schema pyvmm.trace/1: a first line ``{"schema": …, "command": …, "kernel": …, "arch": …}``, then one
object an event. Members that say nothing (null, "", [], {}) are left out.
"""

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

from pyvmm.errors import UsageError
from pyvmm.trace.values import Names, Values

SCHEMA = "pyvmm.trace/1"


@dataclass(slots=True)
class Event:
    """Something that thread `tid` of process `pid` did, `time` seconds after the trace began."""

    type: ClassVar[str]
    time: float
    pid: int
    tid: int

    def to_json(self) -> dict[str, Any]:
        """The event as JSON has it."""
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
        on: the object it was asked of, by its label; `kind` is the kind of fd.
        name: the ioctl's; for an unknown one the C macro that gives its number.
        argument, returned, details, names, unread: as in `pyvmm.trace.decode.Decoded`.
        result: what it returned, 0 where it failed; `errno` is then the error's name.
        seconds: how long it took, the tracing included.
        made: the label of the object that it returned a descriptor of.
        mapped: what a memslot was registered over, or what failed to be: the VMAs.
        why: why it failed, where that can be told; `cause` is a name to script against.
        injected: the rule that answered in the kernel's place.
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
        before: what the VMM had put into ``struct kvm_run``.
        exit: the kind of exit, "mmio"; `payload` are its members, `names` their names.
        why: why it failed, where that can be told; `cause` is a name to script against.
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
    """A mapping call under a memslot, or of a descriptor that matters: what the slot shows now.

    Attributes:
        call: mmap, munmap, mprotect, mremap or madvise.
        hva, size: the range in bytes that changed.
        what: what the call asked for, in words.
        slots: the memslots over it: ``{"vm", "slot", "gpa", "size"}``, the part that is hit.
        mapped: the VMAs there now.
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
    """A process began, became another program, closed an object's descriptor, or ended.

    `what` is "fork", "exec", "close" or "end"; `text` says the rest.
    """

    type: ClassVar[str] = "process"
    what: str
    text: str


_TYPES: dict[str, type[Event]] = {kind.type: kind for kind in (Ioctl, Run, Mapping, Process)}


def from_json(document: dict[str, Any]) -> Event:
    """The event that `Event.to_json` gave. Raises `UsageError` for anything else."""
    kind = _TYPES.get(document.get("type", ""))
    if kind is None:
        raise UsageError(f"a trace has no events of type {document.get('type')!r}")
    members = {member.name: member for member in fields(kind)}
    values = {name: value for name, value in document.items() if name in members}
    for name, member in members.items():
        if name not in values and member.default is MISSING and member.default_factory is MISSING:
            raise UsageError(f"a trace's {kind.type} event lacks {name!r}")
    return kind(**values)
