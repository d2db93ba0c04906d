# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.errors import UsageError
from pyvmm.linux.board import GIC_BASE, MAX_CPUS, RAM_BASE, UART, Board, mpidr
from tests.linux.conftest import Dtc

INITRD = range(0x4120_0000, 0x4130_0000)


@pytest.mark.parametrize("cpus", [1, 2, 17, MAX_CPUS])
def test_dtc_accepts_the_tree_without_a_warning(dtc: Dtc, cpus: int) -> None:
    tree = Board(cpus, 256 << 20, 40).device_tree("console=ttyAMA0", INITRD, [1, 2])
    assert dtc(tree, "dtb", "dtb") == tree


def test_tree_has_the_options(dtc: Dtc) -> None:
    tree = Board(2, 256 << 20, 40).device_tree("console=ttyAMA0 quiet", INITRD, [1])
    source = dtc(tree, "dtb", "dts").decode()
    assert 'bootargs = "console=ttyAMA0 quiet";' in source
    assert f"memory@{RAM_BASE:x} {{" in source
    assert "reg = <0x00 0x40000000 0x00 0x10000000>;" in source
    assert "linux,initrd-end = <0x00 0x41300000>;" in source
    assert source.count("enable-method") == 2


def test_seeds_differ() -> None:
    board = Board(1, 256 << 20, 40)
    assert board.device_tree("", INITRD) != board.device_tree("", INITRD)


def test_memory_map_does_not_overlap() -> None:
    board = Board(MAX_CPUS, 256 << 20, 40)
    ecam = board.pci.ecam
    assert GIC_BASE < board.gic.end <= UART < board.pci.window_32.start
    assert board.pci.window_32.end == ecam
    assert ecam + board.pci.ecam_size <= RAM_BASE
    assert board.pci.window_64.end == 1 << 40


def test_bars_that_are_ram_are_memory(dtc: Dtc) -> None:
    board = Board(1, 256 << 20, 40, ram_bars=(512 << 20, 1 << 30))
    assert [each.start for each in board.memory] == [RAM_BASE, 2 << 30, 3 << 30]
    source = dtc(board.device_tree("", INITRD), "dtb", "dts").decode()
    assert source.count('device_type = "memory"') == 3
    assert "reg = <0x00 0x80000000 0x00 0x20000000>;" in source


@pytest.mark.parametrize(
    ("ram", "ram_bars", "bars", "bits"),
    [
        (1 << 30, [], 0, 40),
        (1 << 30, [], 1 << 39, 40),
        (1 << 30, [], (1 << 39) + 1, 41),
        (511 << 30, [], 0, 40),
        (512 << 30, [], 0, 41),
        (1 << 30, [1 << 40], 0, 42),
    ],
)
def test_ipa_space_is_as_wide_as_needed(
    ram: int, ram_bars: list[int], bars: int, bits: int
) -> None:
    board = Board.fitting(1, ram, ram_bars, bars, widest=48)
    assert board.ipa_bits == bits
    assert board.memory[-1].end <= board.pci.window_64.start
    assert board.pci.window_64.size >= bars


def test_memory_that_does_not_fit() -> None:
    with pytest.raises(UsageError, match="--ram: this host's guests have at most 511G of memory"):
        Board.fitting(1, 512 << 30, [], 0, widest=40)


def test_mpidr_has_sixteen_cpus_per_cluster() -> None:
    assert [mpidr(index) for index in (0, 15, 16, 33)] == [0, 15, 0x100, 0x201]
