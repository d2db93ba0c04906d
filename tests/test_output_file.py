# SPDX-License-Identifier: GPL-2.0-only
"""Output files; tests/cli/test_init.py tests the standard streams."""

import errno
from pathlib import Path

import pytest

from pyvmm.output_file import OutputError, OutputFile


def test_an_output_file_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a longer text")
    with OutputFile(str(path), "the file") as file:
        file.write(b"text")
    assert path.read_text() == "text"


def test_an_error_of_a_write_names_the_file() -> None:
    with (
        OutputFile("/dev/full", "the log") as file,
        pytest.raises(OutputError, match="cannot write to the log: No space left") as failed,
    ):
        file.write(b"text")
    assert failed.value.errno == errno.ENOSPC
