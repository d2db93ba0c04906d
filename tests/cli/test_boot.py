# SPDX-License-Identifier: GPL-2.0-only
"""The arguments and the output of ``boot``; tests/linux tests its results."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.json_documents import valid

COMMAND = (sys.executable, "-m", "pyvmm", "boot")


def pyvmm(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--ram", "1"], "'1' is not a size such as 512M or 2G"),
        (["--cpus", "many"], "invalid int value: 'many'"),
        (["--console", "none"], "invalid choice: 'none'"),
        (["--timeout", "0"], "'0' is not a positive number of seconds"),
        (["--report", "/"], "cannot write the report to /: it is a directory"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(args: list[str], says: str) -> None:
    done = pyvmm(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("pyvmm: error: ")
    assert says in done.stderr.splitlines()[-1]


@pytest.mark.needs_arch("x86_64")
def test_other_hosts_are_told_of_the_lab() -> None:
    done = pyvmm()
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith("python -m pyvmm lab run --device disk -- boot\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.needs_arch("aarch64")
def test_json(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = pyvmm("--json", "--report", str(report), "--append", "quiet")
    document = valid(done.stdout)
    assert (done.returncode, document["schema"], document["result"]) == (
        0,
        "pyvmm.boot/1",
        "power-off",
    )
    assert json.loads(report.read_text()) == document
    assert document["exits"]["system_event"] == 1
    assert "pyvmm guest: init at " in done.stderr


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_signal_ends_the_guest(number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        [*COMMAND, "--append", "pyvmm.shell"], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if b"pyvmm guest: init" in line:
                break
        process.send_signal(number)
        process.stdout.read()
    assert process.returncode == status
