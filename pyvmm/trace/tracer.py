# SPDX-License-Identifier: GPL-2.0-only
"""Follow processes and threads with ptrace(2), and report their system calls.

The loop knows system calls and nothing about KVM. It passes each traced system call to a
`SyscallHandler` at entry and at exit, and follows clone, fork and execve. A tracee may die at any
point: waitpid(2) reports it, and its thread is dropped.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from pyvmm.errors import LackingError, UsageError
from pyvmm.trace import ptrace
from pyvmm.trace.launch import IOCTL_TYPES, Tracee, fork_tracee

_STOP_SIGNALS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_IOCTL = ptrace.SYSCALLS["ioctl"]
_SHORTEST_DELAY = 0.0001  # seconds; setitimer(2) disarms the timer for 0


@dataclass(slots=True)
class Syscall:
    """A system call between its entry stop and its exit stop.

    Attributes:
        args: the six raw argument registers.
        started: the time of the entry stop, in nanoseconds of `time.perf_counter_ns`.
        injected_result: the result to return instead of running the call, or None.
        handler_data: data that the handler keeps from entry to exit.
    """

    number: int
    args: tuple[int, ...]
    started: int
    injected_result: int | None = None
    handler_data: object = None


@dataclass(slots=True)
class Thread:
    """A traced thread of process `pid`.

    Attributes:
        in_syscall: True between the entry stop and the exit stop of a system call.
        started: the time of the entry stop if entry is not reported to the handler, else 0.
        syscall: the traced system call that it is in; None for one that is not traced.
    """

    tid: int
    pid: int
    in_syscall: bool = False
    started: int = 0
    syscall: Syscall | None = None


@dataclass(slots=True, frozen=True)
class Injection:
    """A change to a system call, made at its entry.

    Attributes:
        result: the result to return instead of running the call (-errno for an error), or None.
        delay: seconds to hold the thread before the call.
    """

    result: int | None = None
    delay: float = 0


class SyscallHandler(Protocol):
    """The callbacks of a `Tracer`.

    Attributes:
        needs_entries: whether to call `on_syscall_enter`. False makes each call cheaper.
    """

    needs_entries: bool

    def on_syscall_enter(self, thread: Thread, syscall: Syscall) -> Injection | None:
        """Handle the entry of a traced system call, and optionally change the call."""

    def on_syscall_exit(self, thread: Thread, syscall: Syscall, result: int) -> None:
        """Handle the exit of a traced system call; `result` is -errno for an error."""

    def on_fork(self, parent: int, child: int) -> None:
        """Handle the creation of process `child` by process `parent`."""

    def on_exec(self, pid: int) -> None:
        """Handle a successful execve(2) of process `pid`."""

    def on_process_end(self, pid: int, status: int) -> None:
        """Handle the end of process `pid`; `status` is the wait status."""


class _NullHandler:
    """The handler after the end of the trace."""

    needs_entries = False

    def on_syscall_enter(self, thread: Thread, syscall: Syscall) -> None: ...
    def on_syscall_exit(self, thread: Thread, syscall: Syscall, result: int) -> None: ...
    def on_fork(self, parent: int, child: int) -> None: ...
    def on_exec(self, pid: int) -> None: ...
    def on_process_end(self, pid: int, status: int) -> None: ...


class _DelayedThreads:
    """Threads held at syscall entry, with the time to resume each. SIGALRM resumes them."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}

    def add(self, tid: int, seconds: float) -> None:
        """Resume a thread that is at syscall entry after `seconds`."""
        if not self._due:
            signal.signal(signal.SIGALRM, self._on_alarm)
        self._due[tid] = time.monotonic() + seconds
        self._arm()

    def resume_all(self) -> None:
        """Resume all threads immediately."""
        self._resume(list(self._due))
        self._arm()

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._resume([tid for tid, due in self._due.items() if due <= now])
        self._arm()

    def _resume(self, tids: list[int]) -> None:
        for tid in tids:
            del self._due[tid]
            ptrace.ptrace_unchecked(ptrace.SYSCALL, tid, None, None)

    def _arm(self) -> None:
        wait = min(self._due.values(), default=0) - time.monotonic() if self._due else 0
        # The timer repeats: a signal that arrives just before waitpid(2) does not interrupt it.
        signal.setitimer(signal.ITIMER_REAL, max(wait, _SHORTEST_DELAY) if self._due else 0, 0.01)


class Tracer:
    """A tracer of one program and its descendants, from its start or from `attach`.

    Attributes:
        status: the wait status of that program after it has ended, else None.
    """

    def __init__(self, handler: SyscallHandler, syscalls: Sequence[str]) -> None:
        """Stop at `syscalls`, given by name; ioctl(2) is filtered by type (`IOCTL_TYPES`)."""
        self.status: int | None = None
        self._handler = handler
        self._syscalls = syscalls
        self._numbers = {ptrace.SYSCALLS[name] for name in syscalls if name in ptrace.SYSCALLS}
        self._threads: dict[int, Thread] = {}
        self._first = 0
        self._tracee: Tracee | None = None
        self._every_syscall = False  # without a seccomp filter, every system call stops
        self._stopping = False
        self._delayed = _DelayedThreads()

    @property
    def has_tracees(self) -> bool:
        """Return True if a traced thread has not ended."""
        return bool(self._threads)

    def start(self, command: list[str], stdout: int | None = None) -> None:
        """Start `command` under trace; `stdout` replaces its fd 1.

        Raises `LackingError` if this process cannot trace its child because it is traced itself.
        If execve(2) fails, `run` raises `UsageError`.
        """
        self._tracee = fork_tracee(command, self._syscalls, stdout)
        self._first = self._tracee.pid
        if not self._seize(self._first, self._first):
            self._tracee.kill()
            raise LackingError("cannot trace a child: this process is itself being traced")
        self._tracee.exec_command()

    def attach(self, pid: int) -> None:
        """Trace the running process `pid`, or the process of thread `pid`.

        Raises `UsageError` if there is no such process, and `LackingError` if it cannot be traced.
        """
        self._every_syscall = True
        self._first = process = ptrace.thread_group(pid)
        tried: set[int] = set()
        # A thread may be created during the scan: repeat it until there is no new one.
        while new := ptrace.thread_ids(process) - tried:
            tried |= new
            for tid in new:
                if self._seize(tid, process):
                    ptrace.ptrace_unchecked(ptrace.INTERRUPT, tid, None, None)
                elif error := ptrace.attach_error(tid):
                    self.detach()
                    raise LackingError(error)
        if not self._threads:
            raise UsageError(f"there is no process {pid}")

    def run(self) -> None:
        """Follow the tracees until all have ended or `stop` is called.

        An exception of the handler propagates and leaves the tracees in a valid state: call
        `let_go` afterwards.
        """
        wait, clock, resume = os.waitpid, time.perf_counter_ns, ptrace.ptrace_unchecked
        read_syscall, to_exit, go_on = ptrace.syscall_at_exit, ptrace.SYSCALL, ptrace.CONT
        seccomp_stop, syscall_stop, all_tasks = (
            ptrace.SECCOMP_STOP,
            ptrace.SYSCALL_STOP,
            ptrace.WALL,
        )
        threads, handler, numbers = self._threads, self._handler, self._numbers
        exits_only = ptrace.ARGS_SURVIVE_SYSCALL and not handler.needs_entries
        thread: Thread | None = None
        status = 0
        try:
            while threads and not self._stopping:
                try:
                    tid, status = wait(-1, all_tasks)
                except ChildProcessError:
                    break
                thread = threads.get(tid)
                if thread is None:
                    self._on_unknown_task(tid, status)
                elif status == seccomp_stop:
                    if exits_only:
                        thread.in_syscall, thread.started = True, clock()
                        resume(to_exit, tid, None, None)
                    else:
                        self._enter(thread)
                elif status != syscall_stop:
                    self._on_event(thread, status)
                elif not thread.in_syscall:
                    self._enter(thread)
                elif thread.started:
                    number, args, result = read_syscall(tid)
                    if number not in numbers:
                        number, args = ptrace.i386_syscall_at_exit()
                    syscall = Syscall(number, args, thread.started)
                    thread.in_syscall, thread.started = False, 0
                    handler.on_syscall_exit(thread, syscall, result)
                    resume(go_on, tid, None, None)
                else:
                    self._leave(thread)
        except BaseException:
            if thread and os.WIFSTOPPED(status) and thread.tid in threads:
                self._recover(thread, status)
            raise

    def stop(self) -> None:
        """Make `run` return. Safe in a signal handler: it loses no stop and raises nothing.

        Forks a child that exits immediately, because its end interrupts the waitpid(2) of `run`.
        """
        self._stopping = True
        if not os.fork():
            os._exit(0)

    def let_go(self) -> None:
        """Leave the tracees running after `run` has returned.

        Attached processes are detached. A program that was started here needs a tracer for its
        seccomp filter: this method then returns when the program has ended, and each traced
        system call costs one stop.
        """
        self._handler = _NullHandler()
        self._delayed.resume_all()
        if self._every_syscall:
            self.detach()
            return
        while self._threads:
            try:
                tid, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                return
            thread = self._threads.get(tid)
            if thread is None:
                self._on_unknown_task(tid, status)
            elif status == ptrace.SYSCALL_STOP:
                self._finish(thread)
            elif status == ptrace.SECCOMP_STOP:
                ptrace.ptrace_unchecked(ptrace.CONT, tid, None, None)
            else:
                self._on_event(thread, status)

    def detach(self) -> None:
        """Detach from every thread. Each thread must stop once more for ``PTRACE_DETACH``."""
        for tid in self._threads:
            ptrace.ptrace_unchecked(ptrace.INTERRUPT, tid, None, None)
        while self._threads:
            try:
                tid, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                return
            thread = self._threads.get(tid)
            if thread is None:
                self._on_unknown_task(tid, status)
                continue
            if not os.WIFSTOPPED(status):
                self._on_event(thread, status)
                continue
            result = thread.syscall.injected_result if thread.syscall else None
            if result is not None and status != ptrace.SYSCALL_STOP:
                self._resume(thread)
                continue
            if result is not None:
                ptrace.set_result(tid, result)
            ptrace.ptrace_unchecked(ptrace.DETACH, tid, None, _pending_signal(status))
            del self._threads[tid]

    def _seize(self, tid: int, pid: int) -> bool:
        try:
            ptrace.ptrace(ptrace.SEIZE, tid, 0, ptrace.OPTIONS)
        except ptrace.PtraceError:
            return False
        self._threads[tid] = Thread(tid, pid)
        return True

    def _resume(self, thread: Thread, signal_number: int | None = None) -> None:
        request = ptrace.SYSCALL if self._every_syscall or thread.in_syscall else ptrace.CONT
        ptrace.ptrace_unchecked(request, thread.tid, None, signal_number)

    def _recover(self, thread: Thread, status: int) -> None:
        """Resume a thread from a stop whose handler raised an exception."""
        if status == ptrace.SECCOMP_STOP:
            thread.in_syscall = True
            self._resume(thread)
        elif status == ptrace.SYSCALL_STOP:
            self._finish(thread)
        else:
            self._resume(thread, _pending_signal(status))

    def _enter(self, thread: Thread) -> None:
        info = ptrace.syscall_info(thread.tid)
        if info.at_exit:  # attached in the middle of the system call
            self._resume(thread)
            return
        thread.in_syscall = True
        delay = 0.0
        if info.number in self._numbers and (
            info.number != _IOCTL or info.args[1] >> 8 & 0xFF in IOCTL_TYPES
        ):
            syscall = Syscall(info.number, info.args, time.perf_counter_ns())
            thread.syscall = syscall
            if self._handler.needs_entries and (
                injection := self._handler.on_syscall_enter(thread, syscall)
            ):
                delay = injection.delay
                if injection.result is not None:
                    syscall.injected_result = injection.result
                    ptrace.skip_syscall(thread.tid)
        if delay:
            self._delayed.add(thread.tid, delay)
        else:
            ptrace.ptrace_unchecked(ptrace.SYSCALL, thread.tid, None, None)

    def _leave(self, thread: Thread) -> None:
        if syscall := thread.syscall:
            result = syscall.injected_result
            if result is None:
                result = ptrace.syscall_info(thread.tid).result
            self._handler.on_syscall_exit(thread, syscall, result)
        self._finish(thread)

    def _finish(self, thread: Thread) -> None:
        if thread.syscall and thread.syscall.injected_result is not None:
            ptrace.set_result(thread.tid, thread.syscall.injected_result)
        thread.in_syscall, thread.syscall = False, None
        self._resume(thread)

    def _on_event(self, thread: Thread, status: int) -> None:
        """Handle a stop outside a system call, or the end of the thread."""
        if not os.WIFSTOPPED(status):
            return self._on_thread_end(thread, status)
        event, number = status >> 16, _pending_signal(status)
        if event in ptrace.NEW_TASK_EVENTS:
            self._on_new_task(thread, ptrace.event_message(thread.tid))
        elif event == ptrace.EVENT_EXEC:
            self._on_exec(thread)
        elif event == ptrace.EVENT_STOP and os.WSTOPSIG(status) in _STOP_SIGNALS:
            # A group stop (job control): PTRACE_LISTEN keeps it stopped, and reports SIGCONT.
            ptrace.ptrace_unchecked(ptrace.LISTEN, thread.tid, None, None)
            return None
        elif number == signal.SIGINT and self._tracee and ptrace.signal_from_kernel(thread.tid):
            number = None  # Ctrl-C on the terminal ends the trace, not the program
        return self._resume(thread, number)

    def _on_unknown_task(self, tid: int, status: int) -> None:
        """Handle a task that stops before its parent's clone event, or that is no tracee."""
        if os.WIFSTOPPED(status):
            thread = self._threads[tid] = Thread(tid, ptrace.thread_group(tid))
            self._on_event(thread, status)

    def _on_new_task(self, parent: Thread, tid: int) -> None:
        child = self._threads.setdefault(tid, Thread(tid, ptrace.thread_group(tid)))
        if child.pid != parent.pid:
            self._handler.on_fork(parent.pid, child.pid)

    def _on_exec(self, thread: Thread) -> None:
        # The thread that calls execve(2) takes the tid of the thread group leader, and all other
        # threads of the process end.
        former = ptrace.event_message(thread.tid)
        if former != thread.tid and (caller := self._threads.pop(former, None)):
            thread.in_syscall, thread.syscall = caller.in_syscall, caller.syscall
        if self._tracee and thread.tid == self._first and not self._tracee.has_filter():
            self._every_syscall = thread.in_syscall = True
        self._handler.on_exec(thread.pid)

    def _on_thread_end(self, thread: Thread, status: int) -> None:
        del self._threads[thread.tid]
        if thread.tid != thread.pid:
            return
        if thread.pid == self._first:
            self.status = status
            if self._tracee:
                self._tracee.check_exec()
        self._handler.on_process_end(thread.pid, status)


def _pending_signal(status: int) -> int | None:
    """Return the signal of a signal-delivery stop, or None for another stop."""
    number = os.WSTOPSIG(status)
    return None if status >> 16 or number == signal.SIGTRAP | 0x80 else number
