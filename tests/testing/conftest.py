# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures that run pytest in a directory with a single test file."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SessionResult:
    """The exit status, output and KTAP of a pytest session."""

    status: int
    stdout: str
    stderr: str
    ktap: str

    def line(self, name: str) -> str:
        """Return a test's KTAP line without indentation and number: "ok test_x # SKIP …"."""
        for line in self.ktap.splitlines():
            verdict, _, rest = line.strip().partition("ok ")
            number, _, text = rest.partition(" ")
            if number.isdecimal() and text.partition(" # ")[0] == name:
                return f"{verdict}ok {text}"
        raise AssertionError(f"{name} is not in:\n{self.ktap}\n{self.stdout}\n{self.stderr}")


Session = Callable[..., SessionResult]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Return a function that runs pytest with arguments on a test file with the given text."""

    def session(text: str, *arguments: str) -> SessionResult:
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
        return SessionResult(done.returncode, done.stdout, done.stderr, written)

    return session
