# SPDX-License-Identifier: GPL-2.0-only
"""Record the kernel's path to the end of each ``KVM_RUN`` and each rejected memslot."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pyvmm.closeable import Closeable
from pyvmm.errors import LackingError, SkippedError
from pyvmm.helper_process import HelperProcess
from pyvmm.provenance import trace_pipe, tracefs
from pyvmm.provenance.chain import KernelPath, Paths
from pyvmm.provenance.functions import ENTRIES, FUNCTIONS, Function
from pyvmm.provenance.kernel_log import KernelLog
from pyvmm.uapi.kvm import KVM_RUN

_TRACEPOINTS = ("kvm/kvm_guest_fault", "kvm/kvm_userspace_exit")
_KEPT = 256  # paths
_TICK = 2e-6  # seconds; the log has microseconds, and events as well


class Recorder(Closeable):
    """Records the paths of some threads, and of the threads that they create.

    Attributes:
        left_out: the functions that this kernel does not have, or inlines.
    """

    def __init__(self, threads: Iterable[int]) -> None:
        """Start to record. One per process.

        Raises `LackingError` without root or tracefs, `SkippedError` if the kernel lacks kprobes or
        is not arm64's.
        """
        if (machine := os.uname().machine) != "aarch64":
            raise SkippedError(f"KVM's functions on {machine} are not probed: record on arm64")
        place = tracefs.locate()
        self._paths = Paths()
        self._kept: deque[KernelPath] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()
        try:
            tracefs.remove_leftovers(place)
            pid = os.getpid()
            self._instance = tracefs.Instance(place, pid)
            try:
                # It also works after SIGKILL, and for a process that entered the sandbox.
                self._remover = HelperProcess(lambda _: tracefs.remove(place, pid))
                self._log = KernelLog()
                self.left_out = tuple(self._define())
                self._instance.follow(threads)
                self._instance.enable()
                for each in _TRACEPOINTS:
                    # kvm_guest_fault is arm64's.
                    with contextlib.suppress(FileNotFoundError):
                        self._instance.set(f"events/{each}/enable", "1")
            except BaseException:
                self.close()
                tracefs.remove(place, pid)  # without the helper process
                raise
        except OSError as error:
            raise LackingError(
                f"provenance: {error.filename or place}: {error.strerror}: is the kernel locked "
                "down, or tracing in use?"
            ) from None

    @classmethod
    def of_this_process(cls) -> "Recorder":
        """Record every thread of this process."""
        return cls(threads_of(os.getpid()))

    def _define(self) -> Iterable[str]:
        for function in FUNCTIONS:
            if not self._define_return(function):
                yield function.name
        for entry in ENTRIES:
            for fetch in entry.fetches:
                if self._instance.define("p", entry.event, f"{entry.function} {fetch}"):
                    break

    def _define_return(self, function: Function) -> bool:
        returns = function.returns
        what = f"{function.name} ret=$retval:{returns.fetch}"
        forms = (f"{what} {function.argument}", what) if function.argument else (what,)
        if not any(self._instance.define("r", function.name, form) for form in forms):
            return False
        self._instance.set(f"{self._instance.own_event(function.name)}/filter", returns.filter)
        return True

    def clear(self) -> None:
        """Forget the paths that ended so far."""
        self.paths()
        self._kept.clear()

    def paths(self) -> tuple[KernelPath, ...]:
        """Return the last paths that ended since `clear`, oldest first. Thread-safe."""
        with self._lock:
            found = map(trace_pipe.parse, self._instance.lines())
            for path in self._paths.add(event for event in found if event):
                log = self._log.between(path.start - _TICK, path.end + _TICK, path.thread)
                self._kept.append(replace(path, log=log))
            return tuple(self._kept)

    def last_run(self) -> KernelPath | None:
        """Return the path of the calling thread's last ``KVM_RUN``, or None if it is lost."""
        thread = threading.get_native_id()
        mine = (p for p in reversed(self.paths()) if p.ioctl == KVM_RUN.name and p.thread == thread)
        return next(mine, None)

    def first(self, ioctl: str, errno: str) -> KernelPath | None:
        """Return the first path since `clear` in which `ioctl` failed with `errno`, or None."""
        result = f"-{errno}"
        return next((p for p in self.paths() if (p.ioctl, p.result) == (ioctl, result)), None)

    def close(self) -> None:
        """Stop, and remove instance and events. Idempotent."""
        for name in ("_log", "_instance"):
            if part := self.__dict__.pop(name, None):
                part.close()
        if remover := self.__dict__.pop("_remover", None):
            remover.finish()


def threads_of(pid: int) -> list[int]:
    """Return the ids of a process's threads. Raises `OSError`."""
    return [int(path.name) for path in Path("/proc", str(pid), "task").iterdir()]
