# SPDX-License-Identifier: GPL-2.0-only
"""Where it is put together: system calls come in, events go out."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pyvmm.trace.events import Event, Process
from pyvmm.trace.ioctls import Ioctls
from pyvmm.trace.known import Known
from pyvmm.trace.mappings import MAPPING_CALLS, Mappings
from pyvmm.trace.ptrace import NUMBERS
from pyvmm.trace.running import Running
from pyvmm.trace.tracer import Call, Thread, Verdict
from pyvmm.uapi.kvm import KVM_RUN

Taker = Callable[[Event], None]

_IOCTL, _RUN = NUMBERS["ioctl"], int(KVM_RUN)
_CLOSING_CALLS = ("close", "close_range", "dup2", "dup3")
_CLOSING = {NUMBERS[name]: name for name in _CLOSING_CALLS if name in NUMBERS}
_MAPPING = {NUMBERS[name]: name for name in MAPPING_CALLS}
_CLOSE_RANGE_CLOEXEC = 1 << 2
_WORD = (1 << 32) - 1


class Watch:
    """Turns the calls of traced programs into events: the `Watcher` of a `Tracer`.

    Attributes:
        needs_entries: as the tracer asks.
        calls: the system calls that have to stop.
    """

    def __init__(
        self,
        known: Known,
        takers: Sequence[Taker],
        *,
        mappings: bool,
        count: Callable[[str, str | None, float], None] | None = None,
    ) -> None:
        """`takers` get every event; `mappings`: watch the memory under memslots, too.

        With `count` each ``KVM_RUN`` is only counted there, and makes no event: see
        `pyvmm.trace.summary.Summary.ran`.
        """
        self.needs_entries = known.detailed or bool(known.rules)
        self.calls = ("ioctl", *_CLOSING_CALLS, *(MAPPING_CALLS if mappings else ()))
        self._known = known
        self._takers = takers
        self._count = count
        self._running = Running(known)
        self._ioctls = Ioctls(known)
        self._mappings = Mappings(known)

    def entered(self, thread: Thread, call: Call) -> Verdict | None:
        """A call begins."""
        if call.number == _IOCTL:
            if call.args[1] & _WORD == _RUN:
                return self._running.begin(thread, call)
            return self._ioctls.begin(thread, call)
        if call.number in _CLOSING:
            self._closing(thread, call)
        return None

    def left(self, thread: Thread, call: Call, result: int) -> None:
        """A call has returned."""
        event: Event | None = None
        if call.number == _IOCTL:
            if call.args[1] & _WORD == _RUN:
                if self._count:
                    self._count(*self._running.count(thread, call, result))
                    return
                event = self._running.end(thread, call, result)
            else:
                event = self._ioctls.end(thread, call, result)
        elif call.number in _MAPPING:
            event = self._mappings.end(thread, call, _MAPPING[call.number], result)
        elif not self.needs_entries:
            self._closing(thread, call)
        if event:
            for take in self._takers:
                take(event)

    def forked(self, parent: int, child: int) -> None:
        """A child has its parent's descriptors: each is known again when it is used."""
        self._tell(parent, "fork", f"process {child}")

    def executed(self, pid: int) -> None:
        """Another program, with those descriptors that were not close-on-exec."""
        self._known.objects.executed(pid)
        try:
            program = str(Path(f"/proc/{pid}/exe").readlink())
        except OSError:
            program = "a program"
        self._tell(pid, "exec", program)

    def ended(self, pid: int, status: int) -> None:
        """A process is gone."""
        self._known.objects.gone(pid)
        code = os.waitstatus_to_exitcode(status)
        self._tell(pid, "end", f"status {code}" if code >= 0 else f"signal {-code}")

    def _closing(self, thread: Thread, call: Call) -> None:
        objects, name, args = self._known.objects, _CLOSING[call.number], call.args
        if name == "close":
            closed = objects.closed(thread.pid, args[0] & _WORD)
        elif name != "close_range":
            closed = objects.closed(thread.pid, args[1] & _WORD)  # what the copy replaces
        elif not args[2] & _CLOSE_RANGE_CLOEXEC:
            objects.closed_from(thread.pid, args[0] & _WORD, args[1] & _WORD)
            return
        else:
            return
        if closed and not closed.held:
            self._tell(thread.pid, "close", closed.label)

    def _tell(self, pid: int, what: str, text: str) -> None:
        event = Process(self._known.seconds(time.perf_counter_ns()), pid, pid, what, text)
        for take in self._takers:
            take(event)
