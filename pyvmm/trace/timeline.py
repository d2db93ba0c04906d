# SPDX-License-Identifier: GPL-2.0-only
"""A trace as a timeline in the Chrome trace event format, which Perfetto opens.

The format's JSON array may lack its last bracket, so the file of a killed tracer opens, too.
"""

import json
from collections.abc import Sequence
from typing import Any, TextIO

from pyvmm.trace.events import Event, Ioctl, Mapping, Process, Run


class TimelineWriter:
    """A writer of events, each a slice or a mark on the row of its thread."""

    def __init__(self, out: TextIO, command: Sequence[str]) -> None:
        """Write to `out`; `command` is the traced command line, which names the process."""
        self._out = out
        self._command = " ".join(map(str, command))
        self._named: set[tuple[int, int | None]] = set()
        self._written = 0

    def write(self, event: Event) -> None:
        """Write an event."""
        if not self._named:
            self._name(event.pid, None, self._command)
        if isinstance(event, Run):
            self._name(event.pid, event.tid, event.on)
        self._write(_entry(event))

    def close(self) -> None:
        """Complete the file. Idempotent."""
        if self._out.closed:
            return
        self._out.write("\n]\n" if self._written else "[]\n")
        self._out.close()

    def _name(self, pid: int, tid: int | None, name: str) -> None:
        """Name a process, or a thread, which is its first vCPU."""
        if (pid, tid) not in self._named:
            self._named.add((pid, tid))
            what = "process_name" if tid is None else "thread_name"
            self._write(
                {"ph": "M", "name": what, "pid": pid, "tid": tid or 0, "args": {"name": name}}
            )

    def _write(self, entry: dict[str, Any]) -> None:
        self._out.write(",\n" if self._written else "[\n")
        json.dump(entry, self._out, separators=(",", ":"))
        self._written += 1


def _entry(event: Event) -> dict[str, Any]:
    """Return a slice for an ioctl, which lasts, or a mark for anything else."""
    details = event.to_json()
    for member in ("type", "time", "pid", "tid", "seconds"):
        details.pop(member, None)
    name, category = _name(event)
    entry = {
        "name": name,
        "cat": category,
        "ts": _microseconds(event.time),
        "pid": event.pid,
        "tid": event.tid,
        "args": _readable(details),
    }
    if isinstance(event, Ioctl | Run):
        return entry | {"ph": "X", "dur": max(_microseconds(event.seconds), 0)}
    return entry | {"ph": "i", "s": "p" if isinstance(event, Process) else "t"}


def _name(event: Event) -> tuple[str, str]:
    match event:
        case Ioctl():
            return event.name, "failed" if event.errno else "ioctl"
        case Run():
            return f"KVM_RUN: {event.errno or event.exit}", "failed" if event.errno else "exit"
        case Mapping():
            return event.call, "mapping"
        case Process():
            return event.what, "process"
    return event.type, "other"


def _readable(value: Any) -> Any:
    """Return a value with numbers from 4096 on in hexadecimal: viewers print only decimals."""
    match value:
        case dict():
            return {name: _readable(member) for name, member in value.items()}
        case list():
            return [_readable(element) for element in value]
        case int() if value >= 4096:
            return f"{value:#x}"
    return value


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
