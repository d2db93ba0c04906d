# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest

from pyvmm.memory import NONE, PAGE_SIZE, READ, Mapping
from pyvmm.memory.peek import peek, poke


def test_what_is_poked_is_peeked() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert poke(memory.hva + 5, b"hello")
        assert peek(memory.hva + 4, 7) == b"\0hello\0"


@pytest.mark.parametrize("prot", [NONE, READ])
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
