# SPDX-License-Identifier: GPL-2.0-only
import os
from collections.abc import Iterator

import pytest

from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.peek import peek, peek_some, poke


def test_what_is_poked_is_peeked() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert poke(memory.hva + 5, b"hello")
        assert peek(memory.hva + 4, 7) == b"\0hello\0"


@pytest.mark.parametrize("prot", [PROT_NONE, PROT_READ])
def test_what_may_not_be_written_is_not(prot: int) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.protect(prot)
        assert not poke(memory.hva, b"x")
        assert peek(memory.hva, 1) == (b"\0" if prot else None)


def test_a_hole_is_an_answer() -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.unmap(at=PAGE_SIZE)
        assert peek(memory.hva + PAGE_SIZE - 1, 2) is None
        assert peek(memory.hva + PAGE_SIZE - 1, 1) == b"\0"


def test_so_is_what_lies_beyond_the_end_of_a_file() -> None:
    fd = os.memfd_create("short")
    try:
        os.ftruncate(fd, PAGE_SIZE)
        with Mapping.of_file(fd, 2 * PAGE_SIZE) as memory:
            assert peek(memory.hva + PAGE_SIZE, 1) is None
    finally:
        os.close(fd)


@pytest.fixture
def two_pages() -> Iterator[Mapping]:
    """Two pages of memory, and a hole after them."""
    with Mapping.anonymous(3 * PAGE_SIZE) as memory:
        memory.write(0, b"ab" * PAGE_SIZE)
        memory.unmap(at=2 * PAGE_SIZE)
        yield memory


def test_some_is_what_comes_before_a_hole(two_pages: Mapping) -> None:
    assert peek_some(two_pages.hva, 4) == b"abab"
    assert peek_some(two_pages.hva + 2 * PAGE_SIZE - 6, 100) == b"ababab"


@pytest.mark.parametrize("hva", [0, 8, (1 << 64) - 4, 1 << 63, 1 << 64])
def test_a_garbage_pointer_reads_as_nothing(hva: int) -> None:
    assert peek_some(hva, 32) == b""


def test_nothing_is_asked_for() -> None:
    assert peek_some(PAGE_SIZE, 0) == b""


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert peek_some(0x1000, 8, pid=2**22 + 1) == b""


def test_a_length_beyond_reason_is_cut(two_pages: Mapping) -> None:
    assert len(peek_some(two_pages.hva, 1 << 60)) == 2 * PAGE_SIZE
