# SPDX-License-Identifier: GPL-2.0-only
"""What a host says on its control port, and what its command writes."""

import io
import subprocess
import sys

import pytest

from pyvmm.lab.virtio_ports import VirtioPorts

# A host's end: writes to the descriptors that QEMU would inherit, then ends.
SPEAK = """\
import os, sys
control, out = map(int, sys.argv[1:3])
os.write(out, b"x" * 200000)
os.write(control, sys.argv[3].encode())
"""


def _relayed(said: str, timeout: float | None = 30) -> tuple[VirtioPorts, bytes]:
    written = io.BytesIO()
    with VirtioPorts(written) as streams:
        ends = streams.descriptors()
        argv = [sys.executable, "-c", SPEAK, *map(str, ends), said]
        with subprocess.Popen(argv, pass_fds=ends):
            streams.relay(timeout)
            return streams, written.getvalue()


@pytest.mark.parametrize(
    ("said", "started", "status", "failure"),
    [
        ("kvm\nexit 0\n", True, 0, ""),
        ("kvm\nexit 137\n", True, 137, ""),
        ("fail no KVM here\n", False, None, "no KVM here"),
        ("kvm\n", True, None, ""),
        ("kvm\nexit 1", True, None, ""),
        ("", False, None, ""),
        ("\nwhat\n\nkvm\nexit 3\n", True, 3, ""),
    ],
)
def test_control_port(said: str, started: bool, status: int | None, failure: str) -> None:
    streams, _ = _relayed(said)
    assert (streams.started, streams.status, streams.failure) == (started, status, failure)


def test_all_output_is_there_when_the_status_is() -> None:
    assert _relayed("kvm\nexit 0\n")[1] == b"x" * 200000
