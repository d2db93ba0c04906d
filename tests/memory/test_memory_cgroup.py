# SPDX-License-Identifier: GPL-2.0-only
import os
from pathlib import Path

import pytest

from pyvmm.memory.memory_cgroup import MemoryLimit, group_of, memory_limits, mount_point


def test_the_limit_of_a_group() -> None:
    mount = mount_point()
    if mount is None or not (mount / "cgroup.controllers").read_text().count("memory"):
        pytest.skip("needs cgroup2 with the memory controller")
    before, group = group_of("self"), mount / f"pyvmm-test-{os.getpid()}"
    assert before is not None
    try:
        (mount / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a control group: {error}; run it as root")
    try:
        (group / "memory.max").write_text(str(1 << 40))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        [limit] = memory_limits()
        assert limit == MemoryLimit(f"/{group.name}", 1 << 40, 0)
    finally:
        (Path(f"{mount}{before}") / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def test_unknown_process() -> None:
    if mount_point() is None:
        pytest.skip("needs cgroup2")
    with pytest.raises(FileNotFoundError):
        memory_limits(2**22 + 1)
