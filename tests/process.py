# SPDX-License-Identifier: GPL-2.0-only
"""Helpers around this process: open descriptors, unprivileged children, exits and rlimits."""

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pyvmm import libc

NOBODY = 65534
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def open_fds() -> set[str]:
    """Return this process's open file descriptors, each as its number and its target."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            found.add(f"{fd.name} {fd.readlink()}")
    return found


class Footprint(NamedTuple):
    """The descriptors, mappings, threads and resident pages of this process."""

    descriptors: int
    mappings: int
    threads: int
    resident: int


def footprint() -> Footprint:
    return Footprint(
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        mappings=Path("/proc/self/maps").read_text().count("\n"),
        threads=len(list(Path("/proc/self/task").iterdir())),
        resident=int(Path("/proc/self/statm").read_text().split()[1]),
    )


def in_child(function: Callable[[], str]) -> str:
    """Call `function` in a child process and return its result, or the repr of its exception."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = function()
        except BaseException as error:
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return text or f"wait status {status:#x}"


def as_nobody(function: Callable[[], str], uid: int = NOBODY) -> str:
    """Call `function` in an unprivileged child process, of user `uid`, and return its result."""

    def unprivileged() -> str:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        return function()

    return in_child(unprivileged)


@contextlib.contextmanager
def exits_with(status: int) -> Iterator[None]:
    """Check that the block ends the process with exit status `status`."""
    with pytest.raises(SystemExit) as ending:
        yield
    assert ending.value.code == status


@contextlib.contextmanager
def soft_limit(what: int, soft: int) -> Iterator[None]:
    """Lower the soft limit of `what`, a ``resource.RLIMIT_*``, within the block."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@contextlib.contextmanager
def adopted_orphans() -> Iterator[None]:
    """Become the parent of the orphans that the block leaves, and wait until they have ended."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
        deadline = time.monotonic() + 60
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                assert time.monotonic() < deadline, f"still running: {children()}"
                time.sleep(0 if pid else 0.02)
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children() -> list[int]:
    """Return the process IDs of this process's children.

    Not from /proc/PID/task/TID/children, which needs CONFIG_PROC_CHILDREN.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = path.read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.append(int(path.parent.name))
    return found
