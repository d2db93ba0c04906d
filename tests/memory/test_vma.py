# SPDX-License-Identifier: GPL-2.0-only
import ctypes
import mmap
import os
import sys
from pathlib import Path

import pytest

from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.memory.vma import Vma, vmas


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


def test_path_that_is_not_utf_8(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/latin-1 \xe9"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.truncate(fd, PAGE_SIZE)
    with os.fdopen(fd), Mapping.of_file(fd, PAGE_SIZE) as memory:
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert vma.path == f"{tmp_path}/latin-1 \ufffd"


def test_page_size_of_ordinary_memory() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert (vma.page_size, vma.hugetlb) == (PAGE_SIZE, False)


def test_range_over_several_vmas() -> None:
    with Mapping(3 * PAGE_SIZE) as memory:
        memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)
        assert [v.perms for v in vmas(memory.hva, memory.size)] == ["---p", "rw-p", "---p"]


def test_unknown_process() -> None:
    with pytest.raises(FileNotFoundError):
        vmas(0, PAGE_SIZE, pid=2**22 + 1)


def test_file_mapping_does_not_allow_mte() -> None:
    device = Path(sys.executable).stat().st_dev
    with (
        Path(sys.executable).open("rb") as file,
        Mapping.of_file(file.fileno(), PAGE_SIZE, prot=mmap.PROT_READ) as memory,
    ):
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert vma.device == f"{os.major(device):02x}:{os.minor(device):02x}"
        assert not vma.mte_allowed


def vma(path: str, *flags: str, device: str = "00:00") -> Vma:
    return Vma(0x1000, 0x2000, "rw-s", 0, path, frozenset(flags), device)


@pytest.mark.parametrize(
    ("vma", "allowed"),
    [
        (vma(""), True),
        (vma("[heap]"), True),
        (vma("[anon:guest]"), True),
        (vma("[anon_shmem:guest]", device="00:01"), True),
        (vma("/memfd:guest (deleted)", device="00:01"), True),
        (vma("/dev/zero (deleted)", device="00:01"), True),
        (vma("/SYSV00000000 (deleted)", device="00:01"), True),
        (vma("/srv/guest", "mt", device="08:01"), True),
        (vma("/dev/shm/guest", device="00:1a"), None),
        (vma("/anon_hugepage (deleted)", "ht", device="00:0f"), None),
        (vma("/memfd:guest (deleted)", "ht", device="00:0f"), None),
        (vma("/dev/zero", device="00:06"), None),
        (vma("/srv/guest", device="08:01"), False),
        (vma("[vdso]"), False),
        (vma("anon_inode:[vfio-device]", "pf", device="00:0e"), False),
        (vma("/dev/vfio/devices/vfio0", "pf", device="00:06"), False),
        (vma("anon_inode:[io_uring]", device="00:0e"), False),
        (vma("/dmabuf:", "mm", device="00:0c"), False),
    ],
    ids=lambda value: (value.path or "anonymous") if isinstance(value, Vma) else str(value),
)
def test_memory_that_allows_mte(vma: Vma, allowed: bool | None) -> None:
    assert vma.mte_allowed is allowed


def test_memory_of_this_process_that_allows_mte() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [True]
    fd = os.memfd_create("test")
    os.truncate(fd, PAGE_SIZE)
    with os.fdopen(fd), Mapping.of_file(fd, PAGE_SIZE) as memory:
        assert [vma.mte_allowed for vma in vmas(memory.hva, PAGE_SIZE)] == [True]
    shared = mmap.mmap(-1, PAGE_SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(shared))
    assert [vma.mte_allowed for vma in vmas(address, PAGE_SIZE)] == [True]


@pytest.mark.parametrize(
    ("path", "is_bar"),
    [
        ("/dev/vfio/devices/vfio0", True),
        ("anon_inode:[vfio-device]", True),
        ("/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/resource0", True),
        ("/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/resource2_wc", True),
        ("/dmabuf:", False),
        ("/dev/dri/card0", False),
        ("", False),
    ],
)
def test_bars(path: str, is_bar: bool) -> None:
    assert vma(path, "pf").is_bar is is_bar
