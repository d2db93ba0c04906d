# SPDX-License-Identifier: GPL-2.0-only
"""Files and standard streams for output; an error of a write names the file."""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

STDOUT = "stdout"


class OutputError(OSError):
    """A write to an output file failed; its text is one line with the file's name."""

    def __str__(self) -> str:
        """Return what failed and why."""
        why = "it is closed" if self.errno == errno.EBADF else self.strerror
        return f"cannot write to {self.filename}: {why}"


class OutputFile(io.FileIO):
    """A file whose failed writes raise `OutputError`."""

    def __init__(self, file: str, name: str) -> None:
        """Create or truncate the file at a path; `name` is what error messages call it."""
        super().__init__(file, "w")
        self._name = name

    def write(self, data: object) -> int | None:  # type: ignore[override]
        """Write `data` and return the number of bytes written. Raises `OutputError`."""
        with _errors_name(self._name):
            return super().write(data)  # type: ignore[arg-type]


class _Stdout(io.BufferedWriter):
    """Stdout whose failed writes raise `OutputError`.

    They are converted above the buffer: a signal handler that raises in a raw `write` in Python,
    after the system call, would make the buffer write the same data again.
    """

    def __init__(self) -> None:
        super().__init__(io.FileIO(1, "w", closefd=False))

    def write(self, data: object) -> int:
        with _errors_name(STDOUT):
            return super().write(data)  # type: ignore[arg-type]

    def flush(self) -> None:
        with _errors_name(STDOUT):
            super().flush()


@contextlib.contextmanager
def _errors_name(name: str) -> Iterator[None]:
    """Turn an `OSError` of the block into an `OutputError` that names the file."""
    try:
        yield
    except OSError as error:
        raise OutputError(error.errno, error.strerror, name) from None


def prepare_standard_streams() -> None:
    """Make stdin, stdout and stderr usable, whichever of them is closed.

    Otherwise the next file that is opened would become stdout, and children would inherit that.
    Reading a closed stdin returns nothing, output to a closed stderr is lost, and output to stdout
    raises `OutputError`. Stdout escapes characters that its encoding lacks.
    """
    # A write to a descriptor that is open for reading fails with EBADF, as on a closed one.
    for fd, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, flags)
            os.dup2(null, fd)  # also makes it inheritable
            if null != fd:
                os.close(null)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    if sys.stdout is sys.__stdout__:  # not where a test captures it, nor a second time
        sys.stdout = _reopen(sys.__stdout__)


def _reopen(stdout: TextIO | None) -> TextIO:
    """Return a stream for descriptor 1 with the encoding and buffering of `stdout`."""
    by_line = False
    if isinstance(stdout, io.TextIOWrapper):
        stdout.flush()
        by_line = stdout.line_buffering or stdout.write_through
    return io.TextIOWrapper(
        _Stdout(),
        encoding=stdout.encoding if stdout else None,
        errors="backslashreplace",
        line_buffering=by_line,
    )


def is_blocked(stream: TextIO, patience: int) -> bool:
    """Return True if `stream` accepts no data within `patience` ms: nobody reads the pipe."""
    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    return not poll.poll(patience)


def discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, so that the flush at exit cannot fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
