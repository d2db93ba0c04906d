# SPDX-License-Identifier: GPL-2.0-only
"""What a command's exit status means, the exceptions that carry it, and how they end a process.

The text of each exception is one line: what is wrong, and what to do about it.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from enum import IntEnum
from types import FrameType
from typing import NoReturn


class Status(IntEnum):
    """Exit status of every ``pyvmm`` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    LACKING = 3
    SKIPPED = 4  # KSFT_SKIP of the kernel's selftests
    INTERRUPTED = 130


class PyvmmError(Exception):
    """The guest, or the check that was asked for, failed."""

    status = Status.FAILED


class UsageError(PyvmmError):
    """The command was given something that cannot be: an unknown name, a malformed address."""

    status = Status.USAGE


class LackingError(PyvmmError):
    """The machine lacks something: a device node, a permission, a program."""

    status = Status.LACKING


class SkippedError(PyvmmError):
    """This kernel or CPU does not offer what was asked for."""

    status = Status.SKIPPED


@contextlib.contextmanager
def as_command() -> Iterator[None]:
    """End the process as a command does: an exit status, and one line on stderr where it failed.

    Goes around a script's work, or before its main function (``@as_command()``), which then raises
    `SystemExit` for what is an error.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
        sys.stdout.flush()  # here, where a reader that has gone is taken care of
    except PyvmmError as error:
        _end(error.status, f"error: {error}")
    except KeyboardInterrupt:
        _end(Status.INTERRUPTED, "interrupted")
    except BrokenPipeError:  # the reader has gone: `pyvmm caps | head`
        _drop_output()
        sys.exit(Status.DONE)
    except OSError as error:  # a full disk behind stdout, a directory that went meanwhile
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        _end(Status.LACKING, f"error: {where}{error.strerror or error}")


def _end(status: int, text: str) -> NoReturn:
    print(f"pyvmm: {text}", file=sys.stderr)
    sys.exit(status)


def _drop_output() -> None:
    """Let nothing more be said on stdout, where what is still buffered would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(signum: int, frame: FrameType | None) -> None:
    # SIGTERM unwinds the stack as Ctrl-C does, so that every context manager cleans up.
    raise SystemExit(128 + signum)
