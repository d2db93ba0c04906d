# SPDX-License-Identifier: GPL-2.0-only
"""Disassembly by capstone."""

import sys

import pytest

from pyvmm.arch.arm64.a64.disassemble import disassemble
from pyvmm.errors import LackingError


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0xF9400020, "ldr x0, [x1]"),
        (0xA8C10440, "ldp x0, x1, [x2], #0x10"),
        (0xF85F8420, "ldr x0, [x1], #-0x8"),
        (0x927FF820, "and x0, x1, #0xfffffffffffffffe"),
        (0x58000040, "ldr x0, #0x8008"),
        (0xD503201F, "nop"),
        (0x02000000, ".inst 0x02000000"),
    ],
)
def test_disassemble(word: int, text: str) -> None:
    assert disassemble(word, 0x8000) == text


def test_without_capstone_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    with pytest.raises(LackingError, match=r"pyvmm\[decode\]"):
        disassemble(0xD503201F)
