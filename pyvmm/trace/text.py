# SPDX-License-Identifier: GPL-2.0-only
"""An event as a line for a person."""

import os
from typing import assert_never

from pyvmm.errno_names import errno_number
from pyvmm.trace.events import Event, Ioctl, Mapping, Process, Run
from pyvmm.trace.values import Names, Value, Values, number_of
from pyvmm.units import size

_SIZES = {"memory_size", "size", "length", "mmap_size"}  # members that are bytes of memory
_MOST_STRUCTS, _MOST_NUMBERS = 2, 8  # elements of a list that are shown
_LONGEST = 64  # characters of hex


def line(event: Event) -> str:
    """The event in one line: when, who, what was asked, what came of it."""
    return f"{event.time:10.6f} {event.tid} {_body(event)}"


def _body(event: Event) -> str:
    if isinstance(event, Ioctl):
        return _ioctl(event)
    if isinstance(event, Run):
        return _run(event)
    if isinstance(event, Mapping):
        return mapping(event)
    if isinstance(event, Process):
        return f"--- process {event.pid} {_PROCESS[event.what]} {event.text}"
    raise TypeError(f"no text for {type(event).__name__}")


_PROCESS = {"fork": "forks", "exec": "is now", "close": "closes", "end": "ends,"}


def _ioctl(event: Ioctl) -> str:
    parts = [event.on, event.name, members(event.argument, event.names, "argument.")]
    if event.details:
        parts.append(f"({members(event.details, event.names, 'details.')})")
    if event.unread:
        parts.append(f"({event.unread})")
    parts.append(f"= {_outcome(event)}")
    if event.made:
        parts.append(f"({event.made})")
    if event.returned:
        parts.append(members(event.returned, event.names, "returned."))
    for area in event.mapped:
        parts.append(f"over {_area(area)}")
    return _joined([*parts, _marks(event.why, event.injected)])


def _run(event: Run) -> str:
    parts = [event.on, "KVM_RUN", members(event.before, {}, "")]
    if event.errno:
        parts.append(f"= {_error(event.errno)}")
    parts += ["→", event.exit, members(event.payload, event.names, "")]
    return _joined([*parts, _marks(event.why, event.injected)])


def mapping(event: Mapping) -> str:
    """What happened to the memory under which memslots."""
    text = f"{event.call} HVA {event.hva:#x}, {size(event.size)}: {event.what}"
    if event.errno:
        text += f" = {_error(event.errno)}"
    for slot in event.slots:
        where = f"{slot['vm']} slot {slot['slot']} at GPA {_hex(slot['gpa'])}"
        text += f"; under {where}, {size(number_of(slot, 'size'))}"
    if event.slots:
        text += f"; now {', '.join(map(_area, event.mapped)) or 'nothing is mapped'}"
    return text


def members(values: Values, names: Names, at: str) -> str:
    """``slot=0 flags=KVM_MEM_READONLY memory_size=640 KiB (0xa0000)``."""
    if list(values) == ["argument"]:  # an ioctl whose argument is a number
        return _value(values["argument"], names, f"{at}argument")
    return " ".join(_member(name, value, names, f"{at}{name}") for name, value in values.items())


def meaning(errno: str) -> str:
    """What an error's name means, in the C library's words."""
    number = errno_number(errno)
    return os.strerror(number) if number else "unknown error"


def _member(name: str, value: Value, names: Names, place: str) -> str:
    if name == "write" and isinstance(value, bool):
        return "write" if value else "read"
    if name in _SIZES and isinstance(value, int) and value >= 1024:
        return f"{name}={size(value)}"
    return f"{name}={_value(value, names, place)}"


def _value(value: Value, names: Names, place: str) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return names.get(place) or _hex(value)
        case str():
            return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
        case list() if len(value) > _MOST_STRUCTS and not any(map(_says_something, value)):
            return f"[{len(value)} zeros]"
        case list():
            most = _MOST_STRUCTS if value and isinstance(value[0], dict) else _MOST_NUMBERS
            shown = [_value(v, names, f"{place}[{i}]") for i, v in enumerate(value[:most])]
            rest = [f"… {len(value) - most} more"] if len(value) > most else []
            return f"[{', '.join([*shown, *rest])}]"
        case dict():
            return f"{{{members(value, names, f'{place}.')}}}"
    assert_never(value)


def _says_something(value: Value) -> bool:
    """Is there anything but zeros in it?"""
    if isinstance(value, dict):
        return any(map(_says_something, value.values()))
    return any(map(_says_something, value)) if isinstance(value, list) else bool(value)


def _hex(value: Value) -> str:
    return str(value) if not isinstance(value, int) or -4096 < value < 10 else f"{value:#x}"


def _outcome(event: Ioctl) -> str:
    return _error(event.errno) if event.errno else str(event.result)


def _error(errno: str) -> str:
    return f"{errno} ({meaning(errno)})"


def _area(area: Values) -> str:
    kind = " PFNMAP" if area.get("pfnmap") else ""
    name = area.get("path") or "anonymous"
    return f"{name} {area['perms']}{kind} {_hex(area['start'])}-{_hex(area['end'])}"


def _marks(why: str, injected: str) -> str:
    marks = [f": {why}"] if why else []
    return " ".join([*marks, *([f"[injected: {injected}]"] if injected else [])])


def _joined(parts: list[str]) -> str:
    return " ".join(part for part in parts if part).replace(" : ", ": ")
