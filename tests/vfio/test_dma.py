# SPDX-License-Identifier: GPL-2.0-only
"""DMA through the IOMMU: a device reaches the mapped memory and nothing else."""

import contextlib
import ctypes
import errno
import mmap
from collections.abc import Callable, Iterator

import pytest

from pyvmm.errors import Status
from pyvmm.ioctl import IoctlError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.iommufd import (
    IOMMU_OPTION,
    IOMMU_OPTION_HUGE_PAGES,
    IOMMU_OPTION_OP_GET,
    iommu_option,
)
from pyvmm.vfio import device_nodes
from pyvmm.vfio.bars import map_bar
from pyvmm.vfio.container import Container
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice
from tests.vfio.edu import Edu

IOVA = 0x100000
PATTERN = bytes(range(256)) * 4


@pytest.fixture
def memory() -> Iterator[Mapping]:
    """Yield four pages of memory."""
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        yield memory


def test_dma_read_and_write(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.store(IOVA + 2 * PAGE_SIZE, len(PATTERN))
    assert memory.read(2 * PAGE_SIZE, len(PATTERN)) == PATTERN


def test_part_of_a_mapping(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory, at=PAGE_SIZE, size=PAGE_SIZE)
    memory.write(PAGE_SIZE, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.store(IOVA + PAGE_SIZE // 2, len(PATTERN))
    assert memory.read(PAGE_SIZE + PAGE_SIZE // 2, len(PATTERN)) == PATTERN


def test_dma_after_unmap_is_dropped(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.device.dma.unmap(IOVA)
    edu.store(IOVA + PAGE_SIZE, len(PATTERN))
    assert memory.read(PAGE_SIZE, len(PATTERN)) == bytes(len(PATTERN))
    assert edu.device.dma.mapped == {}


def test_unmap_of_part_of_a_mapping(edu_in_mode: Edu, memory: Mapping) -> None:
    """Vfio's type1 unmaps nothing and reports success; iommufd's unmaps the part."""
    edu, dma = edu_in_mode, edu_in_mode.device.dma
    dma.map(IOVA, memory)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    succeeds = dma.mode in ("vfio_type1_iommu", "iommufd_compat_type1")
    with contextlib.nullcontext() if succeeds else pytest.raises(IoctlError):
        dma._unmap(IOVA + PAGE_SIZE, PAGE_SIZE)
    for page in range(4):
        edu.store(IOVA + page * PAGE_SIZE, len(PATTERN))
    arrived = [memory.read(page * PAGE_SIZE, len(PATTERN)) == PATTERN for page in range(4)]
    assert arrived == [True, dma.mode != "iommufd_compat_type1", True, True]


@pytest.mark.parametrize(
    ("mode", "expected"), [("iommufd_compat_type1", 0), ("iommufd_compat_type1v2", 1)]
)
def test_large_pages_of_the_iommu(edu_function: PciFunction, mode: str, expected: int) -> None:
    """Type1 may unmap part of a mapping, so it uses no large pages (iommufd_vfio_set_iommu())."""
    if not device_nodes.IOMMUFD.exists():
        pytest.skip("this kernel was built without IOMMUFD: python -m pyvmm lab test --kernel lab")
    with open_device(edu_function.bdf, mode) as device:
        assert isinstance(device.dma, Container)
        option = iommu_option(
            option_id=IOMMU_OPTION_HUGE_PAGES,
            op=IOMMU_OPTION_OP_GET,
            object_id=device.dma._compat_ioas(),
        )
        option.size = ctypes.sizeof(option)
        device.dma.ioctl(IOMMU_OPTION, option)
        assert option.val64 == expected


def test_dma_write_to_a_read_only_mapping_is_dropped(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory, writable=False)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.store(IOVA + PAGE_SIZE, len(PATTERN))
    assert memory.read(PAGE_SIZE, len(PATTERN)) == bytes(len(PATTERN))


def test_valid_iova_ranges_exclude_the_msi_window(edu_in_mode: Edu) -> None:
    dma = edu_in_mode.device.dma
    below, above = dma.ranges()
    assert (below.start, below.last) == (0, 0x7FFFFFF)
    assert above.start == 0x8100000
    assert dma.page_size == PAGE_SIZE


@pytest.mark.parametrize(
    ("iova", "at", "size", "why"),
    [
        pytest.param(IOVA + 1, 0, PAGE_SIZE, "must be multiples of", id="IOVA not aligned"),
        pytest.param(IOVA, 16, PAGE_SIZE, "must be multiples of", id="HVA not aligned"),
        pytest.param(IOVA, 0, 100, "must be multiples of", id="size not aligned"),
        pytest.param(IOVA, 0, 0, "must be multiples of", id="empty"),
        pytest.param(
            0x8000000,
            0,
            PAGE_SIZE,
            "outside the valid IOVA ranges: 0x0-0x7ffffff, ",
            id="MSI window",
        ),
        pytest.param(
            0x7FFF000, 0, 2 * PAGE_SIZE, "is outside the valid IOVA ranges", id="into the window"
        ),
        pytest.param(
            1 << 60, 0, PAGE_SIZE, "is outside the valid IOVA ranges", id="beyond the SMMU"
        ),
        pytest.param(0x200000, 0, PAGE_SIZE, "is already mapped", id="mapped"),
        pytest.param(0x1FF000, 0, 2 * PAGE_SIZE, "is already mapped", id="overlaps"),
    ],
)
def test_rejected_mapping_is_explained(
    edu_in_mode: Edu, memory: Mapping, iova: int, at: int, size: int, why: str
) -> None:
    dma = edu_in_mode.device.dma
    dma.map(0x200000, memory, size=2 * PAGE_SIZE)
    with pytest.raises(IoctlError, match=why) as caught:
        dma.map(iova, memory, at=at, size=size)
    assert "\n" not in str(caught.value)
    assert dma.mapped == {0x200000: 2 * PAGE_SIZE}


def test_unmapped_hva_is_explained(edu_in_mode: Edu, memory: Mapping) -> None:
    memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
    with pytest.raises(IoctlError, match=f"cannot pin memory at HVA {memory.hva:#x}"):
        edu_in_mode.device.dma.map(IOVA, memory)


def test_one_gibibyte_is_mapped_with_one_ioctl(edu_in_mode: Edu) -> None:
    with Mapping.anonymous(1 << 30, align=2 << 20) as memory:
        memory.advise(mmap.MADV_HUGEPAGE)
        edu_in_mode.device.dma.map(0x40000000, memory)
        assert edu_in_mode.device.dma.mapped == {0x40000000: 1 << 30}


def test_close_removes_the_mappings(
    edu_function: PciFunction, iommu_mode: str, memory: Mapping
) -> None:
    memory.write(0, PATTERN)
    with open_device(edu_function.bdf, iommu_mode) as device:
        device.dma.map(IOVA, memory)
        Edu(device).fetch(IOVA, len(PATTERN))
    with open_device(edu_function.bdf, iommu_mode) as device:
        Edu(device).store(IOVA + PAGE_SIZE, len(PATTERN))
        assert memory.read(PAGE_SIZE, len(PATTERN)) == bytes(len(PATTERN))


def open_bochs_beside(edu: Edu, find: Callable[[str], PciFunction]) -> VfioDevice:
    return open_device(find("bochs").bdf, beside=edu.device)


def test_dma_to_the_bar_of_another_device(
    edu_in_mode: Edu, memory: Mapping, find: Callable[[str], PciFunction]
) -> None:
    edu = edu_in_mode
    memory.write(0, PATTERN)
    edu.device.dma.map(IOVA, memory)
    edu.fetch(IOVA, len(PATTERN))
    with open_bochs_beside(edu, find) as bochs:
        bar = bochs.regions["BAR0"]
        with map_bar(bar, bochs.split(bar)) as mapped:
            edu.device.dma.map_bar(0x400000, bar, mapped.memory, at=PAGE_SIZE, size=PAGE_SIZE)
            edu.store(0x400000, len(PATTERN))
            assert bar.read(PAGE_SIZE, len(PATTERN)) == PATTERN
            edu.device.dma.unmap(0x400000)


def test_iommufd_cannot_pin_the_hva_of_a_bar(
    edu_function: PciFunction, iommufd: str, find: Callable[[str], PciFunction]
) -> None:
    edu = Edu(open_device(edu_function.bdf, iommufd))
    with edu.device, open_bochs_beside(edu, find) as bochs:
        bar = bochs.regions["BAR0"]
        with map_bar(bar, bochs.split(bar)) as mapped:
            with pytest.raises(IoctlError, match="cannot pin memory") as caught:
                edu.device.dma.map(0x400000, mapped.memory)
    assert (caught.value.errno, caught.value.status) == (errno.EFAULT, Status.FAILED)
