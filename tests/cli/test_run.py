# SPDX-License-Identifier: GPL-2.0-only
"""The arguments of ``run``; tests/passthrough tests its results."""

import subprocess
import sys
from pathlib import Path

import pytest


def pyvmm(*args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pyvmm", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


ABSENT = "ffff:ff:1f.7"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--vfio", "01:00"], "01:00"),
        (["--vfio", "0000:01:00.9"], "0000:01:00.9"),
        (["--vfio", ABSENT], "does not exist: lspci -D"),
        (["--vfio", ABSENT, "--write", "BAR0=1"], "REGION+OFFSET=VALUE"),
        (["--vfio", ABSENT, "--write", "BAR0+0x=1"], "REGION+OFFSET=VALUE"),
        (["--vfio", ABSENT, "--write", f"BAR0+0={1 << 32}"], "32 bits"),
        (["--vfio", ABSENT, "--vfio", ABSENT, "--write", "BAR0+0=1"], "give one --vfio"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(args: list[str], says: str) -> None:
    done = pyvmm(*args)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("pyvmm: error: ")
    assert says in line


@pytest.mark.parametrize("args", [["--vfio"], ["--vfio", ABSENT, "--iommu-mode", "magic"], ["run"]])
def test_argparse_rejects(args: list[str]) -> None:
    done = pyvmm(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_help() -> None:
    done = pyvmm("run", "--help")
    assert done.returncode == 0
    assert "--iommu-mode" in done.stdout


def test_an_unwritable_report_is_rejected_before_the_run(tmp_path: Path) -> None:
    done = pyvmm("--vfio", ABSENT, "--report", str(tmp_path / "no" / "such.json"))
    assert done.returncode == 2
    assert "such.json" in done.stderr
