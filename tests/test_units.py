# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.units import size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes (0x200)"),
        (4096, "4 KiB (0x1000)"),
        (4097, "4097 bytes (0x1001)"),
        (3 << 30, "3 GiB (0xc0000000)"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text
