# SPDX-License-Identifier: GPL-2.0-only
"""Lines that this test logs through /dev/kmsg."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvmm.provenance.kernel_log import KernelLog

DEVICE = Path("/dev/kmsg")
ALWAYS = (0.0, float("inf"))


@pytest.fixture
def log() -> Iterator[KernelLog]:
    try:
        log, file = KernelLog(), DEVICE.open("w")
    except OSError as error:
        pytest.skip(f"{error}: run it as root")
    file.close()
    yield log
    log.close()


def write(line: str) -> None:
    with DEVICE.open("w") as file:
        file.write(line + "\n")  # without it, a reader sees the line only when the next one begins


def test_only_lines_after_it_was_opened(log: KernelLog) -> None:
    write("pyvmm-test: one")
    lines = [line for line in log.between(*ALWAYS, 1) if "pyvmm-test" in line]
    assert lines == ["pyvmm-test: one"]


def test_lines_of_another_time(log: KernelLog) -> None:
    write("pyvmm-test: one")
    assert log.between(0, 0, 1) == ()


def test_kvms_lines_of_other_threads_are_left_out(log: KernelLog) -> None:
    write("kvm [71]: pyvmm-test")
    assert "pyvmm-test" in log.between(*ALWAYS, 71)
    assert not [line for line in log.between(*ALWAYS, 72) if "pyvmm-test" in line]


def test_only_warnings_and_errors(log: KernelLog) -> None:
    """The OOM killer reports a hundred lines of KERN_INFO, which say nothing of the failure."""
    for level in (3, 4, 6):
        write(f"<{level}>pyvmm-test: {level}")
    lines = [line[-1] for line in log.between(*ALWAYS, 1) if "pyvmm-test" in line]
    assert lines == ["3", "4"]
