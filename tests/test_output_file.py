# SPDX-License-Identifier: GPL-2.0-only
"""Output files; tests/cli/test_init.py tests the standard streams."""

import errno
import subprocess
import sys
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


# Ends in the middle of a write: the reader sends a signal as soon as it has the data.
INTERRUPTED = """
import signal
from pyvmm.errors import as_command
with as_command():
    print("once", flush=True)
    while True:
        signal.pause()
"""


def test_a_signal_during_a_write_does_not_repeat_it() -> None:
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "once\n"
            process.terminate()
            assert process.stdout.read() == ""
