# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log, read from ``/dev/kmsg`` (Documentation/ABI/testing/dev-kmsg)."""

import contextlib
import os
import re
from pathlib import Path

_DEVICE = Path("/dev/kmsg")
_LINE = re.compile(rb"(\d+),\d+,(\d+),[^;]*;([^\n]*)")
_LEVELS = 7  # in the first number; the rest is the facility
_WARNING = 4  # KERN_WARNING. The report of the OOM killer has a hundred lines of KERN_INFO.
_KVM = re.compile(r"kvm \[(\d+)\]: (.*)")  # kvm_err(): include/linux/kvm_host.h
_RECORD = 8192  # bytes; a read(2) returns one record
_KEPT = 64


class KernelLog:
    """The warnings and errors that the kernel logs after this object was created."""

    def __init__(self) -> None:
        """Open the log at its end. Raises `OSError`."""
        self._fd = os.open(_DEVICE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._lines: list[tuple[float, str]] = []

    def between(self, start: float, end: float, thread: int) -> tuple[str, ...]:
        """Return the lines logged in a time, in seconds since boot.

        KVM's own lines begin with the thread: those of others are left out, and the beginning too.
        """
        self._read()
        return tuple(
            match[2] if match else text
            for time, text in self._lines
            if start <= time <= end
            if not (match := _KVM.fullmatch(text)) or int(match[1]) == thread
        )

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    record = os.read(self._fd, _RECORD)
                except BrokenPipeError:  # records were overwritten: the next read has the oldest
                    continue
                if (match := _LINE.match(record)) and int(match[1]) & _LEVELS <= _WARNING:
                    self._lines.append((int(match[2]) / 1e6, match[3].decode(errors="replace")))
        del self._lines[:-_KEPT]

    def close(self) -> None:
        """Close the log. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
