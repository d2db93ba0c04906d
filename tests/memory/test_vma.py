# SPDX-License-Identifier: GPL-2.0-only
import mmap
import os
import sys
from pathlib import Path

import pytest

from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.vma import vmas


def test_flags_come_from_the_kernel() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.advise(mmap.MADV_DONTFORK)
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert {"rd", "wr", "dc"} <= vma.flags
        assert not vma.pfnmap


def test_file_vma_has_path_and_offset() -> None:
    with (
        Path(sys.executable).open("rb") as file,
        Mapping.of_file(file.fileno(), PAGE_SIZE, offset=PAGE_SIZE, prot=mmap.PROT_READ) as memory,
    ):
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert (vma.offset, vma.start) == (PAGE_SIZE, memory.hva)
        assert "python" in vma.path


def test_range_over_several_vmas() -> None:
    with Mapping(3 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)
        assert [v.perms for v in vmas(memory.hva, memory.size)] == ["---p", "rw-p", "---p"]


def test_unknown_process() -> None:
    with pytest.raises(FileNotFoundError):
        vmas(0, PAGE_SIZE, pid=2**22 + 1)


def test_anonymous_and_tmpfs_memory_allows_mte() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [True]
    fd = os.memfd_create("test")
    os.truncate(fd, PAGE_SIZE)
    with os.fdopen(fd), Mapping.of_file(fd, PAGE_SIZE) as memory:
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [True]


def test_file_mapping_does_not_allow_mte() -> None:
    with (
        Path(sys.executable).open("rb") as file,
        Mapping.of_file(file.fileno(), PAGE_SIZE, prot=mmap.PROT_READ) as memory,
    ):
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [False]
