# SPDX-License-Identifier: GPL-2.0-only
"""DMA through the real IOMMU: a device reads and writes what was mapped, and nothing else."""

import errno
import mmap
from collections.abc import Callable, Iterator

import pytest

from pyvmm.errors import Status
from pyvmm.ioctl import IoctlError
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.vfio.bars import map_bar
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice
from tests.vfio.edu import Edu

IOVA = 0x100000
PATTERN = bytes(range(256)) * 4


@pytest.fixture
def memory() -> Iterator[Mapping]:
    """Four pages."""
    with Mapping.anonymous(4 * PAGE_SIZE) as memory:
        yield memory


def test_memory_goes_to_the_device_and_back(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.store(IOVA + 2 * PAGE_SIZE, len(PATTERN))
    assert memory.read(2 * PAGE_SIZE, len(PATTERN)) == PATTERN


def test_a_part_of_memory_is_mapped(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory, at=PAGE_SIZE, size=PAGE_SIZE)
    memory.write(PAGE_SIZE, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.store(IOVA + PAGE_SIZE // 2, len(PATTERN))
    assert memory.read(PAGE_SIZE + PAGE_SIZE // 2, len(PATTERN)) == PATTERN


def test_nothing_is_reached_after_unmap(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.device.dma.unmap(IOVA)
    edu.store(IOVA + PAGE_SIZE, len(PATTERN))
    assert memory.read(PAGE_SIZE, len(PATTERN)) == bytes(len(PATTERN))
    assert edu.device.dma.mapped == {}


def test_what_is_read_only_for_the_device_is_not_written(edu_in_mode: Edu, memory: Mapping) -> None:
    edu = edu_in_mode
    edu.device.dma.map(IOVA, memory, writable=False)
    memory.write(0, PATTERN)
    edu.fetch(IOVA, len(PATTERN))
    edu.store(IOVA + PAGE_SIZE, len(PATTERN))
    assert memory.read(PAGE_SIZE, len(PATTERN)) == bytes(len(PATTERN))


def test_the_smmu_allows_all_but_the_msi_window(edu_in_mode: Edu) -> None:
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
        pytest.param(0x8000000, 0, PAGE_SIZE, "the IOMMU allows: 0x0-0x7ffffff, ", id="MSI window"),
        pytest.param(0x7FFF000, 0, 2 * PAGE_SIZE, "is not within the IOVAs", id="into the window"),
        pytest.param(1 << 60, 0, PAGE_SIZE, "is not within the IOVAs", id="beyond the SMMU"),
        pytest.param(0x200000, 0, PAGE_SIZE, "is mapped already", id="mapped"),
        pytest.param(0x1FF000, 0, 2 * PAGE_SIZE, "is mapped already", id="overlaps"),
    ],
)
def test_a_mapping_that_cannot_be_is_explained(
    edu_in_mode: Edu, memory: Mapping, iova: int, at: int, size: int, why: str
) -> None:
    dma = edu_in_mode.device.dma
    dma.map(0x200000, memory, size=2 * PAGE_SIZE)
    with pytest.raises(IoctlError, match=why) as caught:
        dma.map(iova, memory, at=at, size=size)
    assert "\n" not in str(caught.value)
    assert dma.mapped == {0x200000: 2 * PAGE_SIZE}


def test_an_hva_without_memory_is_explained(edu_in_mode: Edu, memory: Mapping) -> None:
    memory.unmap(at=PAGE_SIZE, size=PAGE_SIZE)
    with pytest.raises(IoctlError, match=f"no memory can be pinned .* {memory.hva:#x}"):
        edu_in_mode.device.dma.map(IOVA, memory)


def test_a_gibibyte_is_mapped_in_one_call(edu_in_mode: Edu) -> None:
    with Mapping.anonymous(1 << 30, align=2 << 20) as memory:
        memory.advise(mmap.MADV_HUGEPAGE)
        edu_in_mode.device.dma.map(0x40000000, memory)
        assert edu_in_mode.device.dma.mapped == {0x40000000: 1 << 30}


def test_no_mapping_outlives_the_device(
    edu_function: PciFunction, iommu_mode: str, memory: Mapping
) -> None:
    memory.write(0, PATTERN)
    with open_device(edu_function.bdf, iommu_mode) as device:
        device.dma.map(IOVA, memory)
        Edu(device).fetch(IOVA, len(PATTERN))
    with open_device(edu_function.bdf, iommu_mode) as device:
        Edu(device).store(IOVA + PAGE_SIZE, len(PATTERN))
        assert memory.read(PAGE_SIZE, len(PATTERN)) == bytes(len(PATTERN))


def bar_beside(edu: Edu, find: Callable[[str], PciFunction]) -> VfioDevice:
    return open_device(find("bochs").bdf, beside=edu.device)


def test_a_device_writes_into_anothers_bar(
    edu_in_mode: Edu, memory: Mapping, find: Callable[[str], PciFunction]
) -> None:
    edu = edu_in_mode
    memory.write(0, PATTERN)
    edu.device.dma.map(IOVA, memory)
    edu.fetch(IOVA, len(PATTERN))
    with bar_beside(edu, find) as bochs:
        bar = bochs.regions["BAR0"]
        with map_bar(bar, bochs.split(bar)) as mapped:
            edu.device.dma.map_bar(0x400000, bar, mapped.memory, at=PAGE_SIZE, size=PAGE_SIZE)
            edu.store(0x400000, len(PATTERN))
            assert bar.read(PAGE_SIZE, len(PATTERN)) == PATTERN
            edu.device.dma.unmap(0x400000)


def test_an_iommufd_does_not_pin_a_bars_hva(
    edu_function: PciFunction, iommufd: str, find: Callable[[str], PciFunction]
) -> None:
    edu = Edu(open_device(edu_function.bdf, iommufd))
    with edu.device, bar_beside(edu, find) as bochs:
        bar = bochs.regions["BAR0"]
        with map_bar(bar, bochs.split(bar)) as mapped:
            with pytest.raises(IoctlError, match="no memory can be pinned") as caught:
                edu.device.dma.map(0x400000, mapped.memory)
    assert (caught.value.errno, caught.value.status) == (errno.EFAULT, Status.FAILED)
