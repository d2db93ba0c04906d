# SPDX-License-Identifier: GPL-2.0-only
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.record import Lines, Recording
from tests.trace.test_filters import ALL


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    with path.open("w") as file:
        lines = Lines(file, ["qemu", "-accel", "kvm"])
        for event in ALL:
            lines.take(event)
    return path


def test_a_recording_comes_back(recorded: Path) -> None:
    recording = Recording.open(recorded)
    assert recording.header["command"] == ["qemu", "-accel", "kvm"]
    assert list(recording) == ALL


def test_one_that_was_cut_off_ends_there(recorded: Path) -> None:
    recorded.write_text(recorded.read_text()[:-10])
    assert list(Recording.open(recorded)) == ALL[:-1]


def test_rubbish_in_the_middle_is_refused_with_its_line(recorded: Path) -> None:
    lines = recorded.read_text().splitlines(keepends=True)
    recorded.write_text("".join([*lines[:2], "what?\n", *lines[2:]]))
    with pytest.raises(UsageError, match="line 3, is no event"):
        list(Recording.open(recorded))


@pytest.mark.parametrize("content", ["", "{}\n", "text\n", '{"schema": "pyvmm.caps/1"}\n', "\x00"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other"
    path.write_text(content)
    with pytest.raises(UsageError, match="is no trace"):
        Recording.open(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Recording.open(tmp_path / "none")
