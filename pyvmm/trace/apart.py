# SPDX-License-Identifier: GPL-2.0-only
"""A trace in a process of its own, so that the command can end and the tracees live.

A program that was started under trace needs a tracer to its end (`pyvmm.trace.seccomp` says why),
and ptrace(2) has no way to hand a tracee over. So the tracer is a child from the start: the
command waits for it, passes Ctrl-C and SIGTERM on, and ends when the child says so, whether or
not the child ends too.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType

from pyvmm import libc

_PR_SET_PDEATHSIG = 1
_PATIENCE = 200  # milliseconds between two signals: one may come just before a wait


class Release:
    """The tracer's word to the command that waits for it."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def __call__(self, status: int) -> None:
        """Let the command end with this exit status; this process goes on, unheard."""
        for text in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                text.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        os.write(self._pipe, bytes([status]))
        os.close(self._pipe)


def part() -> Release:
    """Go on in a child; here, wait for it, and exit with its status."""
    told, tells = os.pipe()
    child = os.fork()
    if child:
        os.close(tells)
        sys.exit(_wait(child, told))
    os.close(told)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _nothing)  # the command passes it on, as SIGTERM
    return Release(tells)


def on_end(stop: Callable[[], None]) -> None:
    """Call `stop` when the command wants an end of the trace."""
    signal.signal(signal.SIGTERM, lambda signum, frame: stop())


def _wait(child: int, told: int) -> int:
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda signum, frame: asked.append(signum))
    signal.set_wakeup_fd(_nonblocking(told_by_signal := os.pipe()))
    poll = select.poll()
    poll.register(told, select.POLLIN)
    poll.register(told_by_signal[0], select.POLLIN)
    while True:
        ready = dict(poll.poll(_PATIENCE if asked else None))
        if told in ready:
            break
        if told_by_signal[0] in ready:
            os.read(told_by_signal[0], 64)
        if asked:
            os.kill(child, signal.SIGTERM)
    if status := os.read(told, 1):
        code = status[0]
    else:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = code if code >= 0 else 128 - code
    return 128 + asked[0] if asked else code


def _nonblocking(pipe: tuple[int, int]) -> int:
    os.set_blocking(pipe[1], False)
    return pipe[1]


def _nothing(signum: int, frame: FrameType | None) -> None:
    pass
