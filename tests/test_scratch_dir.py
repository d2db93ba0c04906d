# SPDX-License-Identifier: GPL-2.0-only
"""Whatever ends a process, its directories in $TMPDIR go: then, or when the next one starts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm import scratch_dir
from tests.process import NOBODY

# Creates a directory as a command does, prints its path, and waits for a signal.
OWNER = """
import signal
from pyvmm import scratch_dir
from pyvmm.errors import as_command
with as_command(), scratch_dir.create() as path:
    (path / "file").touch()
    print(path, flush=True)
    while True:
        signal.pause()
"""


@pytest.fixture(autouse=True)
def tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", None)  # where tempfile caches TMPDIR
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def _owner(*prefix: str) -> tuple["subprocess.Popen[str]", Path]:
    argv = [*prefix, sys.executable, "-c", OWNER]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_private_and_removed_after_the_block(tmpdir: Path) -> None:
    with scratch_dir.create() as path:
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "directory").mkdir()
        (path / "directory/file").touch()
    assert list(tmpdir.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_removes_it(tmpdir: Path, number: signal.Signals) -> None:
    process, path = _owner()
    with process:
        assert path.is_dir()
        process.send_signal(number)
    assert list(tmpdir.iterdir()) == []
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)


def test_nohup_keeps_a_command_alive() -> None:
    process, path = _owner("nohup")
    with process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert path.is_dir()
        process.terminate()


def test_next_one_removes_those_of_killed_processes(tmpdir: Path) -> None:
    process, dead = _owner()
    with process:
        process.kill()
    assert (dead / "file").exists()
    process, living = _owner()
    with process:
        assert not dead.exists()
        with scratch_dir.create() as path:
            assert set(tmpdir.iterdir()) == {path, living}
        process.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to create another user's directory")
def test_others_are_not_removed(tmpdir: Path) -> None:
    process, dead = _owner()
    with process:
        process.kill()
    os.chown(dead, NOBODY, NOBODY)
    (tmpdir / "pyvmm-1-link").symlink_to(tmpdir / "target")
    (tmpdir / "target").mkdir()
    (tmpdir / "pyvmm-1-file").touch()
    (tmpdir / "pyvmm-unrelated").mkdir()
    before = set(tmpdir.iterdir())
    with scratch_dir.create():
        pass
    assert set(tmpdir.iterdir()) == before
