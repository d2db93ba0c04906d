# SPDX-License-Identifier: GPL-2.0-only
"""Kill a command at a random point, and report what it leaves."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyvmm import libc

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PYVMM = (sys.executable, "-m", "pyvmm")
PATIENCE = 60  # seconds
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_AFTER_CHILD = 0.1  # seconds
# Python prints one if a signal arrives while it starts or ends, outside of pyvmm's control.
_TRACEBACK = "Traceback"
_OF_PYVMM = re.compile(r'/pyvmm/\S+", line \d+, in main\n')


def adopt_orphans() -> None:
    """Make the processes that killed commands leave behind children of this process."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_and_kill(
    command: Sequence[str],
    sent: signal.Signals,
    chance: random.Random,
    longest: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Start a command and kill it; yield its traceback, and the processes that it leaves.

    The delay is up to `longest` seconds. A third of the commands is killed just after it has
    started a process of its own: that moment is short, and the most dangerous one.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=errors, text=True
        )
        if chance.random() < 1 / 3:
            _wait_for_child(process, chance.uniform(0, longest))
            time.sleep(chance.uniform(0, _AFTER_CHILD))
        else:
            time.sleep(chance.uniform(0, longest))
        process.send_signal(sent)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            yield f"still running {PATIENCE} s after {sent.name}"
            process.kill()
            process.wait()
        errors.seek(0)
        text = errors.read()
        if _TRACEBACK in text and _OF_PYVMM.search(text):
            yield text
    yield from wait_for_orphans()


def _wait_for_child(process: "subprocess.Popen[str]", longest: float) -> None:
    end = time.monotonic() + longest
    while process.poll() is None and time.monotonic() < end and not _children(process.pid):
        time.sleep(0.005)


def _children(parent: int) -> list[Path]:
    """Return the directories in /proc of a process's children, without CONFIG_PROC_CHILDREN."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (process / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(after_name[1]) == parent:
            found.append(process)
    return found


def wait_for_orphans() -> Iterator[str]:
    """Wait until this process has no children; yield those that do not end, and kill them."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid and time.monotonic() > end:
            for child in _children(os.getpid()):
                yield f"left {(child / 'cmdline').read_bytes()!r}"
                os.kill(int(child.name), signal.SIGKILL)
        elif not pid:
            time.sleep(0.02)


@contextmanager
def private_tmpdir() -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a new directory, and the environment with it as TMPDIR."""
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary), {**os.environ, "TMPDIR": temporary}


def names(directory: Path) -> set[str]:
    """Return the names in a directory."""
    return {path.name for path in directory.iterdir()}
