# SPDX-License-Identifier: GPL-2.0-only
"""Notes to the user of a running host: its kernel's lockups and stalls, and signs of life."""

import time
from collections.abc import Callable

from pyvmm.lab.console_log import Console
from pyvmm.lab.virtio_ports import VirtioPorts

Note = Callable[[str], None]

_SILENCE = 30.0  # seconds without output until a note


class Watch:
    """The notes of one run."""

    def __init__(
        self, ports: VirtioPorts, console: Console, timeout: float | None, note: Note
    ) -> None:
        """Pass each note to `note`. `timeout` is the limit of the run in seconds."""
        self._ports = ports
        self._console = console
        self._timeout = timeout
        self._note = note
        self._start = self._noted = time.monotonic()
        self._size = 0
        self._troubles = 0

    def update(self) -> bool:
        """Note what is new. Return False: the run goes on."""
        if (size := self._console.path.stat().st_size) != self._size:
            self._size = size
            troubles = self._console.trouble()
            for trouble in troubles[self._troubles :]:
                self._note(f"the host's kernel reports: {trouble}")
            self._troubles = len(troubles)
        now = time.monotonic()
        if now - max(self._noted, self._ports.last_output) >= _SILENCE:
            self._noted = now
            limit = f" of at most {self._timeout:g} s (--timeout)" if self._timeout else ""
            self._note(
                f"still running after {now - self._start:.0f} s{limit}; "
                f"last console line: {self._console.last_line() or 'none'}"
            )
        return False
