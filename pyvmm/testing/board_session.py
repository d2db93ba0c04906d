# SPDX-License-Identifier: GPL-2.0-only
"""One start of a board, and the pytest session that it runs."""

import io
import json
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pyvmm.errors import PyvmmError
from pyvmm.lab.event_lines import EventLines
from pyvmm.testing.board_protocol import Board, BoardFailure, Job

_BOOT_TIMEOUT = 180.0  # additional seconds for the first event: boot, and compiling Python
_EXIT_TIMEOUT = 60.0  # seconds for pytest to end after the last test

Event = Mapping[str, Any]


class BoardSession:
    """One start of a board, which runs tests and reports them as events.

    Attributes:
        stderr: the stderr of pytest on the board.
    """

    def __init__(self, board: Board, job: Job, timeout: float) -> None:
        """Start the board; `timeout` is the limit for each event in seconds."""
        self._events: deque[Event] = deque()
        self._timeout = timeout
        self._boot_timeout = _BOOT_TIMEOUT
        self.stderr = io.BytesIO()
        with ExitStack() as stack:
            started = board.start(job, EventLines(self._events.append), self.stderr)
            self._running = stack.enter_context(started)
            self._stack = stack.pop_all()

    def run(self, nodeid: str | None, following: str | None = None) -> None:
        """Order the test `nodeid`, or the end of the session; `following` is the next test.

        The fixtures that the two tests share are kept.
        """
        order = {"run": nodeid, "next": following}
        self._running.send(json.dumps(order).encode() + b"\n")

    def next(self) -> Event:
        """Wait for the next event and return it. Raises `BoardFailure`."""
        timeout = self._timeout + self._boot_timeout
        if not self._events and not self._running.relay(self._has_event, timeout):
            raise BoardFailure(self._failure())
        self._boot_timeout = 0.0
        return self._events.popleft()

    def _has_event(self) -> bool:
        return bool(self._events)

    def attach(self) -> None:
        """Connect this process's terminal to the shell of a failed test until the shell ends."""
        self._running.attach(self._has_event)

    def close(self, *, kill: bool = False) -> None:
        """Stop the board; without `kill`, first wait for pytest to end."""
        with self._stack:
            if not kill:
                self.run(None)
                try:
                    self._running.wait(_EXIT_TIMEOUT)
                except PyvmmError:
                    return  # every test has ended

    def _failure(self) -> str:
        """Return why the board failed, the end of its console, and the end of stderr."""
        console = self._running.console()
        try:
            status = self._running.wait()
            reason = f"pytest on the board exited with status {status}"
        except PyvmmError as error:
            # Omit the console from the one-line message: it follows.
            reason = str(error).partition("; see the console log")[0]
        last = self.stderr.getvalue().decode(errors="replace").strip().splitlines()[-60:]
        parts = [reason, *(["", "last lines of the console:", console] if console else [])]
        return "\n".join([*parts, *(["", "stderr:", *last] if last else [])])
