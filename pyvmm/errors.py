# SPDX-License-Identifier: GPL-2.0-only
"""What a command's exit status means, and the exceptions that carry it.

The text of each exception is one line: what is wrong, and what to do about it.
"""

from enum import IntEnum


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
