# SPDX-License-Identifier: GPL-2.0-only
"""Files and directories in the cache are complete, even if their builder was killed."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import cache

BUILDER = """\
import sys, time
from pathlib import Path
from pyvmm.lab import cache
with cache.create(Path(sys.argv[1])) as partial:
    if partial is not None:
        partial.mkdir()
        (partial / "half").touch()
        print("half", flush=True)
        sys.stdin.readline()
        (partial / "whole").touch()
"""


def _builder(place: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_path_is_created_once(tmp_path: Path) -> None:
    with cache.create(tmp_path / "thing") as partial:
        assert partial is not None
        partial.write_text("made")
    with cache.create(tmp_path / "thing") as partial:
        assert partial is None


def test_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), cache.create(tmp_path / "thing") as partial:
        assert partial is not None
        partial.mkdir()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [".lock-thing"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    with _builder(tmp_path / "thing") as killed:
        assert _read_line(killed) == "half\n"
        killed.send_signal(signal.SIGKILL)
    assert not (tmp_path / "thing").exists()
    with _builder(tmp_path / "thing") as builder:
        assert _read_line(builder) == "half\n"
        builder.communicate("\n")
    assert {path.name for path in (tmp_path / "thing").iterdir()} == {"half", "whole"}


def test_second_process_waits_for_the_first(tmp_path: Path) -> None:
    with _builder(tmp_path / "thing") as first:
        assert _read_line(first) == "half\n"
        with _builder(tmp_path / "thing") as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(1)
            first.communicate("\n")
            assert second.wait(30) == 0
            assert _read_line(second) == ""  # it created nothing


def test_full_disk_is_one_line_and_leaves_no_tree(tmp_path: Path) -> None:
    script = (
        'mount -t tmpfs -o size=1m tmpfs "$1"; XDG_CACHE_HOME="$1" "$2" -m pyvmm lab setup; '
        'echo $?; ls "$1"/pyvmm/trees'
    )
    mapped = ["--map-root-user"] if os.geteuid() else []
    unshare = ["unshare", "--mount", *mapped, "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*unshare, str(tmp_path), sys.executable], capture_output=True, text=True, check=False
    )
    [message] = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "no space left" in message
    assert done.stdout == "3\n"  # and no tree


def test_clean_removes_only_files_of_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("kernels/lab", "other/thing"):
        (cache.root() / name).mkdir(parents=True)
    assert [entry.name for entry in cache.entries()] == ["kernels/lab"]
    cache.clean()
    assert cache.entries() == []
    assert (cache.root() / "other/thing").exists()


def test_unwritable_cache_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LackingError, match="cannot be written"), cache.convert_errors():
        with cache.create(cache.root() / "thing"):
            pass
