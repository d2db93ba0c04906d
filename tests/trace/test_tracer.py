# SPDX-License-Identifier: GPL-2.0-only
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, UsageError
from pyvmm.trace import launch, ptrace
from pyvmm.trace.tracer import Injection, Syscall, Thread, Tracer

KVM_GET_API_VERSION = 0xAE00
_IOCTL = ptrace.SYSCALLS["ioctl"]

# ask() calls KVM_GET_API_VERSION.
ASKS = """
import fcntl, os, signal, sys, threading, time
kvm = os.open("/dev/kvm", os.O_RDWR)
def ask(times=1):
    for _ in range(times):
        assert fcntl.ioctl(kvm, 0xAE00, 0) == 12
"""


@dataclass
class Counting:
    """A handler that counts ioctls by process and lists the other events."""

    needs_entries: bool = True
    injection: Injection | None = None
    calls: Counter[int] = field(default_factory=Counter)
    results: Counter[int] = field(default_factory=Counter)
    events: list[str] = field(default_factory=list)
    on_tenth_call: Callable[[], None] | None = None

    def on_syscall_enter(self, thread: Thread, syscall: Syscall) -> Injection | None:
        return self.injection if syscall.number == _IOCTL else None

    def on_syscall_exit(self, thread: Thread, syscall: Syscall, result: int) -> None:
        if syscall.number == _IOCTL:
            assert syscall.args[1] == KVM_GET_API_VERSION
            self.calls[thread.pid] += 1
            self.results[result] += 1
            if self.on_tenth_call and self.results.total() == 10:
                self.on_tenth_call()

    def on_fork(self, parent: int, child: int) -> None:
        self.events.append("fork")

    def on_exec(self, pid: int) -> None:
        self.events.append("exec")

    def on_process_end(self, pid: int, status: int) -> None:
        self.events.append(f"end {os.waitstatus_to_exitcode(status)}")


def follow(program: str, handler: Counting | None = None) -> tuple[Counting, int]:
    """Trace a Python program to its end; return the handler and the exit code."""
    handler = handler or Counting()
    tracer = Tracer(handler, ("ioctl", "close"))
    tracer.start([sys.executable, "-c", ASKS + textwrap.dedent(program)])
    tracer.run()
    assert tracer.status is not None
    return handler, os.waitstatus_to_exitcode(tracer.status)


pytestmark = pytest.mark.usefixtures("kvm")


@pytest.mark.parametrize("needs_entries", [True, False])
def test_each_call_is_reported_once(needs_entries: bool) -> None:
    handler, code = follow("ask(100); sys.exit(7)", Counting(needs_entries))
    assert (handler.results, code) == ({12: 100}, 7)


def test_other_ioctls_are_not_reported() -> None:
    handler, _ = follow("import pty, termios; termios.tcgetattr(pty.openpty()[0]); ask()")
    assert handler.calls.total() == 1


def test_threads_are_followed() -> None:
    handler, code = follow(
        """
        threads = [threading.Thread(target=ask, args=(10,)) for _ in range(5)]
        for t in threads: t.start()
        for t in threads: t.join()
        """
    )
    assert (list(handler.calls.values()), code) == ([50], 0)


def test_children_and_their_exec_are_followed() -> None:
    handler, code = follow(
        f"""
        if not os.fork():
            ask(3)
            os.set_inheritable(kvm, True)
            again = "import fcntl; fcntl.ioctl({{}}, {KVM_GET_API_VERSION}, 0)".format(kvm)
            os.execv(sys.executable, [sys.executable, "-c", again])
        os.wait()
        """
    )
    assert (list(handler.calls.values()), code) == ([4], 0)
    assert handler.events.count("exec") == 2


def test_vfork_does_not_hang() -> None:
    _, code = follow("import subprocess; subprocess.run(['true'], check=True)")
    assert code == 0


def test_exec_from_a_thread() -> None:
    handler, code = follow(
        "threading.Thread(target=lambda: os.execvp('sh', ['sh', '-c', 'exit 5'])).start()\n"
        "time.sleep(60)"
    )
    assert code == 5
    assert handler.events == ["exec", "exec", "end 5"]


def test_process_killed_in_a_call() -> None:
    handler, code = follow(
        "threading.Thread(target=lambda: ask(10**9), daemon=True).start()\n"
        "time.sleep(0.1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert code == -signal.SIGKILL
    assert handler.calls.total() > 0


def test_threads_that_exit_during_calls_of_others() -> None:
    _, code = follow(
        """
        for _ in range(20):
            threading.Thread(target=lambda: ask(20), daemon=True).start()
        ask(20)
        os._exit(0)
        """
    )
    assert code == 0


def test_signals_are_delivered() -> None:
    _, code = follow(
        """
        got = []
        signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        ask()
        sys.exit(len(got))
        """
    )
    assert code == 1


def test_job_control() -> None:
    _, code = follow(
        """
        child = os.fork()
        if not child:
            ask()
            os.kill(os.getpid(), signal.SIGSTOP)
            ask()
            os._exit(3)
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        os.kill(child, signal.SIGCONT)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert code == 3


def test_injected_result() -> None:
    _, code = follow(
        """
        try:
            ask()
        except OSError as error:
            sys.exit(error.errno)
        """,
        Counting(injection=Injection(result=-19)),
    )
    assert code == 19


@dataclass
class DelayFirst(Counting):
    """A handler that delays the first call, and lists the threads in the order of their exits."""

    exits: list[int] = field(default_factory=list)
    delayed: int = 0

    def on_syscall_enter(self, thread: Thread, syscall: Syscall) -> Injection | None:
        if self.delayed or syscall.number != _IOCTL:
            return None
        self.delayed = thread.tid
        return Injection(delay=0.5)

    def on_syscall_exit(self, thread: Thread, syscall: Syscall, result: int) -> None:
        if syscall.number == _IOCTL:
            self.exits.append(thread.tid)


def test_delay_holds_one_thread_only() -> None:
    handler = DelayFirst()
    _, code = follow(
        """
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        """,
        handler,
    )
    assert code == 0
    assert len(handler.exits) == 4
    assert handler.exits[-1] == handler.delayed


def test_kernel_without_seccomp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(code: bytes) -> None:
        raise OSError(22, "no seccomp filter")

    monkeypatch.setattr(launch, "install_filter", refuse)
    handler, code = follow("import termios; ask(10); sys.exit(7)")
    assert (handler.results, code) == ({12: 10}, 7)


def test_missing_program() -> None:
    tracer = Tracer(Counting(), ("ioctl",))
    tracer.start(["/nonexistent/program"])
    with pytest.raises(UsageError, match="cannot run /nonexistent/program: No such file"):
        tracer.run()


def test_missing_process() -> None:
    with pytest.raises(UsageError, match="there is no process 4194305"):
        Tracer(Counting(), ("ioctl",)).attach(2**22 + 1)


Start = Callable[..., "subprocess.Popen[str]"]


def follow_ten_calls(pid: int) -> Counting:
    """Attach to thread `pid` and its process, and let go after ten ioctls."""
    handler = Counting()
    tracer = Tracer(handler, ("ioctl",))
    handler.on_tenth_call = tracer.stop
    tracer.attach(pid)
    tracer.run()
    tracer.let_go()
    return handler


def test_attach_and_detach(background: Start) -> None:
    program = "threading.Thread(target=lambda: ask(10**9), daemon=True).start()\ntime.sleep(60)"
    process = background(sys.executable, "-c", f"{ASKS}\n{program}")
    handler = follow_ten_calls(process.pid)
    assert handler.results.keys() == {12}
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "TracerPid:\t0" in status
    time.sleep(0.1)
    assert process.poll() is None


def test_attach_to_a_thread_that_ends(background: Start) -> None:
    program = """
        thread = threading.Thread(target=lambda: print(threading.get_native_id()) or time.sleep(1))
        thread.start()
        thread.join()
        ask(10**9)
    """
    process = background(sys.executable, "-c", ASKS + textwrap.dedent(program))
    assert process.stdout
    handler = follow_ten_calls(int(process.stdout.readline()))
    assert handler.calls.keys() == {process.pid}
    assert not handler.events


def test_attach_to_a_process_whose_first_thread_has_ended(background: Start) -> None:
    program = """
        threading.Thread(target=lambda: print("ready") or ask(10**9)).start()
        import ctypes; ctypes.CDLL(None).pthread_exit(None)
    """
    process = background(sys.executable, "-c", ASKS + textwrap.dedent(program))
    assert process.stdout
    process.stdout.readline()
    while "State:\tZ" not in Path(f"/proc/{process.pid}/status").read_text():
        time.sleep(0.05)
    handler = follow_ten_calls(process.pid)
    assert handler.calls.keys() == {process.pid}


def test_attach_error_names_the_other_tracer(background: Start) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace: apt install strace")
    process = background(sys.executable, "-c", "import time; time.sleep(60)")
    other = background("strace", "-o", "/dev/null", "-p", str(process.pid))
    while "TracerPid:\t0" in Path(f"/proc/{process.pid}/status").read_text():
        assert other.poll() is None
        time.sleep(0.05)
    with pytest.raises(LackingError, match=f"already traced by process {other.pid}"):
        Tracer(Counting(), ("ioctl",)).attach(process.pid)
