# SPDX-License-Identifier: GPL-2.0-only
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.memory import PAGE_SIZE, PROT_NONE, PROT_READ, Mapping, access_ok, round_up
from pyvmm.memory.vma import vmas


def test_anonymous_memory_reads_as_zero() -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        assert memory.read(PAGE_SIZE, 4) == bytes(4)


def test_written_bytes_are_read() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.write(10, b"hello")
        assert memory.read(9, 7) == b"\0hello\0"


@pytest.mark.parametrize("align", [PAGE_SIZE, 2 << 20, 1 << 30])
def test_alignment(align: int) -> None:
    with Mapping(3 * PAGE_SIZE, align=align) as memory:
        assert memory.hva % align == 0


@pytest.mark.parametrize("size", [0, -PAGE_SIZE, 1, PAGE_SIZE + 1])
def test_size_must_be_whole_pages(size: int) -> None:
    with pytest.raises(ValueError, match="whole number of pages"):
        Mapping(size)


@pytest.mark.parametrize(("at", "size"), [(-1, 1), (0, PAGE_SIZE + 1), (PAGE_SIZE, 1), (0, -1)])
def test_view_outside_of_the_range_is_rejected(at: int, size: int) -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory, pytest.raises(ValueError, match="outside"):
        memory.view(at=at, size=size)


def test_close_leaves_no_vma() -> None:
    memory = Mapping(4 * PAGE_SIZE, align=2 << 20)
    hva, size = memory.hva, memory.size
    memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE)
    memory.close()
    memory.close()
    assert vmas(hva, size) == []


def test_file_mapping_is_shared() -> None:
    fd = os.memfd_create("test")
    try:
        os.truncate(fd, PAGE_SIZE)
        with Mapping.of_file(fd, PAGE_SIZE) as memory:
            memory.write(0, b"shared")
        assert os.pread(fd, 6, 0) == b"shared"
    finally:
        os.close(fd)


def test_file_without_mmap_is_an_error() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="mmap"):
        Mapping.of_file(reader, PAGE_SIZE)
    os.close(reader)
    os.close(writer)


def test_unmap_and_place_again() -> None:
    with Mapping.anonymous(3 * PAGE_SIZE) as memory:
        memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
        assert vmas(memory.hva + PAGE_SIZE, PAGE_SIZE) == []
        memory.place_anonymous(at=PAGE_SIZE, size=PAGE_SIZE, prot=PROT_READ)
        [vma] = vmas(memory.hva + PAGE_SIZE, PAGE_SIZE)
        assert vma.perms == "r--p"


def test_protect() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        memory.protect(PROT_NONE)
        [vma] = vmas(memory.hva, PAGE_SIZE)
        assert vma.perms == "---p"


@given(st.integers(0, 2**63), st.sampled_from([1 << n for n in range(40)]))
def test_round_up_is_the_next_multiple(value: int, to: int) -> None:
    rounded = round_up(value, to)
    assert rounded % to == 0
    assert value <= rounded < value + to


@pytest.mark.parametrize(
    ("hva", "size", "ok"),
    [
        (0, PAGE_SIZE, True),
        (1 << 40, 1 << 40, True),
        (1 << 40, 1 << 56, False),
        (1 << 62, PAGE_SIZE, False),
        ((1 << 64) - PAGE_SIZE, PAGE_SIZE, False),
    ],
)
def test_access_ok(hva: int, size: int, ok: bool) -> None:
    assert access_ok(hva, size) == ok


def test_access_ok_changes_no_mapping() -> None:
    with Mapping.anonymous(2 * PAGE_SIZE) as memory:
        memory.write(0, b"kept")
        assert access_ok(memory.hva, memory.size)
        memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
        assert access_ok(memory.hva + PAGE_SIZE, PAGE_SIZE)
        assert vmas(memory.hva + PAGE_SIZE, PAGE_SIZE) == []
        assert memory.read(0, 4) == b"kept"
