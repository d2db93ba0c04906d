# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.errors import UsageError
from pyvmm.kernel_image import KernelImage
from pyvmm.linux.loader import LoadLayout, lay_out

MIB = 1 << 20


def test_each_part_has_its_own_block() -> None:
    kernel = KernelImage(b"", text_offset=0, memory_size=3 * MIB)
    assert lay_out(kernel, 1, 16 * MIB) == LoadLayout(0, 4 * MIB, 6 * MIB, 8 * MIB)


def test_text_offset() -> None:
    kernel = KernelImage(b"", text_offset=0x8_0000, memory_size=2 * MIB)
    assert lay_out(kernel, 0, 16 * MIB) == LoadLayout(0x8_0000, 4 * MIB, 4 * MIB, 6 * MIB)


@pytest.mark.parametrize(("ram", "fits"), [(8 * MIB, True), (7 * MIB, False)])
def test_ram_that_is_too_small(ram: int, fits: bool) -> None:
    kernel = KernelImage(b"", text_offset=0, memory_size=3 * MIB)
    if fits:
        lay_out(kernel, 1, ram)
        return
    with pytest.raises(UsageError, match=r"and the guest has 7 MiB \(0x700000\): pass --ram 16M"):
        lay_out(kernel, 1, ram)
