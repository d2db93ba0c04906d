# SPDX-License-Identifier: GPL-2.0-only
"""A session of pytest's in a user's directory, with nothing in it but the test."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ended:
    """How a session ended: its exit status, what it printed, and its KTAP."""

    status: int
    stdout: str
    stderr: str
    ktap: str

    def result(self, name: str) -> str:
        """A test's line, without its indentation and number: "ok test_x # SKIP …"."""
        for line in self.ktap.splitlines():
            verdict, _, rest = line.strip().partition("ok ")
            number, _, text = rest.partition(" ")
            if number.isdecimal() and text.partition(" # ")[0] == name:
                return f"{verdict}ok {text}"
        raise AssertionError(f"no {name} in:\n{self.ktap}\n{self.stdout}\n{self.stderr}")


Session = Callable[..., Ended]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Run pytest with these arguments on a file of this text."""

    def session(text: str, *arguments: str) -> Ended:
        (tmp_path / "test_it.py").write_text(textwrap.dedent(text))
        options = ("-p", "pyvmm.testing.plugin", "-p", "no:cacheprovider", "--ktap=it.ktap")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        ktap = tmp_path / "it.ktap"
        written = ktap.read_text() if ktap.exists() else ""
        return Ended(done.returncode, done.stdout, done.stderr, written)

    return session
