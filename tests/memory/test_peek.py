# SPDX-License-Identifier: GPL-2.0-only
import os
from collections.abc import Iterator

import pytest

from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping
from pyvmm.memory.peek import peek, peek_prefix, poke


def test_poke_then_peek() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert poke(memory.hva + 5, b"hello")
        assert peek(memory.hva + 4, 7) == b"\0hello\0"


@pytest.mark.parametrize("prot", [PROT_NONE, PROT_READ])
def test_poke_fails_on_protected_memory(prot: int) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.protect(prot)
        assert not poke(memory.hva, b"x")
        assert peek(memory.hva, 1) == (b"\0" if prot else None)


def test_peek_fails_on_unmapped_memory() -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.unmap(at=PAGE_SIZE)
        assert peek(memory.hva + PAGE_SIZE - 1, 2) is None
        assert peek(memory.hva + PAGE_SIZE - 1, 1) == b"\0"


def test_peek_fails_beyond_the_end_of_the_file() -> None:
    fd = os.memfd_create("short")
    try:
        os.ftruncate(fd, PAGE_SIZE)
        with Mapping.of_file(fd, 2 * PAGE_SIZE) as memory:
            assert peek(memory.hva + PAGE_SIZE, 1) is None
    finally:
        os.close(fd)


@pytest.fixture
def two_pages() -> Iterator[Mapping]:
    """Yield a mapping of two pages and an unmapped third page."""
    with Mapping.anonymous(3 * PAGE_SIZE) as memory:
        memory.write(0, b"ab" * PAGE_SIZE)
        memory.unmap(at=2 * PAGE_SIZE)
        yield memory


def test_peek_prefix_ends_at_an_unmapped_page(two_pages: Mapping) -> None:
    assert peek_prefix(two_pages.hva, 4) == b"abab"
    assert peek_prefix(two_pages.hva + 2 * PAGE_SIZE - 6, 100) == b"ababab"


@pytest.mark.parametrize("hva", [0, 8, (1 << 64) - 4, 1 << 63, 1 << 64])
def test_peek_prefix_of_an_invalid_pointer_is_empty(hva: int) -> None:
    assert peek_prefix(hva, 32) == b""


def test_peek_prefix_of_no_bytes() -> None:
    assert peek_prefix(PAGE_SIZE, 0) == b""


def test_peek_prefix_of_an_unknown_process_is_empty() -> None:
    assert peek_prefix(0x1000, 8, pid=2**22 + 1) == b""


def test_peek_prefix_of_a_huge_size(two_pages: Mapping) -> None:
    assert len(peek_prefix(two_pages.hva, 1 << 60)) == 2 * PAGE_SIZE
