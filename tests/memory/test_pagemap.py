# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest

from pyvmm import libc
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.pagemap import PageState, first_page, page_state

MADV_GUARD_INSTALL = 102


def test_a_page_is_present_after_a_write() -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        assert page_state(memory.hva) == PageState(page_state(memory.hva).entry & ~(1 << 63))
        memory.write(0, b"x")
        assert page_state(memory.hva + 1).present
        assert not page_state(memory.hva + PAGE_SIZE).present


def test_a_guard_region() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        try:
            libc.madvise(memory.hva, PAGE_SIZE, MADV_GUARD_INSTALL)
        except OSError:
            pytest.skip("this kernel has no MADV_GUARD_INSTALL: it needs Linux 6.13")
        state = page_state(memory.hva)
        assert state.swapped
        if os.geteuid() and not state.guard:
            pytest.skip("Linux before 6.15 shows guard regions to root only")
        assert (state.guard, state.poison_marker) == (True, False)


def test_the_first_page() -> None:
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        memory.write(2 * PAGE_SIZE, bytes(2 * PAGE_SIZE))
        found = first_page(memory.hva, memory.size, lambda state: state.present)
        assert list(found) == [memory.hva + 2 * PAGE_SIZE]
        assert not list(first_page(memory.hva, memory.size, lambda state: state.guard))


@pytest.mark.parametrize(
    ("entry", "marker"),
    [
        (0, False),
        (1 << 63 | 0x1234, False),
        (1 << 62 | 2 << 5 | 31, True),
        (1 << 62 | 0x1234 << 5 | 25, False),  # SWP_HWPOISON with a PFN
        (1 << 62, None),
        (1 << 62 | 1 << 58, False),
    ],
)
def test_poison_markers(entry: int, marker: bool | None) -> None:
    assert PageState(entry).poison_marker is marker


def test_unknown_process() -> None:
    with pytest.raises(FileNotFoundError):
        page_state(0, 2**22 + 1)
