# SPDX-License-Identifier: GPL-2.0-only
"""Loading a kernel by the arm64 boot protocol (Documentation/arch/arm64/booting.rst)."""

from dataclasses import dataclass

from pyvmm.errors import UsageError
from pyvmm.kernel_image import KernelImage
from pyvmm.memory import round_up
from pyvmm.units import size

_BLOCK = 2 << 20  # alignment of the image, and of what follows it
_TREE_SIZE = 2 << 20  # the largest that a kernel accepts


@dataclass(frozen=True)
class LoadLayout:
    """The byte offsets in RAM of the kernel, the initrd and the device tree; `end` is after it."""

    kernel: int
    initrd: int
    tree: int
    end: int


def lay_out(kernel: KernelImage, initrd_size: int, ram: int) -> LoadLayout:
    """Place everything in `ram` bytes, each on its own 2 MiB. Raises `UsageError` if too large."""
    initrd = round_up(kernel.text_offset + kernel.memory_size, _BLOCK)
    tree = round_up(initrd + initrd_size, _BLOCK)
    end = tree + _TREE_SIZE
    if end > ram:
        raise UsageError(
            f"the kernel ({size(kernel.memory_size)}) and the initrd ({size(initrd_size)}) need "
            f"{size(end)} of RAM and the guest has {size(ram)}: pass --ram {-(-end >> 20) * 2}M"
        )
    return LoadLayout(kernel.text_offset, initrd, tree, end)
