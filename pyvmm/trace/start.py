# SPDX-License-Identifier: GPL-2.0-only
"""Start a program that waits to be traced, under a filter that says where it stops."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from pyvmm.errors import UsageError
from pyvmm.trace import seccomp

_NO_FILTER = b"-"


@dataclass
class Child:
    """A program between fork and exec. It does nothing before `go`.

    Attributes:
        pid: its process id.
    """

    pid: int
    command: list[str]
    _go: int
    _report: int  # what the child has to say before exec closes its end

    def go(self) -> None:
        """Let it install its filter and become the program."""
        os.close(self._go)

    def abandon(self) -> None:
        """Let it end instead."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._go)
        os.close(self._report)

    def filtered(self) -> bool:
        """After its exec: did this kernel take the filter?"""
        return _NO_FILTER not in self._read()

    def check(self) -> None:
        """After its end: raises `UsageError` where it never became the program."""
        if failure := self._read().lstrip(_NO_FILTER):
            raise UsageError(f"cannot run {self.command[0]}: {os.strerror(int(failure))}")

    def _read(self) -> bytes:
        data = os.read(self._report, 64) if self._report >= 0 else b""
        if self._report >= 0:
            os.close(self._report)
            self._report = -1
        return data


def start(command: list[str], calls: Sequence[str], stdout: int | None = None) -> Child:
    """Fork a child that will run `command`, stopping at `calls`; its stdout may be another fd."""
    waits, go = os.pipe()
    report, tells = os.pipe()
    pid = os.fork()
    if pid:
        os.close(waits)
        os.close(tells)
        return Child(pid, command, go, report)
    try:
        os.close(go)
        os.read(waits, 1)  # the end of the file: the tracer has let go
        _become(command, seccomp.program(calls), stdout, tells)
    finally:
        os._exit(127)


def _become(command: list[str], code: bytes, stdout: int | None, tells: int) -> None:
    if stdout is not None:
        os.dup2(stdout, 1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec passes it on
        signal.signal(number, signal.SIG_DFL)
    try:
        seccomp.install(code)
    except OSError:
        os.write(tells, _NO_FILTER)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(tells, str(error.errno).encode())
