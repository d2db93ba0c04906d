# SPDX-License-Identifier: GPL-2.0-only
"""Run commands in the directory of the compilers, if the cache has it."""

from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab import build_chroot, package_tree
from pyvmm.lab.apt import no_progress


@pytest.fixture(scope="module")
def root() -> Path:
    try:
        return package_tree.build_root(no_progress)
    except LackingError as error:
        pytest.skip(f"cannot set up the compilers: {error}")


def test_status_and_output(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the source\n")
    done = build_chroot.run(root, tmp_path, tmp_path, "sh", "-c", "cat /source/file; pwd; exit 3")
    assert (done.returncode, done.stdout) == (3, "in the source\n/\n")


def test_an_exception_ends_the_command(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        with build_chroot.popen(root, tmp_path, tmp_path, "sleep", "1000") as process:
            raise SystemExit
    assert process.returncode


def test_error_line() -> None:
    assert build_chroot.error_line("one\nx.c:1: error: no\nlast\n") == "x.c:1: error: no"
    assert build_chroot.error_line("one\nlast\n\n") == "last"
