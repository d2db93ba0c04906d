# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm explain --live`` as a process: what it prints, and how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyvmm import cli
from pyvmm.errors import LackingError, SkippedError, Status
from pyvmm.provenance import tracefs
from tests.json_documents import valid
from tests.other_vmm import READS_UNMAPPED_MEMORY, WAITS, OtherVmm
from tests.process import exits_with

Start = Callable[[str], OtherVmm]


class Explain:
    """A running command that waits for a failure."""

    def __init__(self, *arguments: str) -> None:
        argv = [sys.executable, "-m", "pyvmm", "explain", *arguments]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        self.note = self.process.stderr.readline()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return its status, stdout and stderr."""
        said, complained = self.process.communicate()
        return self.process.returncode, said, complained


@pytest.fixture
def place() -> Iterator[Path]:
    try:
        yield tracefs.locate()
    except (LackingError, SkippedError) as error:
        pytest.skip(f"{error}; the emulated host has it: pytest --lab")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--live", "1", "--pid", "1"],
        ["--live", "1", "--all"],
        ["--live", "1", "KVM_RUN", "errno=EFAULT"],
        ["--timeout", "3", "KVM_RUN", "errno=EFAULT"],
    ],
)
def test_options_without_effect(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with exits_with(Status.USAGE):
        cli.main(["explain", *arguments])
    assert "--live PID" in capsys.readouterr().err


@pytest.mark.needs_arch("aarch64")
def test_text_and_json(other_vmm: Start, place: Path) -> None:
    for form in ([], ["--json"]):
        vmm = other_vmm(READS_UNMAPPED_MEMORY)
        explain = Explain("--live", str(vmm.pid), "--timeout", "60", *form)
        assert f"process {vmm.pid}" in explain.note
        vmm.go()
        status, said, _ = explain.end()
        assert status == Status.DONE
        if form:
            document: dict[str, Any] = valid(said)
            assert document["schema"] == "pyvmm.explain/1"
            assert document["failure"]["errno"] == "EFAULT"
            live = document["live"]
            assert (live["gpa"], [live["hva"]]) == (1 << 32, vmm.values)
            assert [cause["name"] for cause in live["causes"]] == ["hva-unmapped"]
        else:
            assert "KVM_RUN failed with EFAULT" in said
            assert f"HVA {vmm.values[0]:#x}, not mapped" in said
            assert "cause:   hva-unmapped: nothing is mapped" in said


def test_a_timeout(other_vmm: Start, place: Path) -> None:
    vmm = other_vmm(WAITS)
    status, said, complained = Explain("--live", str(vmm.pid), "--timeout", "0.1").end()
    assert (status, said) == (Status.FAILED, "")
    assert complained.endswith(f"KVM failed no ioctl of process {vmm.pid} in 0.1 s\n")


def test_ctrl_c_leaves_nothing(other_vmm: Start, place: Path) -> None:
    explain = Explain("--live", str(other_vmm(WAITS).pid))
    instance = place / "instances" / f"pyvmm-{explain.process.pid}"
    assert instance.exists()
    os.kill(explain.process.pid, signal.SIGINT)
    assert explain.end()[0] == Status.INTERRUPTED
    assert not instance.exists()
