# SPDX-License-Identifier: GPL-2.0-only
"""Run commands in emulated hosts, and report hosts that fail."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pyvmm.errors import LackingError, PyvmmError, Status, UsageError
from pyvmm.lab import host, lab_devices

from .conftest import Run

# Every byte value, and more data than a pipe or a port buffers.
LONG = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4096); sys.stderr.write('done')"


def test_output_and_status_are_unchanged(run: Run) -> None:
    result = run("sh", "-c", 'python3 -c "$1"; exit 7', "sh", LONG)
    assert (result.status, result.stdout, result.stderr) == (7, bytes(range(256)) * 4096, b"done")


def test_arguments_are_unchanged(run: Run) -> None:
    words = ("two words", "it's", '"quoted"', "$HOME", "*", "", "ü\n")
    result = run("python3", "-c", "import sys; print(ascii(sys.argv[1:]))", *words)
    assert result.stdout.decode().strip() == ascii(list(words))


def test_host_has_kvm_and_a_read_only_checkout(run: Run) -> None:
    result = run("sh", "-c", "uname -m; ls /dev/kvm; pwd; touch /checkout/new 2>&1; echo $?")
    machine, kvm, directory, *_, touched = result.stdout.decode().splitlines()
    assert (machine, kvm, directory) == ("aarch64", "/dev/kvm", "/checkout")
    assert touched != "0"


def test_background_process_does_not_delay_power_off(run: Run) -> None:
    assert run("sh", "-c", "sleep 1000 & echo started").stdout == b"started\n"


@pytest.mark.parametrize(
    ("machine", "error", "message"),
    [
        ({"append": "rdinit=/none"}, LackingError, "Kernel panic"),
        ({"append": "kvm-arm.mode=none"}, LackingError, "has no KVM"),
        ({"timeout": 0.5}, LackingError, r"did not start the command within 0\.5 s"),
        ({"mode": "pkvm"}, UsageError, "unknown mode of KVM 'pkvm': pass vhe, nvhe, protected"),
        ({"cpu": "none"}, UsageError, "unknown CPU 'none'.*neoverse-v1"),
        ({"cpu": "max,none=on"}, UsageError, "none"),
        ({"device_arguments": ("none",)}, UsageError, "not a valid device"),
        ({"memory": 1 << 50}, LackingError, "QEMU does not start"),
    ],
)
def test_host_failure_is_one_line(
    run: Run, machine: dict[str, object], error: type[PyvmmError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        run("true", **machine)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("mode", "log"),
    [
        ("vhe", "VHE mode"),
        ("nvhe", "Hyp nVHE mode"),
        ("protected", "Protected hVHE mode"),
        ("nested", r"VHE\+NV2 mode"),
    ],
)
def test_mode_of_kvm(run: Run, mode: str, log: str) -> None:
    assert re.search(rf"kvm \[\d+\]: {log} initialized", run("dmesg", mode=mode).stdout.decode())


def test_kernel_that_runs_in_another_mode(run: Run) -> None:
    # This CPU lacks VHE, which nested virtualization requires.
    with pytest.raises(LackingError, match="not run in mode nested but in mode nvhe; its log says"):
        run("true", mode="nested", cpu="cortex-a57")


def test_signals_reach_the_command_and_its_children() -> None:
    # The shell waits for its child, which the signal ends too, and reports it.
    script = "trap 'echo trapped' INT; sh -c 'trap \"echo child\" INT; echo up; sleep 99'; exit 5"
    with _running("shell", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert set(output.split()) == {b"child", b"trapped"}
    assert process.returncode == Status.INTERRUPTED


def test_hung_command(run: Run) -> None:
    for seconds in (8, 16, 32, 64):  # until it has booted
        with pytest.raises(LackingError, match=f"within {seconds} s") as hung:
            run("sleep", "1000", timeout=seconds)
        if "did not start" not in str(hung.value):
            break
    assert "the command did not end within" in str(hung.value)


def test_host_powers_off_before_its_command_ends(run: Run) -> None:
    with pytest.raises(LackingError, match="powered off before the command ended"):
        run("busybox", "poweroff", "-f")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
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
    pytest.fail(f"process {pid} still exists")


@pytest.mark.parametrize("name", ["a,b", "a b", "a=b,c=d", "a'b"])
def test_any_path_works(
    emulated: host.Host,
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path_factory.mktemp("path") / name  # short: it has sockets
    monkeypatch.setattr("tempfile.tempdir", None)  # where tempfile caches TMPDIR
    for variable in ("TMPDIR", "XDG_CACHE_HOME"):
        (directory / variable).mkdir(parents=True)
        monkeypatch.setenv(variable, str(directory / variable))
    image = directory / "image"
    image.symlink_to(emulated.image)
    (directory / "file").touch()
    out = io.BytesIO()
    # This device needs a device tree, which QEMU writes to a file, and the lab's kernel.
    devices = lab_devices.lookup(["grace"] if emulated.kernel.name == "lab" else [])
    machine = replace(emulated.machine, devices=tuple(devices))
    odd = replace(emulated, image=image, machine=machine)
    with odd.boot(["ls"], stdout=out, stderr=out, directory=directory) as running:
        assert running.wait(300) == 0
    assert "file" in out.getvalue().decode().split()
