# SPDX-License-Identifier: GPL-2.0-only
"""Launch the processes of a trace.

The ``pyvmm trace`` command forks the tracer and waits for it; the tracer forks the traced
program, which installs a seccomp filter and calls execve(2).

* The filter is a classic BPF program over ``struct seccomp_data``
  (Documentation/userspace-api/seccomp_filter.rst). It stops the program at the system calls that
  are traced. ioctl(2) stops only for the types of KVM, vfio and iommufd. Every other system call
  runs at full speed.
* A seccomp filter cannot be removed, and without a tracer the filtered calls fail with ENOSYS. A
  tracee cannot be handed to another tracer either. So the tracer is a child process in a session
  of its own: however the command ends, the tracer stays until the program ends. Only the death
  of the tracer itself (SIGKILL) breaks the program. A process traced with -p has no filter, and
  the kernel detaches it when its tracer dies.
"""

import contextlib
import errno
import os
import select
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import FrameType

from pyvmm import libc, seccomp
from pyvmm.errors import Status, UsageError
from pyvmm.seccomp import Argument, Rule, install_filter
from pyvmm.trace.ptrace import I386_SYSCALLS, SYSCALLS

IOCTL_TYPES = (0xAE, ord(";"))  # KVMIO; VFIO_TYPE, which iommufd shares

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# They end the trace, and leave the traced program running.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_NO_FILTER = b"-"  # on the status pipe: the kernel rejected the filter
_RESEND_MS = 200  # between two SIGTERMs: the tracer may miss one that comes just before a wait


class ParentCommand:
    """The command that waits for this tracer process."""

    def __init__(self, pipe: int) -> None:
        """Report the exit status through `pipe`."""
        self._pipe = pipe

    def exit(self, status: int) -> None:
        """Make the command exit with `status`, if it still runs; this process closes its stdio."""
        for text in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                text.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        with contextlib.suppress(BrokenPipeError):  # the command was killed
            os.write(self._pipe, bytes([status]))
        os.close(self._pipe)


def fork_tracer() -> ParentCommand:
    """Fork, and return in the child; the parent waits for it and exits with its status."""
    parent = os.getpid()
    status_read, status_write = os.pipe()
    child = os.fork()
    if child:
        os.close(status_write)
        sys.exit(_wait(child, status_read))
    os.close(status_read)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # killed before the prctl(2)
        sys.exit(Status.INTERRUPTED)
    return ParentCommand(status_write)


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Call `stop` for each signal that ends the trace. The command sends SIGTERM, also by dying."""

    def handle(signum: int, frame: FrameType | None) -> None:
        # Not a second handler within this one: the command repeats its signal.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        stop()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    _handle_stop_signals(handle)


def _handle_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _wait(child: int, status_read: int) -> int:
    """Wait for the tracer's exit status and return it; forward stop signals as SIGTERM."""
    pending: list[int] = []
    _handle_stop_signals(lambda signum, frame: pending.append(signum))
    wakeup_read, wakeup_write = os.pipe()
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write)
    poll = select.poll()
    poll.register(status_read, select.POLLIN)
    poll.register(wakeup_read, select.POLLIN)
    while True:
        ready = dict(poll.poll(_RESEND_MS if pending else None))
        if status_read in ready:
            break
        if wakeup_read in ready:
            os.read(wakeup_read, 64)
        if pending:
            os.kill(child, signal.SIGTERM)
    if status := os.read(status_read, 1):
        code = status[0]
    else:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = code if code >= 0 else 128 - code
    return 128 + pending[0] if pending else code


@dataclass
class Tracee:
    """A forked process that waits for `exec_command` before it installs the filter."""

    pid: int
    command: list[str]
    _start_pipe: int  # the child starts when this end is closed
    _status_pipe: int  # what the child writes before execve(2) closes its end

    def exec_command(self) -> None:
        """Let the process install its filter and call execve(2)."""
        os.close(self._start_pipe)

    def kill(self) -> None:
        """Kill the process before its execve(2), and reap it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._start_pipe)
        os.close(self._status_pipe)

    def has_filter(self) -> bool:
        """Return True if the kernel accepted the seccomp filter. Call it after execve(2)."""
        return _NO_FILTER not in self._read()

    def check_exec(self) -> None:
        """Raise `UsageError` if execve(2) failed. Call it after the process has ended."""
        if failure := self._read().lstrip(_NO_FILTER):
            program = shlex.quote(self.command[0])
            raise UsageError(f"cannot run {program}: {os.strerror(int(failure))}")

    def _read(self) -> bytes:
        data = os.read(self._status_pipe, 64) if self._status_pipe >= 0 else b""
        if self._status_pipe >= 0:
            os.close(self._status_pipe)
            self._status_pipe = -1
        return data


def fork_tracee(command: list[str], syscalls: Sequence[str], stdout: int | None = None) -> Tracee:
    """Fork a process that will run `command` and stop at `syscalls`; `stdout` replaces its fd 1."""
    start_read, start_write = os.pipe()
    status_read, status_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(start_read)
        os.close(status_write)
        return Tracee(pid, command, start_write, status_read)
    try:
        os.close(start_write)
        os.read(start_read, 1)  # returns at EOF, when the tracer has closed its end
        _exec(command, filter_programs(syscalls), stdout, status_write)
    finally:
        os._exit(127)


def _exec(
    command: list[str], filters: Iterable[bytes], stdout: int | None, status_pipe: int
) -> None:
    if stdout is not None:
        os.dup2(stdout, 1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them; execve(2) inherits that
        signal.signal(number, signal.SIG_DFL)
    try:
        for code in filters:
            install_filter(code)
    except OSError:
        os.write(status_pipe, _NO_FILTER)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(status_pipe, str(error.errno).encode())
    except ValueError:  # an empty name
        os.write(status_pipe, str(errno.ENOENT).encode())


def filter_programs(syscalls: Sequence[str]) -> list[bytes]:
    """Return the BPF programs that stop at `syscalls`, and at ioctl only for `IOCTL_TYPES`.

    There is one per system call ABI. The kernel runs both; RET_TRACE has precedence over RET_ALLOW.
    """
    programs = [_filter_program(syscalls, SYSCALLS, seccomp.ARCH)]
    if I386_SYSCALLS:
        programs.append(_filter_program(syscalls, I386_SYSCALLS, seccomp.I386))
    return programs


def _filter_program(syscalls: Sequence[str], numbers: dict[str, int], arch: int) -> bytes:
    types = tuple(kind << 8 for kind in IOCTL_TYPES)
    rules = [
        Rule(numbers[name], (Argument(1, types, mask=0xFF00),) if name == "ioctl" else ())
        for name in syscalls
        if name in numbers
    ]
    return seccomp.filter_program(
        rules, seccomp.TRACE, seccomp.ALLOW, foreign=seccomp.ALLOW, arch=arch
    )
