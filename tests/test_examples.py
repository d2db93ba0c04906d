# SPDX-License-Identifier: GPL-2.0-only
"""The examples, run as they stand."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments: str) -> str:
    """What an example prints; it must end well and complain of nothing."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


@pytest.mark.usefixtures("kvm")
def test_hello() -> None:
    arch = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert run("hello.py") == f"Hello from {arch}\n"


def test_hello_is_short() -> None:
    assert len((EXAMPLES / "hello.py").read_text().splitlines()) < 40
