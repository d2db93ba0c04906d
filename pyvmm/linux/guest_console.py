# SPDX-License-Identifier: GPL-2.0-only
"""The output of a guest's console, and what it shows of the guest's progress."""

import re
import time
from typing import BinaryIO

# init/main.c: run_init_process; and the first line of guest_init.sh, for "quiet" kernels.
_INIT = re.compile(rb"Run \S+ as init process|pyvmm guest: init")
_PANIC = re.compile(rb"Kernel panic - not syncing: (.*)")


class GuestConsole:
    """The console's output, copied to a file and searched for milestones.

    Attributes:
        size: the number of bytes printed.
        init: the value of time.monotonic() when the kernel started init, or None.
        panic: the reason of the kernel's panic, or None.
    """

    def __init__(self, output: BinaryIO) -> None:
        """Copy to `output` at each `flush`."""
        self._output = output
        self._unwritten = bytearray()
        self._line = bytearray()
        self.size = 0
        self.init: float | None = None
        self.panic: str | None = None

    def write(self, data: bytes) -> None:
        """Add what the guest printed."""
        self._unwritten += data
        self._line += data
        if data.endswith(b"\n"):
            self._examine()

    def flush(self) -> None:
        """Write what the guest printed to the output."""
        if self._unwritten:
            data = bytes(self._unwritten)
            self._unwritten.clear()
            self.size += len(data)
            self._output.write(data)
            self._output.flush()

    def _examine(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        if self.init is None and _INIT.search(line):
            self.init = time.monotonic()
        elif not self.panic and (found := _PANIC.search(line)):
            self.panic = found[1].decode(errors="replace").strip()
