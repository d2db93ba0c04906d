# SPDX-License-Identifier: GPL-2.0-only
import io

import pytest

from pyvmm.machine.console import Console


@pytest.mark.parametrize(
    ("offset", "value", "printed"),
    [(0, 0x41, b"A"), (0, 0x141, b"A"), (0, 0, b"\0"), (4, 0x41, b""), (7, 0x41, b"")],
    ids=["a letter", "more than a byte", "zero", "another register", "the last register"],
)
def test_write_to_offset_0_prints_its_low_byte(offset: int, value: int, printed: bytes) -> None:
    output = io.BytesIO()
    Console(output).write(offset, 1, value)
    assert output.getvalue() == printed


@pytest.mark.parametrize("offset", [0, 5, 0x18])
def test_read_returns_0(offset: int) -> None:
    assert Console(io.BytesIO()).read(offset, 4) == 0
