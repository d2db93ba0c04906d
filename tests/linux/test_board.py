# SPDX-License-Identifier: GPL-2.0-only
import pytest

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
    assert board.pci.window_32.start + board.pci.window_32.size == ecam
    assert ecam + board.pci.ecam_size <= RAM_BASE
    assert board.pci.window_64.start + board.pci.window_64.size == 1 << 40


def test_mpidr_has_sixteen_cpus_per_cluster() -> None:
    assert [mpidr(index) for index in (0, 15, 16, 33)] == [0, 15, 0x100, 0x201]
