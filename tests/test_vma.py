# SPDX-License-Identifier: GPL-2.0-only
import mmap
import sys

import pytest

from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.vma import vmas


def test_the_flags_are_the_kernels() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.advise(mmap.MADV_DONTFORK)
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert {"rd", "wr", "dc"} <= vma.flags
        assert not vma.pfnmap


def test_a_file_has_its_path_and_offset() -> None:
    with open(sys.executable, "rb") as file, Mapping.of_file(
        file.fileno(), PAGE_SIZE, offset=PAGE_SIZE, prot=mmap.PROT_READ
    ) as memory:
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
