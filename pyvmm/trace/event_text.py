# SPDX-License-Identifier: GPL-2.0-only
"""Format events as lines of text."""

import os
from typing import assert_never

from pyvmm.errno_names import errno_number
from pyvmm.trace.events import Event, Ioctl, Mapping, Process, Run
from pyvmm.trace.values import Names, Value, Values, int_member
from pyvmm.units import size

_SIZES = {"memory_size", "size", "length", "mmap_size"}  # members that hold a size in bytes
_MAX_STRUCTS, _MAX_NUMBERS = 2, 8  # elements of a list that are printed
_MAX_CHARACTERS = 64  # of a string


def event_line(event: Event) -> str:
    """Return one line with the time, the tid, the call and its result."""
    return f"{event.time:10.6f} {event.tid} {_body(event)}"


def _body(event: Event) -> str:
    if isinstance(event, Ioctl):
        return _ioctl(event)
    if isinstance(event, Run):
        return _run(event)
    if isinstance(event, Mapping):
        return _mapping(event)
    if isinstance(event, Process):
        return f"--- process {event.pid} {_PROCESS.get(event.what, event.what)} {event.text}"
    raise TypeError(f"cannot format {type(event).__name__}")


_PROCESS = {"fork": "forks", "exec": "execs", "close": "closes", "end": "ends,"}


def _ioctl(event: Ioctl) -> str:
    parts = [event.on, event.name, format_members(event.argument, event.names, "argument.")]
    if event.details:
        parts.append(f"({format_members(event.details, event.names, 'details.')})")
    if event.unread:
        parts.append(f"({event.unread})")
    parts.append(f"= {_outcome(event)}")
    if event.made:
        parts.append(f"({event.made})")
    if event.returned:
        parts.append(format_members(event.returned, event.names, "returned."))
    for area in event.mapped:
        parts.append(f"over {_area(area)}")
    return _joined([*parts, _marks(event.why, event.injected)])


def _run(event: Run) -> str:
    parts = [event.on, "KVM_RUN", format_members(event.before, {}, "")]
    if event.errno:
        parts.append(f"= {_error(event.errno)}")
    parts += ["→", event.exit, format_members(event.payload, event.names, "")]
    return _joined([*parts, _marks(event.why, event.injected)])


def _mapping(event: Mapping) -> str:
    text = f"{event.call} HVA {event.hva:#x}, {size(event.size)}: {event.what}"
    if event.errno:
        text += f" = {_error(event.errno)}"
    for slot in event.slots:
        where = f"{slot['vm']} slot {slot['slot']} at GPA {_hex(slot['gpa'])}"
        text += f"; under {where}, {size(int_member(slot, 'size'))}"
    if event.slots:
        text += f"; now {', '.join(map(_area, event.mapped)) or 'nothing is mapped'}"
    return text


def format_members(values: Values, names: Names, prefix: str) -> str:
    """Return ``slot=0 flags=KVM_MEM_READONLY memory_size=640 KiB (0xa0000)``."""
    if list(values) == ["argument"]:  # the argument is a number, not a struct
        return _value(values["argument"], names, f"{prefix}argument")
    return " ".join(
        _member(name, value, names, f"{prefix}{name}") for name, value in values.items()
    )


def errno_text(errno: str) -> str:
    """Return the strerror(3) text of an errno name."""
    number = errno_number(errno)
    return os.strerror(number) if number else "unknown error"


def _member(name: str, value: Value, names: Names, path: str) -> str:
    if name == "write" and isinstance(value, bool):
        return "write" if value else "read"
    if name in _SIZES and isinstance(value, int) and value >= 1024:
        return f"{name}={size(value)}"
    return f"{name}={_value(value, names, path)}"


def _value(value: Value, names: Names, path: str) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return names.get(path) or _hex(value)
        case str():
            return value if len(value) <= _MAX_CHARACTERS else f"{value[:_MAX_CHARACTERS]}…"
        case list() if len(value) > _MAX_STRUCTS and not any(map(_nonzero, value)):
            return f"[{len(value)} zeros]"
        case list():
            limit = _MAX_STRUCTS if value and isinstance(value[0], dict) else _MAX_NUMBERS
            shown = [_value(v, names, f"{path}[{i}]") for i, v in enumerate(value[:limit])]
            rest = [f"… {len(value) - limit} more"] if len(value) > limit else []
            return f"[{', '.join([*shown, *rest])}]"
        case dict():
            return f"{{{format_members(value, names, f'{path}.')}}}"
    assert_never(value)


def _nonzero(value: Value) -> bool:
    """Return True if any number in the value is not zero."""
    if isinstance(value, dict):
        return any(map(_nonzero, value.values()))
    return any(map(_nonzero, value)) if isinstance(value, list) else bool(value)


def _hex(value: Value) -> str:
    return str(value) if not isinstance(value, int) or -4096 < value < 10 else f"{value:#x}"


def _outcome(event: Ioctl) -> str:
    return _error(event.errno) if event.errno else str(event.result)


def _error(errno: str) -> str:
    return f"{errno} ({errno_text(errno)})"


def _area(area: Values) -> str:
    kind = " PFNMAP" if area.get("pfnmap") else ""
    name = area.get("path") or "anonymous"
    return f"{name} {area['perms']}{kind} {_hex(area['start'])}-{_hex(area['end'])}"


def _marks(why: str, injected: str) -> str:
    marks = [f": {why}"] if why else []
    return " ".join([*marks, *([f"[injected: {injected}]"] if injected else [])])


def _joined(parts: list[str]) -> str:
    return " ".join(part for part in parts if part).replace(" : ", ": ")
