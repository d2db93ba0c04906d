# SPDX-License-Identifier: GPL-2.0-only
"""A tracing instance of one process, with dynamic events of its own.

The instance is ``instances/pyvmm-PID``, the group of its events ``pyvmm_PID``
(Documentation/trace/ftrace.rst, kprobetrace.rst). Nothing outside of the two is changed.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyvmm.errors import LackingError, SkippedError

_PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_DEFINED = re.compile(r"^[pr]\d*:pyvmm_(\d+)/(\w+) ", re.MULTILINE)
_BUFFER_KB = 512  # per CPU; a failed KVM_RUN needs about 4
_READ = 1 << 16
_ATTEMPTS, _PAUSE = 50, 0.1  # an instance stays busy while its files are open


def locate() -> Path:
    """Return the directory where tracefs is mounted.

    Raises `LackingError` without root or tracefs, `SkippedError` if the kernel has no kprobes.
    """
    if os.geteuid():
        raise LackingError("provenance needs root: tracefs belongs to root")
    for place in _PLACES:
        if (place / "instances").is_dir():
            if not (place / "kprobe_events").exists():
                raise SkippedError(
                    "this kernel has no kprobe events: it needs CONFIG_KPROBE_EVENTS"
                )
            return place
    raise LackingError(f"tracefs is not mounted: mount -t tracefs tracefs {_PLACES[0]}")


class Instance:
    """The tracing instance of process `pid`: events are defined, then enabled, then read.

    `close` does not remove it: see `remove`.
    """

    def __init__(self, tracefs: Path, pid: int) -> None:
        """Create the instance, with no event enabled. Raises `OSError`."""
        self._tracefs, self._group = tracefs, f"pyvmm_{pid}"
        self.path = tracefs / "instances" / f"pyvmm-{pid}"
        self.path.mkdir()
        self._partial = b""
        write(self.path / "buffer_size_kb", str(_BUFFER_KB))
        self._pipe = os.open(self.path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def define(self, probe: str, event: str, what: str) -> bool:
        """Define an event: `probe` is "p" or "r", `what` the function and what to record.

        Return False if the kernel does not have that function, or inlines it.
        """
        try:
            write(self._tracefs / "kprobe_events", f"{probe}:{self._group}/{event} {what}")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENOMEM):
                raise
            return False
        return True

    def set(self, file: str, text: str) -> None:
        """Write to a file of the instance. Raises `OSError`."""
        write(self.path / file, text)

    def own_event(self, event: str) -> str:
        """Return the directory of an event that `define` created, for `set`."""
        return f"events/{self._group}/{event}"

    def enable(self) -> None:
        """Enable every event that `define` created."""
        if (self.path / "events" / self._group).exists():
            self.set(f"events/{self._group}/enable", "1")

    def follow(self, threads: Iterable[int]) -> None:
        """Record events of these threads, and of threads and processes that they create."""
        self.set("options/event-fork", "1")
        for thread in threads:
            self.set("set_event_pid", str(thread))

    def lines(self) -> Iterator[str]:
        """Yield and consume the recorded events, without waiting for more."""
        while True:
            try:
                data = os.read(self._pipe, _READ)
            except BlockingIOError:
                return
            if not data:
                return
            *whole, self._partial = (self._partial + data).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def close(self) -> None:
        """Close the instance's files. Idempotent."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)


def remove(tracefs: Path, pid: int) -> None:
    """Remove the instance and the events of process `pid`, as far as they exist."""
    instance = tracefs / "instances" / f"pyvmm-{pid}"
    for _ in range(_ATTEMPTS):
        try:
            instance.rmdir()
        except FileNotFoundError:
            break
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(_PAUSE)
    for owner, event in _defined(tracefs):
        if owner == pid:
            with contextlib.suppress(OSError):  # removed meanwhile
                write(tracefs / "kprobe_events", f"-:pyvmm_{pid}/{event}")


def remove_leftovers(tracefs: Path) -> None:
    """Remove instances and events of processes that no longer exist."""
    instances = (tracefs / "instances").glob("pyvmm-*")
    pids = {int(path.name[6:]) for path in instances if path.name[6:].isdigit()}
    pids |= {owner for owner, _ in _defined(tracefs)}
    for pid in pids:
        if not Path("/proc", str(pid)).exists():
            remove(tracefs, pid)


def _defined(tracefs: Path) -> list[tuple[int, str]]:
    text = (tracefs / "kprobe_events").read_text()
    return [(int(owner), event) for owner, event in _DEFINED.findall(text)]


def write(path: Path, text: str) -> None:
    """Write `text` in one write(2), as tracefs wants it. Raises `OSError`.

    With O_APPEND, without O_TRUNC: opening ``kprobe_events`` with O_TRUNC removes every event.
    """
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
