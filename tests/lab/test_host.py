# SPDX-License-Identifier: GPL-2.0-only
"""A command in an emulated host: what comes back, and what is said when the host fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, UsageError
from pyvmm.lab import host

from .conftest import Run

# Every byte, and more of them than a pipe or a port takes at once.
LONG = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096); sys.stderr.write('done')"


def test_streams_and_status_come_back_unchanged(run: Run) -> None:
    ran = run("sh", "-c", 'python3 -c "$1"; exit 7', "sh", LONG)
    assert (ran.status, ran.stdout, ran.stderr) == (7, bytes(range(256)) * 4096, b"done")


def test_command_gets_its_words_as_they_are(run: Run) -> None:
    words = ("two words", "it's", '"quoted"', "$HOME", "*", "", "ü\n")
    ran = run("python3", "-c", "import sys; print(ascii(sys.argv[1:]))", *words)
    assert ran.stdout.decode().strip() == ascii(list(words))


def test_host_has_real_kvm_at_el2_and_the_checkout_read_only(run: Run) -> None:
    ran = run("sh", "-c", "uname -m; ls /dev/kvm; pwd; touch /checkout/new 2>&1; echo $?")
    machine, kvm, directory, *_, touched = ran.stdout.decode().splitlines()
    assert (machine, kvm, directory) == ("aarch64", "/dev/kvm", "/checkout")
    assert touched != "0"


def test_what_the_command_leaves_running_does_not_hold_the_host(run: Run) -> None:
    assert run("sh", "-c", "sleep 1000 & echo started").stdout == b"started\n"


@pytest.mark.parametrize(
    ("machine", "error", "says"),
    [
        ({"append": "rdinit=/none"}, LackingError, "Kernel panic"),
        ({"append": "kvm-arm.mode=none"}, LackingError, "has no KVM"),
        ({"timeout": 0.5}, LackingError, r"did not start the command within 0\.5 s"),
        ({"cpu": "none"}, UsageError, "there is no CPU 'none'.*neoverse-v1"),
        ({"cpu": "max,none=on"}, UsageError, "none"),
        ({"device_arguments": ("none",)}, UsageError, "not a valid device"),
        ({"memory": 1 << 50}, LackingError, "QEMU does not start"),
    ],
)
def test_failing_host_is_one_line_and_no_status(
    run: Run, machine: dict[str, object], error: type[PyvmmError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        run("true", **machine)
    assert "\n" not in str(raised.value)


def test_hung_command_is_told_from_a_hung_host(run: Run) -> None:
    with pytest.raises(LackingError, match="did not end within 20 s"):
        run("sleep", "1000", timeout=20)


def test_host_that_ends_before_its_command_is_no_failed_command(run: Run) -> None:
    with pytest.raises(LackingError, match="ended before the command did"):
        run("busybox", "poweroff", "-f")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_qemu_outlives_pyvmm(emulated: host.Host, number: signal.Signals) -> None:
    with _running("shell", "--", "sh", "-c", "echo up; sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        [child] = _children(process.pid)
        process.send_signal(number)
        process.wait(30)
        _wait_for_end(child)


@contextmanager
def _running(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-m", "pyvmm", "lab", *arguments],
        cwd=host.CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for_end(pid: int) -> None:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} is still there")
