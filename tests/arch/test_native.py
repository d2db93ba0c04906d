# SPDX-License-Identifier: GPL-2.0-only
import platform

import pytest

from pyvmm.arch.native import native
from pyvmm.arch.page_tables import MemoryType
from pyvmm.errors import LackingError


@pytest.mark.parametrize(("machine", "name"), [("aarch64", "arm64"), ("x86_64", "x86_64")])
def test_each_machine_has_its_architecture(
    monkeypatch: pytest.MonkeyPatch, machine: str, name: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    arch = native()
    assert name == arch.NAME
    assert arch.MEMORY_TYPES.keys() == set(MemoryType)


def test_another_machine_is_pointed_to_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(LackingError, match=r"not on riscv64: use python -m pyvmm lab run"):
        native()
