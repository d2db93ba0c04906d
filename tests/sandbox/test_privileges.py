# SPDX-License-Identifier: GPL-2.0-only
import os
import resource
from pathlib import Path

import pytest

from pyvmm.sandbox.privileges import disable_core_dumps, drop_capabilities
from tests.process import in_child


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have capabilities: pytest --lab")
def test_root_without_capabilities(tmp_path: Path) -> None:
    def change_root() -> str:
        os.chroot("/")
        drop_capabilities()
        os.chroot("/")
        return "allowed"

    assert "Operation not permitted" in in_child(change_root)


def test_capabilities_do_not_come_back() -> None:
    def status() -> str:
        drop_capabilities()
        return Path("/proc/self/status").read_text()

    fields = dict(line.split(":\t", 1) for line in in_child(status).splitlines())
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


def test_the_limit_of_core_dumps_is_not_raised_again() -> None:
    def raise_limit() -> str:
        drop_capabilities()
        disable_core_dumps()
        resource.setrlimit(resource.RLIMIT_CORE, (2, 2))
        return "allowed"

    assert "not allowed to raise maximum limit" in in_child(raise_limit)
