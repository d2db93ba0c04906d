# SPDX-License-Identifier: GPL-2.0-only
"""The text form of an event in ``trace_pipe``."""

import re
from dataclasses import dataclass

_EVENT = re.compile(
    r".*-(?P<thread>\d+) +\[\d+\] +\S+ +(?P<time>\d+\.\d+): (?P<name>\w+): (?P<text>.*)"
)
# A return: "(CALLER+OFFSET/SIZE [MODULE] <- FUNCTION [MODULE]) NAME=VALUE …". An entry: no "<-".
_PROBE = re.compile(r"\((?P<caller>[^)<]*?)(?: <- (?P<function>[^)]*))?\)(?P<values>.*)")
_VALUE = re.compile(r"(\w+)[=:]? ?(0x[0-9a-f]+|-?\d+)")


@dataclass(frozen=True)
class Event:
    """An event of one thread.

    Attributes:
        time: seconds since boot, by the clock that the kernel's log uses.
        name: the event's name.
        caller: for a return, the function that it returns to.
        values: the recorded numbers by name.
        text: the values as the kernel prints them.
    """

    thread: int
    time: float
    name: str
    caller: str | None
    values: dict[str, int]
    text: str


def parse(line: str) -> Event | None:
    """Parse a line of ``trace_pipe``; return None if it is not an event."""
    match = _EVENT.fullmatch(line)
    if not match:
        return None
    text, caller = match["text"], None
    if probe := _PROBE.fullmatch(text):
        text = probe["values"]
        caller = re.split(r"[+.]", probe["caller"])[0] if probe["function"] else None
    values = {
        name: int(value, 16 if value.startswith("0x") else 10)
        for name, value in _VALUE.findall(text)
    }
    return Event(
        int(match["thread"]), float(match["time"]), match["name"], caller, values, text.strip()
    )
