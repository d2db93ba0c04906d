# SPDX-License-Identifier: GPL-2.0-only
import os
from collections.abc import Iterator

import pytest

from pyvmm import libc
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.pagemap import page_state
from pyvmm.memory.suspect_pages import suspect_pages
from pyvmm.memory.vma import vmas
from pyvmm.provoke import detached_tmpfs
from tests.userfaultfds import watched_for_missing

MADV_GUARD_INSTALL = 102
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def memory() -> Iterator[Mapping]:
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        memory.write(0, bytes(memory.size))
        yield memory


def suspects(memory: Mapping) -> list[int]:
    """Return the numbers of the suspect pages."""
    [vma] = vmas(memory.hva, memory.size)
    return [(hva - memory.hva) // PAGE_SIZE for hva in suspect_pages(vma)]


def test_accessible_memory(memory: Mapping) -> None:
    assert suspects(memory) == []


def test_the_first_guard_region(memory: Mapping) -> None:
    try:
        libc.madvise(memory.hva + 2 * PAGE_SIZE, 2 * PAGE_SIZE, MADV_GUARD_INSTALL)
    except OSError:
        pytest.skip("this kernel has no MADV_GUARD_INSTALL: it needs Linux 6.13")
    [vma] = vmas(memory.hva, memory.size)
    if "gu" not in vma.flags or not page_state(memory.hva + 2 * PAGE_SIZE).guard:
        pytest.skip("this kernel shows no guard regions in smaps (gu) and pagemap")
    assert suspects(memory) == [2]


@needs_root
def test_the_first_page_that_a_userfaultfd_watches(memory: Mapping) -> None:
    memory.place_anonymous()
    memory.write(0, b"there")
    with watched_for_missing(memory):
        assert suspects(memory) == [1]


@needs_root
def test_the_end_of_a_file() -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 2 * PAGE_SIZE + 1)
    with Mapping.of_file(fd, 4 * PAGE_SIZE) as memory:
        assert suspects(memory) == [3]
        os.ftruncate(fd, 4 * PAGE_SIZE)
        assert suspects(memory) == []
    os.close(fd)


@needs_root
def test_the_hole_of_a_full_file_system() -> None:
    root = detached_tmpfs.create(PAGE_SIZE)
    fd = os.open("file", os.O_RDWR | os.O_CREAT, dir_fd=root)
    os.pwrite(fd, b"x", 0)
    os.ftruncate(fd, 3 * PAGE_SIZE)
    with Mapping.of_file(fd, 3 * PAGE_SIZE) as memory:
        assert suspects(memory) == [1]
    os.close(fd)
    os.close(root)
