# SPDX-License-Identifier: GPL-2.0-only
import os
from collections.abc import Iterator

import pytest

from pyvmm.errors import SkippedError
from pyvmm.memory import PAGE_SIZE, Mapping, backing_file
from pyvmm.memory.backing_file import BackingFile
from pyvmm.memory.procmap import find_vma
from pyvmm.provoke import detached_tmpfs


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 2 * PAGE_SIZE)
    os.pwrite(fd, b"data", PAGE_SIZE)
    yield fd
    os.close(fd)


def test_data_and_a_hole(file: int) -> None:
    os.lseek(file, 3, os.SEEK_SET)
    size = 2 * PAGE_SIZE
    assert backing_file.of_descriptor(file, 0) == BackingFile(size, hole=True, full=False)
    assert backing_file.of_descriptor(file, PAGE_SIZE) == BackingFile(size, False, False)
    assert backing_file.of_descriptor(file, size) == BackingFile(size, False, False)
    assert os.lseek(file, 0, os.SEEK_CUR) == 3


def test_a_file_without_data(file: int) -> None:
    os.ftruncate(file, 0)
    os.ftruncate(file, PAGE_SIZE)
    assert backing_file.of_descriptor(file, 0) == BackingFile(PAGE_SIZE, hole=True, full=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for /proc/self/map_files")
def test_the_file_of_a_mapping(file: int) -> None:
    with Mapping.of_file(file, 2 * PAGE_SIZE) as memory:
        area = find_vma(memory.hva)
        assert area
        found = backing_file.of_mapping(area, memory.hva)
        assert found == BackingFile(2 * PAGE_SIZE, hole=True, full=False)
        assert backing_file.of_mapping(area, memory.hva + PAGE_SIZE) != found


def test_anonymous_memory_and_devices_are_no_files() -> None:
    with Mapping.anonymous(PAGE_SIZE) as memory:
        area = find_vma(memory.hva)
        assert area
        assert backing_file.of_mapping(area, memory.hva) is None
    null = os.open("/dev/null", os.O_RDONLY)
    assert backing_file.of_descriptor(null, 0) is None
    os.close(null)


def test_a_full_file_system() -> None:
    try:
        root = detached_tmpfs.create(PAGE_SIZE)
    except SkippedError as error:
        pytest.skip(str(error))
    fd = os.open("file", os.O_RDWR | os.O_CREAT, dir_fd=root)
    os.ftruncate(fd, 2 * PAGE_SIZE)
    assert backing_file.of_descriptor(fd, 0) == BackingFile(2 * PAGE_SIZE, True, False)
    os.pwrite(fd, b"x", PAGE_SIZE)
    assert backing_file.of_descriptor(fd, 0) == BackingFile(2 * PAGE_SIZE, True, True)
    os.close(fd)
    os.close(root)
