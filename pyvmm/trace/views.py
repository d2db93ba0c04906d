# SPDX-License-Identifier: GPL-2.0-only
"""What a person, or a script, wants to see of a trace: live, or of one that was recorded."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from pyvmm.trace import slots
from pyvmm.trace.events import Event
from pyvmm.trace.filters import Filter
from pyvmm.trace.record import Lines
from pyvmm.trace.summary import Summary
from pyvmm.trace.text import line


@dataclass(frozen=True)
class Wanted:
    """Which views; with none, every event as a line.

    Attributes:
        summary: counts, at the end.
        slots: the memslot timeline, and nothing else.
        json: JSON instead of text.
        filter: which events to show; the summary counts those, too.
    """

    summary: bool = False
    slots: bool = False
    json: bool = False
    filter: Filter = field(default_factory=Filter)

    @property
    def lines(self) -> bool:
        """Are there lines for single events?"""
        return self.slots or not self.summary


class Views:
    """Takes events and shows what is wanted of them."""

    def __init__(self, wanted: Wanted, out: TextIO, command: Sequence[str]) -> None:
        self._wanted = wanted
        self._out = out
        self._summary = Summary() if wanted.summary else None
        self._show: Callable[[Event], None] | None = None
        if wanted.lines:
            self._show = Lines(out, command).take if wanted.json else self._text

    def counter(self) -> Callable[[str, str | None, float], None] | None:
        """What counts each ``KVM_RUN``, where no one wants more of it."""
        only = self._summary and not self._show and self._wanted.filter == Filter()
        return self._summary.ran if self._summary and only else None

    def finish(self) -> None:
        """The trace is over: what is shown at its end."""
        if self._summary and self._wanted.json:
            print(json.dumps(self._summary.to_json(), indent=1), file=self._out)
        elif self._summary:
            for text in self._summary.lines():
                print(text, file=self._out)
        self._out.flush()

    def take(self, event: Event) -> None:
        """Show an event, if it is wanted."""
        if not self._wanted.filter.wants(event):
            return
        if self._summary:
            self._summary.take(event)
        if self._show and (not self._wanted.slots or slots.concerns(event)):
            self._show(event)

    def _text(self, event: Event) -> None:
        print(line(event), file=self._out)
