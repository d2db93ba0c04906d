# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest

from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.trace.memory import read

PID = os.getpid()


@pytest.fixture
def two_pages() -> Mapping:
    """Two pages of memory, and a hole after them."""
    memory = Mapping(3 * PAGE_SIZE)
    memory.place_anonymous(at=0, size=2 * PAGE_SIZE)
    memory.write(0, b"ab" * PAGE_SIZE)
    return memory


def test_what_is_there_is_read(two_pages: Mapping) -> None:
    assert read(PID, two_pages.hva, 4) == b"abab"


def test_a_read_stops_at_a_hole(two_pages: Mapping) -> None:
    assert read(PID, two_pages.hva + 2 * PAGE_SIZE - 6, 100) == b"ababab"


@pytest.mark.parametrize("address", [0, 8, (1 << 64) - 4, 1 << 63])
def test_a_garbage_pointer_reads_as_nothing(address: int) -> None:
    assert read(PID, address, 32) == b""


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert read(2**22 + 1, 0x1000, 8) == b""


def test_a_length_beyond_reason_is_cut(two_pages: Mapping) -> None:
    assert len(read(PID, two_pages.hva, 1 << 60)) == 2 * PAGE_SIZE
