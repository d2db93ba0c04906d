# SPDX-License-Identifier: GPL-2.0-only
import os
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
from pyvmm.trace import ptrace, seccomp, tasks
from pyvmm.trace.tracer import Call, Thread, Tracer, Verdict
from tests.process import as_nobody

KVM_GET_API_VERSION = 0xAE00
_IOCTL = ptrace.NUMBERS["ioctl"]

# Asks for KVM's API version as often as its function is called.
ASKS = """
import fcntl, os, signal, sys, threading, time
kvm = os.open("/dev/kvm", os.O_RDWR)
def ask(times=1):
    for _ in range(times):
        assert fcntl.ioctl(kvm, 0xAE00, 0) == 12
"""


@dataclass
class Counting:
    """A watcher that counts ioctls by process, and whatever else happens."""

    needs_entries: bool = True
    verdict: Verdict | None = None
    asked: Counter[int] = field(default_factory=Counter)
    results: Counter[int] = field(default_factory=Counter)
    happened: list[str] = field(default_factory=list)

    def entered(self, thread: Thread, call: Call) -> Verdict | None:
        return self.verdict if call.number == _IOCTL else None

    def left(self, thread: Thread, call: Call, result: int) -> None:
        if call.number == _IOCTL:
            assert call.args[1] == KVM_GET_API_VERSION
            self.asked[thread.pid] += 1
            self.results[result] += 1

    def forked(self, parent: int, child: int) -> None:
        self.happened.append("fork")

    def executed(self, pid: int) -> None:
        self.happened.append("exec")

    def ended(self, pid: int, status: int) -> None:
        self.happened.append(f"end {os.waitstatus_to_exitcode(status)}")


def follow(program: str, watcher: Counting | None = None) -> tuple[Counting, int]:
    """Trace a Python program to its end: what was seen, and its exit code."""
    watcher = watcher or Counting()
    tracer = Tracer(watcher, ("ioctl", "close"))
    tracer.start([sys.executable, "-c", ASKS + textwrap.dedent(program)])
    tracer.run()
    assert tracer.status is not None
    return watcher, os.waitstatus_to_exitcode(tracer.status)


pytestmark = pytest.mark.usefixtures("kvm")


@pytest.mark.parametrize("needs_entries", [True, False])
def test_each_call_is_told_once(needs_entries: bool) -> None:
    watcher, code = follow("ask(100); sys.exit(7)", Counting(needs_entries))
    assert (watcher.results, code) == ({12: 100}, 7)


def test_other_ioctls_do_not_stop_it() -> None:
    watcher, _ = follow("import pty, termios; termios.tcgetattr(pty.openpty()[0]); ask()")
    assert watcher.asked.total() == 1


def test_threads_are_followed() -> None:
    watcher, code = follow(
        """
        threads = [threading.Thread(target=ask, args=(10,)) for _ in range(5)]
        for t in threads: t.start()
        for t in threads: t.join()
        """
    )
    assert (list(watcher.asked.values()), code) == ([50], 0)


def test_children_are_followed_and_their_exec_too() -> None:
    watcher, code = follow(
        f"""
        if not os.fork():
            ask(3)
            os.set_inheritable(kvm, True)
            again = "import fcntl; fcntl.ioctl({{}}, {KVM_GET_API_VERSION}, 0)".format(kvm)
            os.execv(sys.executable, [sys.executable, "-c", again])
        os.wait()
        """
    )
    assert (list(watcher.asked.values()), code) == ([4], 0)
    assert watcher.happened.count("exec") == 2


def test_a_vfork_does_not_stall() -> None:
    _, code = follow("import subprocess; subprocess.run(['true'], check=True)")
    assert code == 0


def test_an_exec_from_a_thread_goes_on_as_the_process() -> None:
    watcher, code = follow(
        "threading.Thread(target=lambda: os.execvp('sh', ['sh', '-c', 'exit 5'])).start()\n"
        "time.sleep(60)"
    )
    assert code == 5
    assert watcher.happened == ["exec", "exec", "end 5"]


def test_a_process_that_is_killed_in_a_call_is_struck_off() -> None:
    watcher, code = follow(
        "threading.Thread(target=lambda: ask(10**9), daemon=True).start()\n"
        "time.sleep(0.1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert code == -signal.SIGKILL
    assert watcher.asked.total() > 0


def test_threads_that_exit_in_the_middle_of_others_calls() -> None:
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


def test_job_control_works() -> None:
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


def test_a_call_can_be_answered_without_the_kernel() -> None:
    _, code = follow(
        """
        try:
            ask()
        except OSError as error:
            sys.exit(error.errno)
        """,
        Counting(verdict=Verdict(result=-19)),
    )
    assert code == 19


def test_a_delay_holds_one_call_and_no_other() -> None:
    _, code = follow(
        """
        threads = [threading.Thread(target=ask) for _ in range(4)]
        start = time.monotonic()
        for t in threads: t.start()
        for t in threads: t.join()
        took = time.monotonic() - start
        sys.exit(0 if 0.5 <= took < 1.9 else 1)
        """,
        Counting(verdict=Verdict(delay=0.5)),
    )
    assert code == 0


def test_a_kernel_without_seccomp_costs_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(code: bytes) -> None:
        raise OSError(22, "no seccomp filter")

    monkeypatch.setattr(seccomp, "install", refuse)
    watcher, code = follow("import termios; ask(10); sys.exit(7)")
    assert (watcher.results, code) == ({12: 10}, 7)


def test_there_is_no_such_program() -> None:
    tracer = Tracer(Counting(), ("ioctl",))
    tracer.start(["/nonexistent/program"])
    with pytest.raises(UsageError, match="cannot run /nonexistent/program: No such file"):
        tracer.run()


def test_there_is_no_such_process() -> None:
    with pytest.raises(UsageError, match="there is no process 4194305"):
        Tracer(Counting(), ("ioctl",)).attach(2**22 + 1)


Start = Callable[..., "subprocess.Popen[str]"]


def test_attach_and_detach_leave_it_running(background: Start) -> None:
    program = "threading.Thread(target=lambda: ask(10**9), daemon=True).start()\ntime.sleep(60)"
    process = background(sys.executable, "-c", f"{ASKS}\n{program}")
    watcher = Counting()
    tracer = Tracer(watcher, ("ioctl",))
    tracer.attach(process.pid)
    signal.signal(signal.SIGALRM, lambda *_: tracer.stop())
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    tracer.run()
    tracer.let_go()
    assert watcher.results.keys() == {12}
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "TracerPid:\t0" in status
    time.sleep(0.1)
    assert process.poll() is None


def test_a_process_that_is_traced_already_is_refused(background: Start) -> None:
    process = background(sys.executable, "-c", "import time; time.sleep(60)")
    other = background("strace", "-o", "/dev/null", "-p", str(process.pid))
    while "TracerPid:\t0" in Path(f"/proc/{process.pid}/status").read_text():
        assert other.poll() is None
        time.sleep(0.05)
    with pytest.raises(LackingError, match=f"already traced, by process {other.pid}"):
        Tracer(Counting(), ("ioctl",)).attach(process.pid)


def test_who_owns_a_process_is_said() -> None:
    said = as_nobody(lambda: str(tasks.refusal(1)))
    assert "belongs to root: trace it as that user" in said
