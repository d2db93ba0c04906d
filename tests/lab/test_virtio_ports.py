# SPDX-License-Identifier: GPL-2.0-only
"""Relay a command's output, and parse the control port."""

import io
import subprocess
import sys

import pytest

from pyvmm.lab.virtio_ports import VirtioPorts

# In place of QEMU: write to the file descriptors that QEMU would inherit.
WRITER = """\
import os, sys
control, out, stdin = map(int, sys.argv[1:4])
os.write(out, b"x" * 200000 + os.read(stdin, 5))
os.write(control, sys.argv[4].encode())
"""


def _relay(control: str, timeout: float | None = 30) -> tuple[VirtioPorts, bytes]:
    written = io.BytesIO()
    with VirtioPorts(written) as ports:
        ends = ports.descriptors()
        argv = [sys.executable, "-c", WRITER, *map(str, ends), control]
        with subprocess.Popen(argv, pass_fds=ends):
            ports.send(b"input")
            ports.relay(timeout)
            return ports, written.getvalue()


@pytest.mark.parametrize(
    ("control", "started", "status", "failure"),
    [
        ("kvm\nexit 0\n", True, 0, ""),
        ("kvm\nexit 137\n", True, 137, ""),
        ("fail no KVM here\n", False, None, "no KVM here"),
        ("kvm\n", True, None, ""),
        ("kvm\nexit 1", True, None, ""),
        ("", False, None, ""),
        ("\nwhat\n\nkvm\nexit 3\n", True, 3, ""),
        ("kvm\nexit now\n", True, None, "the control port says 'exit now'"),
    ],
)
def test_control_port(control: str, started: bool, status: int | None, failure: str) -> None:
    ports, _ = _relay(control)
    assert (ports.started, ports.status, ports.failure) == (started, status, failure)


def test_output_is_complete_when_the_status_arrives() -> None:
    assert _relay("kvm\nexit 0\n")[1] == b"x" * 200000 + b"input"
