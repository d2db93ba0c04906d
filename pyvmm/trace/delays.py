# SPDX-License-Identifier: GPL-2.0-only
"""Threads that wait before their system call begins, while all others go on."""

import signal
import time
from types import FrameType

from pyvmm.trace import ptrace

_SHORTEST = 0.0001  # seconds; a timer of 0 would be none


class Delays:
    """Stopped threads, each with the time at which it goes on; a timer's signal sees to it."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}

    def add(self, tid: int, seconds: float) -> None:
        """Let a thread that stands before its system call enter it `seconds` from now."""
        if not self._due:
            signal.signal(signal.SIGALRM, self._tick)
        self._due[tid] = time.monotonic() + seconds
        self._arm()

    def release(self) -> None:
        """Let all of them go on now."""
        self._go_on(list(self._due))
        self._arm()

    def _tick(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._go_on([tid for tid, due in self._due.items() if due <= now])
        self._arm()

    def _go_on(self, tids: list[int]) -> None:
        for tid in tids:
            del self._due[tid]
            ptrace.quick(ptrace.SYSCALL, tid, None, None)

    def _arm(self) -> None:
        wait = min(self._due.values(), default=0) - time.monotonic() if self._due else 0
        # Once more every while: a signal just before the wait would otherwise go unnoticed.
        signal.setitimer(signal.ITIMER_REAL, max(wait, _SHORTEST) if self._due else 0, 0.01)
