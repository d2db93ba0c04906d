# SPDX-License-Identifier: GPL-2.0-only
"""What has its name in the cache is whole, whoever was killed when."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import cache

MAKE = """\
import sys, time
from pathlib import Path
from pyvmm.lab import cache
with cache.making(Path(sys.argv[1])) as partial:
    if partial is not None:
        partial.mkdir()
        (partial / "half").touch()
        print("half", flush=True)
        sys.stdin.readline()
        (partial / "whole").touch()
"""


def _maker(place: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_thing_is_made_once(tmp_path: Path) -> None:
    with cache.making(tmp_path / "thing") as partial:
        assert partial is not None
        partial.write_text("made")
    with cache.making(tmp_path / "thing") as partial:
        assert partial is None


def test_maker_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), cache.making(tmp_path / "thing") as partial:
        assert partial is not None
        partial.mkdir()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == [".lock-thing"]


def test_killed_makers_leavings_are_not_trusted(tmp_path: Path) -> None:
    with _maker(tmp_path / "thing") as killed:
        assert _said(killed) == "half\n"
        killed.send_signal(signal.SIGKILL)
    assert not (tmp_path / "thing").exists()
    with _maker(tmp_path / "thing") as maker:
        assert _said(maker) == "half\n"
        maker.communicate("\n")
    assert {path.name for path in (tmp_path / "thing").iterdir()} == {"half", "whole"}


def test_second_maker_waits_for_the_first(tmp_path: Path) -> None:
    with _maker(tmp_path / "thing") as first:
        assert _said(first) == "half\n"
        with _maker(tmp_path / "thing") as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(1)
            first.communicate("\n")
            assert second.wait(30) == 0
            assert _said(second) == ""  # it made nothing


def test_full_disk_is_one_line_and_nothing_to_trust(tmp_path: Path) -> None:
    script = (
        'mount -t tmpfs -o size=1m tmpfs "$1"; XDG_CACHE_HOME="$1" "$2" -m pyvmm lab setup; '
        'echo $?; ls "$1"/pyvmm/trees'
    )
    mapped = ["--map-root-user"] if os.geteuid() else []
    unshare = ["unshare", "--mount", *mapped, "sh", "-c", script, "sh"]
    done = subprocess.run(
        [*unshare, str(tmp_path), sys.executable], capture_output=True, text=True, check=False
    )
    [said] = [line for line in done.stderr.splitlines() if "error:" in line]
    assert "no space left" in said
    assert done.stdout == "3\n"  # and no tree that could be trusted


def test_clean_removes_what_the_lab_keeps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("kernels/lab", "other/thing"):
        (cache.root() / name).mkdir(parents=True)
    assert [entry.name for entry in cache.entries()] == ["kernels/lab"]
    cache.clean()
    assert cache.entries() == []
    assert (cache.root() / "other/thing").exists()


def test_cache_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LackingError, match="cannot be written"), cache.explained():
        with cache.making(cache.root() / "thing"):
            pass
