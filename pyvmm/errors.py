# SPDX-License-Identifier: GPL-2.0-only
"""Exit statuses, the exceptions that carry them, and how an exception ends a command.

The text of each exception is one line: what is wrong, then what to do about it.
"""

import contextlib
import errno
import signal
import sys
from collections.abc import Iterator
from enum import IntEnum
from types import FrameType
from typing import NoReturn

from pyvmm.output_file import STDOUT, OutputError, discard, prepare_standard_streams


class Status(IntEnum):
    """Exit status of every ``pyvmm`` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    LACKING = 3
    SKIPPED = 4  # KSFT_SKIP of the kernel's selftests
    INTERRUPTED = 130


class PyvmmError(Exception):
    """The guest or the requested check failed."""

    status = Status.FAILED


class UsageError(PyvmmError):
    """The command line or an argument is wrong: an unknown name, a malformed address."""

    status = Status.USAGE


class LackingError(PyvmmError):
    """A device node, a permission or a program is missing on this machine."""

    status = Status.LACKING


class SkippedError(PyvmmError):
    """A feature is missing from this kernel or CPU."""

    status = Status.SKIPPED


@contextlib.contextmanager
def as_command() -> Iterator[None]:
    """Turn an exception into one line on stderr and an exit status, by raising `SystemExit`.

    Use it as a context manager, or as a decorator of a main function (``@as_command()``). SIGTERM
    and SIGHUP unwind the stack as Ctrl-C does; nohup(1) still ignores SIGHUP. A closed
    standard stream is not an exception.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        prepare_standard_streams()
        yield
        sys.stdout.flush()  # now, while its errors are still handled
    except PyvmmError as error:
        _end(error.status, f"error: {error}")
    except KeyboardInterrupt:
        _end(Status.INTERRUPTED, "interrupted")
    except OutputError as error:
        if error.filename == STDOUT:
            discard(sys.stdout)
            if error.errno == errno.EPIPE:  # the reader closed the pipe: `pyvmm caps | head`
                sys.exit(Status.DONE)
        _end(Status.LACKING, f"error: {error}")
    except OSError as error:  # a directory that was removed
        where = f"{error.filename}: " if error.filename else ""
        _end(Status.LACKING, f"error: {where}{error.strerror or error}")
    finally:
        try:
            sys.stderr.flush()
        except OSError:
            discard(sys.stderr)


def _end(status: int, text: str) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"pyvmm: {text}", file=sys.stderr)
    sys.exit(status)


def _terminate(signum: int, frame: FrameType | None) -> None:
    # Unwind the stack as Ctrl-C does, so that every context manager cleans up.
    raise SystemExit(128 + signum)
