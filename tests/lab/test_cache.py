# SPDX-License-Identifier: GPL-2.0-only
"""Files and directories in the cache are complete, even if their builder was killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import cache
from tests.lab.damage import DAMAGE as FILE_DAMAGE
from tests.process import as_nobody

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


def _replace_by_link(file: Path) -> None:
    file.rename(file.with_name("moved"))
    file.symlink_to("moved")


DAMAGE = {**FILE_DAMAGE, "link": _replace_by_link}


def _make_file(path: Path) -> None:
    path.write_text("content")


def _make_tree(path: Path) -> None:
    (path / "some/empty").mkdir(parents=True)
    (path / "some/file").write_text("content")
    (path / "some/link").symlink_to("file")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(
    ("make", "file"),
    [
        (_make_file, "thing"),
        (_make_file, ".record-thing"),
        (_make_tree, "thing/some/file"),
        (_make_tree, "thing/some/link"),
        (_make_tree, ".record-thing"),
    ],
    ids=["file", "record of file", "file in tree", "link in tree", "record of tree"],
)
def test_damaged_path_is_created_again(
    make: Callable[[Path], None], file: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "cache/thing"
    with cache.create(path) as partial:
        assert partial is not None
        make(partial)
    damage(path.parent / file)
    with cache.create(path) as partial:
        if partial is not None:
            make(partial)
    found = path / "some/link" if path.is_dir() else path
    assert found.read_text() == "content"
    assert cache.is_intact(path)


def test_directory_missing_in_a_tree(tmp_path: Path) -> None:
    with cache.create(tmp_path / "thing") as partial:
        assert partial is not None
        _make_tree(partial)
    (tmp_path / "thing/some/empty").rmdir()
    assert not cache.is_intact(tmp_path / "thing")


def test_copied_cache_is_intact(tmp_path: Path) -> None:
    with cache.create(tmp_path / "cache/thing") as partial:
        assert partial is not None
        _make_tree(partial)
    shutil.copytree(
        tmp_path / "cache", tmp_path / "copy", symlinks=True, copy_function=shutil.copyfile
    )
    before = (tmp_path / "copy/.record-thing").read_text()
    assert cache.is_intact(tmp_path / "copy/thing")
    after = (tmp_path / "copy/.record-thing").read_text()
    assert before != after  # it has the new mtime: the next check reads no file


def test_path_of_an_earlier_version_gets_a_record(tmp_path: Path) -> None:
    (tmp_path / "thing").write_text("content")
    with cache.create(tmp_path / "thing") as partial:
        assert partial is None
    (tmp_path / "thing").write_text("damaged")
    assert not cache.is_intact(tmp_path / "thing")


@pytest.mark.parametrize("text", ['{"": []}', '{"": [0]}', "[]", "[" * 100_000, '{"\\u0000": ""}'])
def test_record_that_is_no_record(text: str, tmp_path: Path) -> None:
    (tmp_path / "thing").touch()
    (tmp_path / ".record-thing").write_text(text)
    assert not cache.is_intact(tmp_path / "thing")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_cache_of_another_user_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "private"))
    (tmp_path / "private").mkdir(mode=0o700)

    def create() -> str:
        try:
            with cache.convert_errors(), cache.create(cache.root() / "thing"):
                return "created"
        except LackingError as error:
            return str(error)

    assert "cannot be written: fix its permissions" in as_nobody(create)


def test_complete_read_only_cache_is_used(tmp_path: Path) -> None:
    with cache.create(tmp_path / "cache/thing") as partial:
        assert partial is not None
        _make_tree(partial)
    mapped = ["--map-root-user"] if os.geteuid() else []
    script = 'mount --bind -o ro "$1" "$1"; mount -o remount,bind,ro "$1"; "$2" -c "$3" "$1/thing"'
    argv = ["unshare", "--mount", *mapped, "sh", "-c", script, "sh", str(tmp_path / "cache")]
    done = subprocess.run(
        [*argv, sys.executable, BUILDER], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
