# SPDX-License-Identifier: GPL-2.0-only
"""Processes and threads under ptrace(2): where they stop, who is told, and how they go on.

The loop knows system calls and nothing of KVM. It hands each watched call to a `Watcher`, on its
way into the kernel and on its way out, and follows clones, forks and execs by itself. A tracee
that dies in the middle of anything is no error: the kernel tells, and it is struck off.
"""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pyvmm.errors import LackingError, UsageError
from pyvmm.trace import ptrace, tasks
from pyvmm.trace.delays import Delays
from pyvmm.trace.seccomp import IOCTL_TYPES
from pyvmm.trace.start import Child, start

_STOP_SIGNALS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_IOCTL = ptrace.NUMBERS["ioctl"]


@dataclass(slots=True)
class Call:
    """A system call between its two stops.

    Attributes:
        args: the six raw argument registers.
        started: nanoseconds of `time.perf_counter_ns`.
        outcome: what it returns though the kernel did not do it; None: the kernel does it.
        note: whatever the watcher wants to find again when the call returns.
    """

    number: int
    args: tuple[int, ...]
    started: int
    outcome: int | None = None
    note: object = None


@dataclass(slots=True)
class Thread:
    """One traced task of process `pid`; `inside` between the two stops of a call."""

    tid: int
    pid: int
    inside: bool = False
    started: int = 0
    call: Call | None = None  # None while `inside`: a call that no one watches


@dataclass(slots=True, frozen=True)
class Verdict:
    """What becomes of a call that has not begun.

    Attributes:
        result: what it returns without the kernel (an errno negative); None: the kernel does it.
        delay: seconds to wait first.
    """

    result: int | None = None
    delay: float = 0


class Watcher(Protocol):
    """Who is told what the traced programs do."""

    needs_entries: bool  # False: `entered` is never called, and each call costs less

    def entered(self, thread: Thread, call: Call) -> Verdict | None:
        """A thread is about to make a watched call."""

    def left(self, thread: Thread, call: Call, result: int) -> None:
        """A watched call has returned `result`, an errno negative."""

    def forked(self, parent: int, child: int) -> None:
        """Process `parent` has made process `child`."""

    def executed(self, pid: int) -> None:
        """A process has become another program."""

    def ended(self, pid: int, status: int) -> None:
        """A process is gone; `status` is what waitpid(2) gave."""


class _Deaf:
    """The watcher when no one watches any more."""

    needs_entries = False

    def entered(self, thread: Thread, call: Call) -> None: ...
    def left(self, thread: Thread, call: Call, result: int) -> None: ...
    def forked(self, parent: int, child: int) -> None: ...
    def executed(self, pid: int) -> None: ...
    def ended(self, pid: int, status: int) -> None: ...


class Tracer:
    """Traces one program, started here or running already, and all that it makes.

    Attributes:
        status: the wait status of that program, once it has ended.
    """

    def __init__(self, watcher: Watcher, calls: Sequence[str]) -> None:
        """`calls` are the names of the system calls to stop at; ioctl(2) is filtered by type."""
        self.status: int | None = None
        self._watcher = watcher
        self._calls = calls
        self._numbers = {ptrace.NUMBERS[name] for name in calls if name in ptrace.NUMBERS}
        self._threads: dict[int, Thread] = {}
        self._first = 0
        self._child: Child | None = None
        self._every_call = False  # no filter: each call stops, and the watched ones are picked
        self._stopping = False
        self._delays = Delays()

    def start(self, command: list[str], stdout: int | None = None) -> None:
        """Start a program; its stdout goes to another fd if one is given.

        Where there is no such program, `run` raises `UsageError`. Raises `LackingError` where
        this process may not trace its own child: it is itself being traced.
        """
        self._child = start(command, self._calls, stdout)
        self._first = self._child.pid
        if not self._seize(self._first, self._first):
            self._child.abandon()
            raise LackingError("cannot trace a child: this process is itself being traced")
        self._child.go()

    def attach(self, pid: int) -> None:
        """Trace a process that is running. Raises `UsageError` and `LackingError`."""
        self._every_call = True
        self._first = pid
        # A thread may be born while we look: look until there is no new one.
        while new := tasks.threads_of(pid) - self._threads.keys():
            for tid in new:
                if self._seize(tid, pid):
                    ptrace.quick(ptrace.INTERRUPT, tid, None, None)
                elif tid in tasks.threads_of(pid):
                    self.detach()
                    raise LackingError(tasks.refusal(pid))
        if not self._threads:
            raise UsageError(f"there is no process {pid}")

    def run(self) -> None:
        """Follow the tracees until all have ended, or `stop` is called.

        What the watcher raises comes through, and no tracee is the worse for it: `let_go` goes
        on from there.
        """
        wait, clock, quick = os.waitpid, time.perf_counter_ns, ptrace.quick
        finished, to_exit, go_on = ptrace.finished_call, ptrace.SYSCALL, ptrace.CONT
        seccomp_stop, syscall_stop, all_tasks = (
            ptrace.SECCOMP_STOP,
            ptrace.SYSCALL_STOP,
            ptrace.WALL,
        )
        threads, watcher = self._threads, self._watcher
        at_exit = ptrace.ARGUMENTS_STAY and not watcher.needs_entries
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
                    self._unknown(tid, status)
                elif status == seccomp_stop:
                    if at_exit:
                        thread.inside, thread.started = True, clock()
                        quick(to_exit, tid, None, None)
                    else:
                        self._enter(thread)
                elif status != syscall_stop:
                    self._event(thread, status)
                elif not thread.inside:
                    self._enter(thread)
                elif thread.started:
                    number, args, result = finished(tid)
                    call = Call(number, args, thread.started)
                    thread.inside, thread.started = False, 0
                    watcher.left(thread, call, result)
                    quick(go_on, tid, None, None)
                else:
                    self._leave(thread)
        except BaseException:
            if thread and os.WIFSTOPPED(status) and thread.tid in threads:
                self._recover(thread, status)
            raise

    def stop(self) -> None:
        """Make `run` return. For signal handlers: nothing is lost, nothing is raised.

        A child that ends at once is what wakes `run` from its wait.
        """
        self._stopping = True
        if not os.fork():
            os._exit(0)

    def let_go(self) -> None:
        """After `stop`: leave the tracees running.

        Those that were attached to are on their own again. One that was started has a filter
        that needs a tracer: this returns when it has ended, and costs it one stop a call.
        """
        self._watcher = _Deaf()
        self._delays.release()
        if self._every_call:
            self.detach()
            return
        while self._threads:
            try:
                tid, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                return
            thread = self._threads.get(tid)
            if thread is None:
                self._unknown(tid, status)
            elif status == ptrace.SYSCALL_STOP:
                self._finish(thread)
            elif status == ptrace.SECCOMP_STOP:
                ptrace.quick(ptrace.CONT, tid, None, None)
            else:
                self._event(thread, status)

    def detach(self) -> None:
        """Detach from every thread; each has to stop once more for it."""
        for tid in self._threads:
            ptrace.quick(ptrace.INTERRUPT, tid, None, None)
        while self._threads:
            try:
                tid, status = os.waitpid(-1, ptrace.WALL)
            except ChildProcessError:
                return
            thread = self._threads.get(tid)
            if thread is None:
                self._unknown(tid, status)
            elif not os.WIFSTOPPED(status):
                self._event(thread, status)
            elif thread.call and thread.call.outcome is not None and status != ptrace.SYSCALL_STOP:
                self._resume(thread)
            else:
                if thread.call and thread.call.outcome is not None:
                    ptrace.set_result(tid, thread.call.outcome)
                ptrace.quick(ptrace.DETACH, tid, None, _signal_of(status))
                del self._threads[tid]

    def _seize(self, tid: int, pid: int) -> bool:
        try:
            ptrace.ptrace(ptrace.SEIZE, tid, 0, ptrace.OPTIONS)
        except ptrace.PtraceError:
            return False
        self._threads[tid] = Thread(tid, pid)
        return True

    def _resume(self, thread: Thread, signal_number: int | None = None) -> None:
        how = ptrace.SYSCALL if self._every_call or thread.inside else ptrace.CONT
        ptrace.quick(how, thread.tid, None, signal_number)

    def _recover(self, thread: Thread, status: int) -> None:
        """Let a thread go on from a stop that its watcher failed at."""
        if status == ptrace.SECCOMP_STOP:
            thread.inside = True
            self._resume(thread)
        elif status == ptrace.SYSCALL_STOP:
            self._finish(thread)
        else:
            self._resume(thread, _signal_of(status))

    def _enter(self, thread: Thread) -> None:
        info = ptrace.syscall_info(thread.tid)
        if info.leaving:  # attached in the middle of it
            self._resume(thread)
            return
        thread.inside = True
        delay = 0.0
        if info.number in self._numbers and (
            info.number != _IOCTL or info.args[1] >> 8 & 0xFF in IOCTL_TYPES
        ):
            call = thread.call = Call(info.number, info.args, time.perf_counter_ns())
            if self._watcher.needs_entries and (verdict := self._watcher.entered(thread, call)):
                delay = verdict.delay
                if verdict.result is not None:
                    call.outcome = verdict.result
                    ptrace.skip(thread.tid)
        if delay:
            self._delays.add(thread.tid, delay)
        else:
            ptrace.quick(ptrace.SYSCALL, thread.tid, None, None)

    def _leave(self, thread: Thread) -> None:
        if call := thread.call:
            result = call.outcome
            if result is None:
                result = ptrace.syscall_info(thread.tid).result
            self._watcher.left(thread, call, result)
        self._finish(thread)

    def _finish(self, thread: Thread) -> None:
        if thread.call and thread.call.outcome is not None:
            ptrace.set_result(thread.tid, thread.call.outcome)
        thread.inside, thread.call = False, None
        self._resume(thread)

    def _event(self, thread: Thread, status: int) -> None:
        """Any stop that is not at a system call, or the thread's end."""
        if not os.WIFSTOPPED(status):
            return self._ended(thread, status)
        event, number = status >> 16, _signal_of(status)
        if event in ptrace.NEW_TASK_EVENTS:
            self._born(thread, ptrace.event_message(thread.tid))
        elif event == ptrace.EVENT_EXEC:
            self._executed(thread)
        elif event == ptrace.EVENT_STOP and os.WSTOPSIG(status) in _STOP_SIGNALS:
            # Stopped by job control: it stays so, and we hear of what wakes it.
            ptrace.quick(ptrace.LISTEN, thread.tid, None, None)
            return None
        elif number == signal.SIGINT and self._child and ptrace.from_terminal(thread.tid):
            number = None  # the Ctrl-C was for the trace
        return self._resume(thread, number)

    def _unknown(self, tid: int, status: int) -> None:
        """A task that stops before its parent's event tells of it, or no tracee at all."""
        if os.WIFSTOPPED(status):
            thread = self._threads[tid] = Thread(tid, tasks.process_of(tid))
            self._event(thread, status)

    def _born(self, parent: Thread, tid: int) -> None:
        child = self._threads.setdefault(tid, Thread(tid, tasks.process_of(tid)))
        if child.pid != parent.pid:
            self._watcher.forked(parent.pid, child.pid)

    def _executed(self, thread: Thread) -> None:
        # Whichever thread calls exec, it goes on under the process's own id, alone.
        former = ptrace.event_message(thread.tid)
        if former != thread.tid and (caller := self._threads.pop(former, None)):
            thread.inside, thread.call = caller.inside, caller.call
        if self._child and thread.tid == self._first and not self._child.filtered():
            self._every_call = thread.inside = True
        self._watcher.executed(thread.pid)

    def _ended(self, thread: Thread, status: int) -> None:
        del self._threads[thread.tid]
        if thread.tid != thread.pid:
            return
        if thread.pid == self._first:
            self.status = status
            if self._child:
                self._child.check()
        self._watcher.ended(thread.pid, status)


def _signal_of(status: int) -> int | None:
    """The signal that a stopped thread is about to be given; None at any other stop."""
    number = os.WSTOPSIG(status)
    return None if status >> 16 or number == signal.SIGTRAP | 0x80 else number
