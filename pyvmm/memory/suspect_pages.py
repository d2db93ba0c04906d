# SPDX-License-Identifier: GPL-2.0-only
"""The pages of a VMA that a guest may be unable to access, although its permissions allow it."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from pyvmm.memory import backing_file, pagemap
from pyvmm.memory.mapping import PAGE_SIZE, round_up
from pyvmm.memory.pagemap import PageState
from pyvmm.memory.procmap import MapsEntry
from pyvmm.memory.vma import Vma

_SEARCHED = 1 << 30  # bytes of a VMA: pagemap has 8 bytes for each page


def _missing(state: PageState) -> bool:
    return not (state.present or state.swapped)


# Which pages to look for in a VMA with one of these VmFlags.
_SIGNS: tuple[tuple[set[str], Callable[[PageState], bool]], ...] = (
    ({"gu"}, lambda state: state.guard),
    ({"um", "ui", "ht"}, _missing),
    ({"uw", "ur"}, lambda state: state.uffd),
)


def suspect_pages(vma: Vma, pid: int | str = "self") -> Iterator[int]:
    """Yield the HVA of the first such page of each kind, in the first GiB of the VMA.

    A kind of page that the kernel does not show to this process is left out.
    """
    size = min(vma.end - vma.start, _SEARCHED)
    for flags, is_sign in _SIGNS:
        if flags & vma.flags:
            with suppress(OSError):
                yield from pagemap.first_page(vma.start, size, is_sign, pid)
    with suppress(OSError):
        yield from _of_file(vma, pid)


def _of_file(vma: Vma, pid: int | str) -> Iterator[int]:
    """Yield the first page beyond the end of the file, and the first hole of a full file system."""
    area = MapsEntry(vma.start, vma.end, vma.perms, vma.offset, vma.path)
    if (file := backing_file.of_mapping(area, vma.start, pid)) is None:
        return
    end = vma.start + round_up(max(file.size - vma.offset, 0))
    if end < vma.end:
        yield end
    if file.full and file.next_hole is not None:
        hole = vma.start + file.next_hole // PAGE_SIZE * PAGE_SIZE - vma.offset
        if hole < min(end, vma.end):
            yield hole
