# SPDX-License-Identifier: GPL-2.0-only
"""Attach this process's terminal to a shell in an emulated host."""

import os
import pty
import subprocess
import sys

from pyvmm.lab import host

LAB = [sys.executable, "-m", "pyvmm", "lab", "shell"]


def test_interactive_shell() -> None:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        LAB, cwd=host.CHECKOUT, stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL
    ) as process:
        os.close(terminal)
        output = _read_until(controller, b"# ")  # input before the prompt may be lost
        os.write(controller, b"seq 2000 && echo $((6 * 7)) on $(tty) && exit 5\n")
        output += _read_until(controller, b"42 on /dev/hvc0")
        assert process.wait(60) == 5
    os.close(controller)
    assert b"2000\r\n42" in output


def test_host_powers_off() -> None:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        LAB, cwd=host.CHECKOUT, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE
    ) as process:
        os.close(terminal)
        _read_until(controller, b"# ")
        os.write(controller, b"busybox poweroff -f\n")
        _, errors = process.communicate(timeout=60)
    os.close(controller)
    assert process.returncode == 3
    assert b"powered off before the command ended" in errors


def test_stdin_is_not_a_terminal() -> None:
    done = subprocess.run(
        LAB, cwd=host.CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"stdin is not a terminal" in done.stderr


def _read_until(descriptor: int, text: bytes) -> bytes:
    output = b""
    while text not in output:
        output += os.read(descriptor, 4096)
    return output
