# SPDX-License-Identifier: GPL-2.0-only
"""What this process holds, and what another user may do in its place."""

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def open_fds() -> set[str]:
    """This process's open file descriptors, by number and what they lead to."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists
            found.add(f"{fd.name} {fd.readlink()}")
    return found


def as_nobody(say: Callable[[], str]) -> str:
    """What `say` returns in a child process that has no privileges."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.write(writer, say().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@contextlib.contextmanager
def ends(status: int) -> Iterator[None]:
    """The block ends the process, with this exit status."""
    with pytest.raises(SystemExit) as ending:
        yield
    assert ending.value.code == status


@contextlib.contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    """setrlimit(2) `what`, a ``resource.RLIMIT_*``, for a while."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)
