# SPDX-License-Identifier: GPL-2.0-only
import mmap
import os
import sys
from pathlib import Path

import pytest

from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.vma import vmas


def test_the_flags_are_the_kernels() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.advise(mmap.MADV_DONTFORK)
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert {"rd", "wr", "dc"} <= vma.flags
        assert not vma.pfnmap


def test_a_file_has_its_path_and_offset() -> None:
    with (
        Path(sys.executable).open("rb") as file,
        Mapping.of_file(file.fileno(), PAGE_SIZE, offset=PAGE_SIZE, prot=mmap.PROT_READ) as memory,
    ):
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert (vma.offset, vma.start) == (PAGE_SIZE, memory.hva)
        assert "python" in vma.path


def test_a_range_over_several_areas_gives_each() -> None:
    with Mapping(3 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)
        assert [v.perms for v in vmas(memory.hva, memory.size)] == ["---p", "rw-p", "---p"]


def test_a_process_that_is_gone() -> None:
    with pytest.raises(FileNotFoundError):
        vmas(0, PAGE_SIZE, pid=2**22 + 1)


def test_anonymous_and_tmpfs_memory_could_hold_tags() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [True]
    fd = os.memfd_create("test")
    os.truncate(fd, PAGE_SIZE)
    with os.fdopen(fd), Mapping.of_file(fd, PAGE_SIZE) as memory:
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [True]


def test_a_file_could_not_hold_tags() -> None:
    with (
        Path(sys.executable).open("rb") as file,
        Mapping.of_file(file.fileno(), PAGE_SIZE, prot=mmap.PROT_READ) as memory,
    ):
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [False]
