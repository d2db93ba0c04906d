# SPDX-License-Identifier: GPL-2.0-only
"""Connect a `Tracer` to the consumers of its events."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pyvmm.trace.events import Event, Process
from pyvmm.trace.fd_table import KernelObject
from pyvmm.trace.inject import Rules
from pyvmm.trace.ptrace import SYSCALLS
from pyvmm.trace.syscall_events import (
    C_UINT_MASK,
    MAPPING_SYSCALLS,
    IoctlEvents,
    MappingEvents,
    RunEvents,
    TraceState,
)
from pyvmm.trace.tracer import Injection, Syscall, Thread
from pyvmm.uapi.kvm import KVM_RUN

_IOCTL, _RUN = SYSCALLS["ioctl"], int(KVM_RUN)
_CLOSE_SYSCALLS = ("close", "close_range", "dup2", "dup3")
_CLOSE = {SYSCALLS[name]: name for name in _CLOSE_SYSCALLS if name in SYSCALLS}
_MAPPING = {SYSCALLS[name]: name for name in MAPPING_SYSCALLS}
_CLOSE_RANGE_CLOEXEC = 1 << 2


class KvmTrace:
    """The `SyscallHandler` that turns the system calls of traced programs into events.

    Attributes:
        needs_entries: whether the tracer must report the entry of system calls.
        syscalls: the names of the system calls to stop at.
    """

    def __init__(
        self,
        sinks: Sequence[Callable[[Event], None]],
        rules: Rules | None = None,
        *,
        detailed: bool,
        count_run: Callable[[str, str | None, float], None] | None = None,
    ) -> None:
        """Pass every event to each of `sinks`, and inject results by `rules`.

        `detailed` decodes arguments and exits, and traces mapping calls. With `count_run`
        (`pyvmm.trace.summary.Summary.count_run`) a ``KVM_RUN`` is only counted, without an event.
        """
        state = self._state = TraceState(rules or Rules([]), detailed)
        self.needs_entries = detailed or bool(state.rules)
        self.syscalls = ("ioctl", *_CLOSE_SYSCALLS, *(MAPPING_SYSCALLS if detailed else ()))
        self._sinks = sinks
        self._count_run = count_run
        self._runs = RunEvents(state)
        self._ioctls = IoctlEvents(state)
        self._mappings = MappingEvents(state)

    def close(self) -> None:
        """Release what the trace shares with the tracees."""
        self._state.close()

    def on_syscall_enter(self, thread: Thread, syscall: Syscall) -> Injection | None:
        """Handle the entry of a system call."""
        if syscall.number == _IOCTL:
            if syscall.args[1] & C_UINT_MASK == _RUN:
                return self._runs.enter(thread, syscall)
            return self._ioctls.enter(thread, syscall)
        if syscall.number in _CLOSE:
            self._on_close(thread, syscall)
        return None

    def on_syscall_exit(self, thread: Thread, syscall: Syscall, result: int) -> None:
        """Handle the exit of a system call."""
        event: Event | None = None
        if syscall.number == _IOCTL:
            if syscall.args[1] & C_UINT_MASK == _RUN:
                if self._count_run:
                    self._count_run(*self._runs.count(thread, syscall, result))
                    return
                event = self._runs.exit(thread, syscall, result)
            else:
                event = self._ioctls.exit(thread, syscall, result)
        elif syscall.number in _MAPPING:
            event = self._mappings.exit(thread, syscall, _MAPPING[syscall.number], result)
        elif not self.needs_entries:
            self._on_close(thread, syscall)
        if event:
            for sink in self._sinks:
                sink(event)

    def on_fork(self, parent: int, child: int) -> None:
        """Emit a "fork" event. The child's descriptors are identified when it uses them."""
        self._emit(parent, "fork", f"process {child}")

    def on_exec(self, pid: int) -> None:
        """Remove close-on-exec descriptors; emit their "close" events, and an "exec" event."""
        self._on_closed(pid, self._state.fds.close_on_exec(pid))
        try:
            program = str(Path(f"/proc/{pid}/exe").readlink())
        except OSError:
            program = "a program"
        self._emit(pid, "exec", program)

    def on_process_end(self, pid: int, status: int) -> None:
        """Remove the descriptors of the process; emit "close" events of VMs, and an "end" event."""
        closed = self._state.fds.close_process(pid)
        self._on_closed(pid, [target for target in closed if target.kind == "vm"])
        code = os.waitstatus_to_exitcode(status)
        self._emit(pid, "end", f"status {code}" if code >= 0 else f"signal {-code}")

    def _on_close(self, thread: Thread, syscall: Syscall) -> None:
        fds, name, args = self._state.fds, _CLOSE[syscall.number], syscall.args
        if name == "close":
            closed = fds.close(thread.pid, args[0] & C_UINT_MASK)
        elif name != "close_range":
            closed = fds.close(thread.pid, args[1] & C_UINT_MASK)  # dup2(2) closes its target fd
        elif not args[2] & _CLOSE_RANGE_CLOEXEC:
            closed = fds.close_range(thread.pid, args[0] & C_UINT_MASK, args[1] & C_UINT_MASK)
        else:
            return
        self._on_closed(thread.pid, closed)

    def _on_closed(self, pid: int, objects: Sequence[KernelObject]) -> None:
        for target in objects:
            self._emit(pid, "close", target.label)

    def _emit(self, pid: int, what: str, text: str) -> None:
        event = Process(self._state.seconds(time.perf_counter_ns()), pid, pid, what, text)
        for sink in self._sinks:
            sink(event)
