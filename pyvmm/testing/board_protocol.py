# SPDX-License-Identifier: GPL-2.0-only
"""A board: a machine that runs tests of this session.

`Board.start` runs pytest there, with the plugin `board_agent`. The session orders tests on its
stdin, and it writes events to its stdout: both are lines of JSON.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol

from pyvmm.errors import PyvmmError
from pyvmm.lab.apt import Progress

JOB_FILE = "job.json"
# pytest and hypothesis must not write beside the tests. The project's ini file may name plugins
# that the board lacks.
_PYTEST = (
    *("python3", "-m", "pytest", "-p", "pyvmm.testing.plugin", "-p", "pyvmm.testing.board_agent"),
    *("-p", "no:cacheprovider", "--continue-on-collection-errors"),
    *("-o", "addopts=", "-o", "required_plugins=", "-o", "minversion="),
)


class BoardFailure(PyvmmError):
    """The board crashed, hangs or disappeared; the message has the end of its console."""


@dataclass(frozen=True)
class Job:
    """What a board runs.

    Attributes:
        root: the directory of the tests on this machine.
        modules: the tests' modules, relative to `root`.
        ini: pytest's ini file, below `root`.
        options: the options of this session.
        headers: files with the definitions of ``--kvm-headers``.
    """

    root: Path
    modules: Sequence[str]
    ini: Path | None
    options: Mapping[str, Any]
    headers: Sequence[Path]

    def command(self, files: PurePath) -> list[str]:
        """Return the command to run in `root`; `files` has `JOB_FILE` and the headers."""
        command = [*_PYTEST, "--rootdir=.", f"--board-agent={files / JOB_FILE}"]
        command += ["-c", str(self.ini.relative_to(self.root))] if self.ini else []
        command += [f"--kvm-headers={files / each.name}" for each in self.headers]
        command += [f"--capture={self.options['capture']}"] if "capture" in self.options else []
        return [*command, *self.modules]

    def settings(self, *, shell: str | None = None, device: str | None = None) -> str:
        """Return the content of `JOB_FILE`.

        A failed test opens a shell on the terminal `shell`. The agent binds `device` to vfio.
        """
        return json.dumps({"options": self.options, "shell": shell, "device": device})


class Run(Protocol):
    """A job that runs on a board."""

    def send(self, data: bytes) -> None:
        """Write to its stdin, if it still runs."""

    def relay(self, until: Callable[[], bool], timeout: float) -> bool:
        """Copy its output until `until()` is true, and return True.

        Return False if it ends first or `timeout` seconds pass; `wait` raises the reason.
        """

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status. Raises `PyvmmError` if the board failed."""

    def console(self) -> str:
        """Return the last lines of the board's console, or nothing if it has none."""

    def attach(self, until: Callable[[], bool]) -> None:
        """Connect this process's terminal to the shell of a failed test."""


class Board(Protocol):
    """A machine that runs tests."""

    @property
    def name(self) -> str:
        """Return the board's name in node ids."""

    @property
    def kernel(self) -> str:
        """Return the name of its kernel, which `prepare` finds out."""

    def prepare(self, progress: Progress) -> None:
        """Get what the board needs, before its first start. Raises `PyvmmError`."""

    def start(self, job: Job, stdout: BinaryIO, stderr: BinaryIO) -> AbstractContextManager[Run]:
        """Run a job until the block ends. Raises `PyvmmError`."""

    def power_cycle(self) -> None:
        """Make the board usable after it failed. Raises `PyvmmError`."""

    def release(self) -> None:
        """Give the board back to others. Idempotent."""
