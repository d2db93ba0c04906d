# SPDX-License-Identifier: GPL-2.0-only
import fcntl
import json
import os
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvmm.trace.events import SCHEMA
from tests.json_documents import check, valid

TRACE = [sys.executable, "-m", "pyvmm", "trace"]
ASKS = [sys.executable, "-c", "from pyvmm.kvm import System\nwith System.open(): print('asked')"]
# Prints "ready", then calls KVM_GET_API_VERSION until it is killed.
FOREVER = """
import sys, time
from pyvmm.kvm import System
system = System.open()
print("ready", flush=True)
while True:
    assert system.api_version() == 12
    time.sleep(0.01)
"""

pytestmark = pytest.mark.usefixtures("kvm")


def trace(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TRACE, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_trace_goes_to_stderr() -> None:
    run = trace("--", *ASKS)
    assert (run.stdout, run.returncode) == ("asked\n", 0)
    assert "kvm KVM_GET_API_VERSION = 12" in run.stderr


def test_json_goes_to_stdout() -> None:
    run = trace("--json", "--", *ASKS)
    first, *rest = documents = [json.loads(line) for line in run.stdout.splitlines()]
    for each in documents:
        check(each, SCHEMA)
    assert first["schema"] == SCHEMA
    assert "KVM_GET_API_VERSION" in {event.get("name") for event in rest}
    assert run.stderr == "asked\n"


def test_json_summary() -> None:
    run = trace("--summary", "--json", "--", *ASKS)
    summary = valid(run.stdout)
    assert [(i["name"], i["calls"]) for i in summary["ioctls"]] == [("KVM_GET_API_VERSION", 1)]


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_status_of_the_command(code: int) -> None:
    assert trace("--summary", "--", "sh", "-c", f"exit {code}").returncode == code


def test_exit_status_of_a_killed_command() -> None:
    run = trace("--summary", "--", "sh", "-c", "kill -SEGV $$")
    assert run.returncode == 128 + signal.SIGSEGV
    assert "the command was killed by signal 11" in run.stderr


def test_record_show_and_diff(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert trace("--record", one, "--", *ASKS).stderr == ""
    scenario = tmp_path / "kernel.toml"
    scenario.write_text('inject = ["ioctl:KVM_GET_API_VERSION:return=13"]')
    run = trace("--record", other, "--scenario", scenario, "--", *ASKS)
    assert "KVM API version 13" in run.stderr
    shown = trace("show", one, "--ioctl", "KVM_GET_*").stdout.splitlines()
    assert [text.split(" kvm ")[1] for text in shown] == ["KVM_GET_API_VERSION = 12"]
    assert "1 injected" in trace("show", other, "--summary").stdout
    assert trace("diff", one, one).returncode == 0
    found = trace("diff", one, other)
    assert found.returncode == 1
    assert "+ KVM_GET_API_VERSION = 13 [injected]" in found.stdout
    assert valid(trace("diff", "--json", one, other).stdout)["changes"]


def test_timeline_live_and_of_a_recording(tmp_path: Path) -> None:
    live, recorded, later = (tmp_path / name for name in ("live", "recorded", "later"))
    assert trace("--timeline", live, "--record", recorded, "--", *ASKS).stderr == ""
    entries = json.loads(live.read_text())
    assert "KVM_GET_API_VERSION" in [each["name"] for each in entries]
    assert trace("show", recorded, "--timeline", later).returncode == 0
    assert later.read_text() == live.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give either a command after --, or -p PID"),
        (["-p", "1", "--", "true"], 2, "give either a command"),
        (["-p", "4194305"], 2, "there is no process 4194305"),
        (["--", "/no/such/program"], 2, "cannot run /no/such/program: No such file"),
        (["--", ""], 2, "cannot run '': No such file"),
        (["--", "/"], 2, "cannot run /: Permission denied"),
        (["--", __file__], 2, f"cannot run {__file__}: Permission denied"),
        (["--inject", "nonsense", "--", "true"], 2, "cannot parse injection rule"),
        (["--address", "there", "--", "true"], 2, "invalid address"),
        (["-o", "/no/such/folder/file", "--", "true"], 2, "cannot write"),
        (["show", "/no/such/file"], 2, "cannot read"),
        (["diff", "/no/such/file", "/no/such/file"], 2, "cannot read"),
        (["--summary", "show", "x"], 2, "--summary has no effect before show: give it after"),
        (["--ioctl", "KVM_RUN", "show", "x"], 2, "--ioctl has no effect before show"),
        (["-p", "1", "show", "x"], 2, "--pid has no effect before show: leave it out"),
        (["--record", "/no/such/file", "show", "x"], 2, "--record has no effect before show"),
        (["--json", "diff", "x", "x"], 2, "--json has no effect before diff"),
        (["--inject", "x", "diff", "x", "x"], 2, "--inject has no effect before diff"),
        (["--record", "x", "--fd", "vm", "--", "true"], 2, "--fd selects what is printed"),
        (["--record", "x", "--ioctl", "x", "--", "true"], 2, "--ioctl selects what is printed"),
        (["--record", "x", "--exit", "io", "--", "true"], 2, "--exit selects what is printed"),
        (["--record", "x", "--timeline", "x", "--", "true"], 2, "give each a file of its own"),
        (["--timeline", "x", "--fd", "vm", "--", "true"], 2, "--timeline alone prints nothing"),
        (["--record", "x", "--address", "1", "-p", "1"], 2, "--address selects what is printed"),
    ],
)
def test_usage_error_is_one_line(arguments: list[str], status: int, message: str) -> None:
    run = trace(*arguments)
    assert run.returncode == status
    assert run.stderr.startswith("pyvmm: error: ")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.fixture
def tracing() -> Iterator["subprocess.Popen[str]"]:
    """Trace a program that runs until it is killed, and wait until it is ready."""
    process = subprocess.Popen(
        [*TRACE, "--summary", "--", sys.executable, "-c", FOREVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def is_running(pid: int) -> bool:
    """Return True if the process runs or sleeps. Each ioctl is a short ptrace stop."""
    for _ in range(50):
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "SR":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_interrupted_trace_leaves_the_command_running(
    tracing: "subprocess.Popen[str]", number: int, status: int
) -> None:
    command = child_of(child_of(tracing.pid))
    time.sleep(0.2)
    tracing.send_signal(number)
    assert tracing.stderr
    assert tracing.wait(30) == status
    try:
        time.sleep(0.5)  # about fifty ioctls, each of which would fail without a tracer
        assert is_running(command)
    finally:
        os.kill(command, signal.SIGKILL)
    assert "KVM_GET_API_VERSION (system)" in tracing.stderr.read()


# Asks until its stdin ends, then uses more of KVM.
UNTIL_EOF = """
import os, select, sys
from pyvmm.kvm import System
if "daemon" in sys.argv and os.fork():
    os._exit(0)
system = System.open()
os.write(1, b"ready\\n")  # one write: the shell prints, too
while not select.select([0], [], [], 0.01)[0]:
    assert system.api_version() == 12
with system.create_vm() as vm, vm.create_vcpu(0):
    os.write(1, b"created a vCPU\\n")
sys.exit(7)
"""
EndTrace = Callable[["subprocess.Popen[str]", int], None]


def to_command(number: int) -> EndTrace:
    return lambda tracing, tracer: tracing.send_signal(number)


def to_tracer(number: int) -> EndTrace:
    return lambda tracing, tracer: os.kill(tracer, number)


def to_group(number: int) -> EndTrace:
    return lambda tracing, tracer: os.killpg(tracing.pid, number)


def close_stderr(tracing: "subprocess.Popen[str]", tracer: int) -> None:
    assert tracing.stderr
    tracing.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "end_trace"),
    [
        pytest.param([], to_command(signal.SIGKILL), id="SIGKILL"),
        pytest.param([], to_command(signal.SIGHUP), id="SIGHUP"),
        pytest.param([], to_command(signal.SIGQUIT), id="SIGQUIT"),
        pytest.param(["--summary"], to_command(signal.SIGKILL), id="SIGKILL-summary"),
        pytest.param([], to_tracer(signal.SIGINT), id="tracer-SIGINT"),
        pytest.param([], to_tracer(signal.SIGHUP), id="tracer-SIGHUP"),
        pytest.param([], to_tracer(signal.SIGQUIT), id="tracer-SIGQUIT"),
        pytest.param([], to_group(signal.SIGHUP), id="hangup"),
        pytest.param([], to_group(signal.SIGUSR1), id="group-SIGUSR1"),
        pytest.param([], close_stderr, id="reader-gone"),
        pytest.param(["daemon"], to_command(signal.SIGINT), id="daemon"),
        pytest.param(["daemon"], to_command(signal.SIGKILL), id="daemon-SIGKILL"),
    ],
)
def test_command_outlives_the_trace(arguments: list[str], end_trace: EndTrace) -> None:
    """Without a tracer, each traced system call of the command would fail with ENOSYS."""
    options = [argument for argument in arguments if argument.startswith("--")]
    shell = [
        "sh",
        "-c",
        'trap "" HUP USR1; "$@"; echo status $?',
        "sh",
        sys.executable,
        "-c",
        UNTIL_EOF,
        *arguments,
    ]
    tracing = subprocess.Popen(
        [*TRACE, *options, "--", *shell],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert tracing.stdin
    assert tracing.stdout
    assert "ready\n" in iter(tracing.stdout.readline, "")
    tracer = child_of(tracing.pid)
    tracer_end = os.pidfd_open(tracer)
    try:
        end_trace(tracing, tracer)
        tracing.wait(30)
        time.sleep(0.2)  # about twenty ioctls
        tracing.stdin.close()
        said = tracing.stdout.read()
        assert "created a vCPU" in said
        assert "daemon" in arguments or "status 7" in said
        assert select.select([tracer_end], [], [], 30)[0], "the tracer stays"
    finally:
        tracing.kill()
        with tracing:  # closes its pipes, so that no process stays if the test fails
            os.close(tracer_end)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_attach_and_detach(number: int, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        process.stdout.readline()
        tracing = subprocess.Popen(
            [*TRACE, "--summary", "-p", str(process.pid)], stderr=subprocess.PIPE, text=True
        )
        traced = Path(f"/proc/{process.pid}/status")
        while "TracerPid:\t0\n" in traced.read_text():
            assert tracing.poll() is None
            time.sleep(0.05)
        time.sleep(1)
        tracing.send_signal(number)
        _, text = tracing.communicate(timeout=30)
        assert tracing.returncode == status
        assert "KVM_GET_API_VERSION (system)" in text
        time.sleep(0.2)
        assert process.poll() is None
        assert "TracerPid:\t0" in traced.read_text()
    finally:
        process.kill()
        process.wait()


def test_closed_pipe_does_not_stop_the_command(tmp_path: Path) -> None:
    program = FOREVER.replace("while True", "for _ in range(100)") + "\nopen(sys.argv[1], 'w')"
    done = tmp_path / "done"
    tracing = subprocess.Popen(
        [*TRACE, "--json", "--", sys.executable, "-c", program, done],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert tracing.stdout
    assert tracing.stderr
    tracing.stdout.readline()
    tracing.stdout.close()
    assert "the trace ends here: cannot write to stdout: Broken pipe" in tracing.stderr.read()
    assert tracing.wait(30) == 1
    assert done.exists()


def wait_until_full(pipe: int) -> None:
    """Wait until a pipe that nobody reads gets no more data."""
    before = 0
    while True:
        [now] = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
        if now and now == before:
            return
        before = now
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("option", "attach", "number", "status"),
    [
        pytest.param("", False, signal.SIGINT, 130, id="stderr"),
        pytest.param("", False, signal.SIGKILL, -signal.SIGKILL, id="stderr-SIGKILL"),
        pytest.param("", True, signal.SIGINT, 130, id="stderr-attached"),
        pytest.param("--record", False, signal.SIGINT, 130, id="record"),
        pytest.param("--record", False, signal.SIGTERM, 143, id="record-SIGTERM"),
        pytest.param("--timeline", False, signal.SIGINT, 130, id="timeline"),
        pytest.param("-o", True, signal.SIGINT, 130, id="output-attached"),
    ],
)
def test_reader_that_hangs(option: str, attach: bool, number: int, status: int) -> None:
    """The program stops, as under strace, and goes on when the trace is ended."""
    program = [sys.executable, "-c", UNTIL_EOF]
    hung, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    command = [*TRACE, *([option, f"/dev/fd/{write}"] if option else [])]
    vmm = tracing = subprocess.Popen(
        program if attach else [*command, "--", *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if option else write,
        pass_fds=[write],
        text=True,
    )
    assert vmm.stdin
    assert vmm.stdout
    try:
        assert vmm.stdout.readline() == "ready\n"
        if attach:
            tracing = subprocess.Popen(
                [*command, "-p", str(vmm.pid)],
                stderr=subprocess.DEVNULL if option else write,
                pass_fds=[write],
                text=True,
            )
        os.close(write)
        wait_until_full(hung)
        tracing.send_signal(number)
        assert tracing.wait(60) == status
        vmm.stdin.close()
        assert vmm.stdout.read() == "created a vCPU\n"
    finally:
        os.close(hung)
        tracing.kill()
        vmm.kill()
        with vmm, tracing:
            pass


def test_ctrl_c_on_a_terminal_ends_only_the_trace() -> None:
    """The terminal also sends SIGINT to the command, which must not receive it."""
    shell, terminal = os.forkpty()
    if not shell:
        traced = shlex.join([*TRACE, "--summary", "--", sys.executable, "-c", FOREVER])
        os.execvp("sh", ["sh", "-c", f"trap : INT; {traced}; echo status $?; sleep 60"])

    def read_until(text: bytes) -> None:
        seen = b""
        while text not in seen:
            seen += os.read(terminal, 4096)

    try:
        read_until(b"ready")
        command = child_of(child_of(child_of(shell)))
        time.sleep(0.2)
        os.write(terminal, b"\x03")
        read_until(b"status 130")
        time.sleep(0.2)
        alive = is_running(command)
        os.kill(command, signal.SIGKILL)
        assert alive
    finally:
        os.kill(shell, signal.SIGKILL)
        os.waitpid(shell, 0)
        os.close(terminal)
