# SPDX-License-Identifier: GPL-2.0-only
"""A damaged root file system is created again."""

import os
import shutil
from pathlib import Path

import pytest

from pyvmm.lab import cache, host, userland
from pyvmm.lab.apt import no_progress


def test_damaged_root_file_system(
    emulated: host.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if userland.busybox(no_progress) != emulated.busybox:
        pytest.skip("the lab does not use the cached root file system")
    trees = cache.root() / "trees"
    shutil.copytree(trees, tmp_path / "pyvmm/trees", symlinks=True, ignore=_is_compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for copy, original in (
        (userland.image(no_progress), emulated.image),
        (userland.busybox(no_progress), emulated.busybox),
    ):
        assert copy.read_bytes() == original.read_bytes()
        for size in (0, 100_000):
            os.truncate(copy, size)
            again = userland.image(no_progress), userland.busybox(no_progress)
            assert copy in again
            assert copy.stat().st_size == original.stat().st_size


def _is_compiler(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if "builder-" in name]
