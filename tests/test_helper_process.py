# SPDX-License-Identifier: GPL-2.0-only
import contextlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.helper_process import HelperProcess
from tests.process import adopted_orphans, as_nobody, children


class Answer(Exception):
    """What a helper process found."""


def writer(file: Path) -> Callable[[bytes], None]:
    """Return a function that writes its argument to a file."""

    def write(data: bytes) -> None:
        file.write_bytes(b"got " + data)

    return write


def test_finish_sends_data_and_waits(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert HelperProcess(writer(file)).finish(b"data") is None
    assert file.read_bytes() == b"got data"


def test_finish_returns_the_error(tmp_path: Path) -> None:
    error = HelperProcess(writer(tmp_path / "no/such")).finish()
    assert error is not None
    assert "No such file or directory" in error


def test_it_works_after_its_creator_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with adopted_orphans():
        if not (child := os.fork()):
            HelperProcess(writer(file))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
    assert file.read_bytes() == b"got "


def test_a_killed_helper_process_is_an_error() -> None:
    with adopted_orphans():
        process = HelperProcess(lambda _: None)
        [pid] = children()
        os.kill(pid, signal.SIGKILL)
        assert process.finish(b"data") == "its helper process was killed"


def test_signals_do_not_reach_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with adopted_orphans():
        process = HelperProcess(writer(file))
        [pid] = children()
        assert os.getsid(pid) != os.getsid(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, number)
        assert process.finish(b"data") is None
    assert file.read_bytes() == b"got data"


def test_it_keeps_only_the_given_descriptors(tmp_path: Path) -> None:
    def answer(_: bytes) -> None:
        targets = (fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.exists())
        raise Answer(" ".join(sorted(map(str, targets))))

    with (tmp_path / "kept").open("w") as kept, (tmp_path / "other").open("w"):
        found = HelperProcess(answer, [kept.fileno()]).finish()
    assert found is not None
    names = [name for name in found.split() if not name.startswith(("pipe:", "/proc/"))]
    assert names == [*["/dev/null"] * 3, str(tmp_path / "kept")]


def test_its_creator_has_no_more_children() -> None:
    before = children()
    process = HelperProcess(lambda _: None)
    assert children() == before
    process.finish()


def test_no_more_processes() -> None:
    """The first fork still succeeds, the second one does not."""

    def one_more() -> str:
        mine = [1 for task in Path("/proc").glob("[0-9]*/task/*") if _is_mine(task)]
        resource.setrlimit(resource.RLIMIT_NPROC, (len(mine) + 1,) * 2)
        with pytest.raises(LackingError, match="cannot fork a helper process"):
            HelperProcess(lambda _: None)
        return "no more"

    # Processes of other tests end meanwhile, but not this user's.
    assert as_nobody(one_more, uid=(1 << 24) + os.getpid()) == "no more"


def _is_mine(path: Path) -> bool:
    with contextlib.suppress(OSError):  # it has ended
        return path.stat().st_uid == os.getuid()
    return False
