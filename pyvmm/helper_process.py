# SPDX-License-Identifier: GPL-2.0-only
"""A process, forked early, for what this one cannot do at its end: sandboxed by then, or killed."""

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn

from pyvmm.errors import LackingError

_DONE = b"done"
_STANDARD_STREAMS = (0, 1, 2)


class HelperProcess:
    """A process that waits until this one calls `finish` or ends, and then calls a function.

    Create it before devices are opened: it inherits this process's mappings. It has a session of
    its own, blocks all signals, and keeps no descriptor open but those given to it.
    """

    def __init__(self, work: Callable[[bytes], None], descriptors: Collection[int] = ()) -> None:
        """Fork the process. Its `work` receives the data of `finish`, cut off if this one ended.

        Raises `LackingError` or `OSError` if there may be no more processes.
        """
        data_read, self._data = os.pipe()
        self._reply, reply_write = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child = os.fork()
            if not child:
                _run(work, data_read, reply_write, descriptors)
            _, status = os.waitpid(child, 0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(data_read)
            os.close(reply_write)
        if status:
            raise LackingError("cannot fork a helper process: end other processes")

    def finish(self, data: bytes = b"") -> str | None:
        """Send `data`, and wait until `work` has returned. Return its error, or None."""
        # A killed process gives no reply.
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._data, "wb") as pipe:
            pipe.write(data)
        with os.fdopen(self._reply, "rb") as pipe:
            reply = pipe.read()
        return None if reply == _DONE else reply.decode() or "its helper process was killed"


def _run(
    work: Callable[[bytes], None], data: int, reply: int, descriptors: Collection[int]
) -> NoReturn:
    """Be the helper process, as a child of init: a sandboxed process cannot wait for a child."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        gc.disable()  # a collected object would close a descriptor that has its former number
        _close_all_but({data, reply, *descriptors})
        with os.fdopen(data, "rb") as pipe:
            received = pipe.read()
        try:
            work(received)
        except Exception as error:
            os.write(reply, str(error).encode())
        else:
            os.write(reply, _DONE)
    finally:
        os._exit(1)


def _close_all_but(kept: set[int]) -> None:
    """Close all descriptors but `kept`; the standard streams become /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in _STANDARD_STREAMS:
        os.dup2(null, stream)
    for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if fd not in kept and fd not in _STANDARD_STREAMS:
            with contextlib.suppress(OSError):  # the descriptor of the listing
                os.close(fd)
