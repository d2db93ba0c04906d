# SPDX-License-Identifier: GPL-2.0-only
"""A host bridge with the lab's NVMe disk, accessed as a guest's exits do."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pyvmm.errors import UsageError
from pyvmm.kvm import Vm
from pyvmm.pci.host_bridge import HostBridge, Window
from pyvmm.vfio.vfio_device import VfioDevice
from tests.pci.conftest import BOARD

pytestmark = [pytest.mark.needs_arch("aarch64"), pytest.mark.needs_device("nvme")]

SLOT1 = 0x8000  # byte offset in ECAM
COMMAND, BAR0, MEMORY, MASTER = 0x04, 0x10, 2, 4
MSIX_ENABLE, MSIX_MASK_ALL = 0x8000, 0x4000
ALL_ONES = 0xFFFF_FFFF
GPA = BOARD.pci.window_64.start


@pytest.fixture
def bridge(gic_vm: Vm, vfio_device: VfioDevice) -> Iterator[HostBridge]:
    with HostBridge(gic_vm, BOARD.pci) as bridge:
        bridge.add(vfio_device)
        yield bridge


def config(bridge: HostBridge, offset: int, size: int = 4) -> int:
    return bridge.read(SLOT1 + offset, size)


def place(bridge: HostBridge, gpa: int) -> None:
    bridge.write(SLOT1 + BAR0, 4, gpa & ALL_ONES)
    bridge.write(SLOT1 + BAR0 + 4, 4, gpa >> 32)


def msix_capability(bridge: HostBridge) -> int:
    at = config(bridge, 0x34, 1)
    while config(bridge, at, 1) != 0x11:
        at = config(bridge, at + 1, 1)
    return at


def slots(vm: Vm) -> list[int]:
    """Return the GPAs of the memslots: the part before the MSI-X table, and the rest."""
    return [slot.gpa for slot in vm.memslots]


def test_an_empty_slot_reads_as_all_ones(bridge: HostBridge) -> None:
    assert bridge.read(0, 4) == bridge.read(SLOT1 + 0x1000, 4) == ALL_ONES
    bridge.write(0, 4, 0)
    assert config(bridge, 0) == 0x0010_1B36


def test_a_bar_is_sized_and_hides_the_hosts_address(bridge: HostBridge) -> None:
    assert config(bridge, BAR0) == 0b100  # 64 bits, memory
    bridge.write(SLOT1 + BAR0, 4, ALL_ONES)
    size = bridge.functions[1].bars[0].region.size
    assert config(bridge, BAR0) & ~0xF == -size & ALL_ONES


def test_the_option_rom_is_hidden(bridge: HostBridge) -> None:
    bridge.write(SLOT1 + 0x30, 4, ALL_ONES)
    assert config(bridge, 0x30) == 0


def test_a_bar_follows_its_registers(bridge: HostBridge, gic_vm: Vm) -> None:
    place(bridge, GPA)
    assert slots(gic_vm) == []
    bridge.write(SLOT1 + COMMAND, 2, MEMORY)
    assert slots(gic_vm)[0] == GPA
    place(bridge, GPA + 0x10_0000)
    assert slots(gic_vm)[0] == GPA + 0x10_0000
    bridge.write(SLOT1 + COMMAND, 2, 0)
    assert slots(gic_vm) == []


def test_the_page_of_the_msix_table_is_emulated(bridge: HostBridge, gic_vm: Vm) -> None:
    place(bridge, GPA)
    bridge.write(SLOT1 + COMMAND, 2, MEMORY)
    slot = next(iter(gic_vm.memslots))
    table = bridge.functions[1].device.msix
    assert table
    assert slot.gpa + slot.size == GPA + table.table.offset
    assert bridge.memory.read(GPA + table.table.offset + 12, 4) == 1
    assert bridge.memory.read(GPA + 0x10_0000, 4) == ALL_ONES
    assert bridge.memory.read(BOARD.pci.ecam, 4) is None


@pytest.mark.parametrize("gpa", [0, 0x4000_0000, BOARD.pci.ecam, 1 << 40, 0xFFFF_FFFF_FFFF_C000])
def test_a_bar_outside_the_windows_is_nowhere(bridge: HostBridge, gic_vm: Vm, gpa: int) -> None:
    place(bridge, gpa)
    bridge.write(SLOT1 + COMMAND, 2, MEMORY)
    assert slots(gic_vm) == []


def test_msix_replaces_intx(bridge: HostBridge) -> None:
    function = bridge.functions[1]
    assert function.interrupts.mode == "INTx"
    control = SLOT1 + msix_capability(bridge) + 2
    bridge.write(control, 2, MSIX_ENABLE | MSIX_MASK_ALL)
    assert function.interrupts.mode == "MSI-X"
    assert bridge.read(control, 2) & 0xC000 == MSIX_ENABLE | MSIX_MASK_ALL
    assert function.device.irqs["MSI-X"].enabled
    assert not function.device.irqs["INTx"].enabled
    bridge.write(control, 2, 0)
    assert function.interrupts.mode == "INTx"


def test_a_masked_vector_keeps_its_interrupts(bridge: HostBridge) -> None:
    function = bridge.functions[1]
    control = SLOT1 + msix_capability(bridge) + 2
    bridge.write(control, 2, MSIX_ENABLE)
    table = function.interrupts.table
    assert table
    table.write(0, 8, BOARD.gic.its + 0x1_0040)
    table.write(8, 8, 0)  # unmask
    vector = function.interrupts._vectors[0]
    assert vector.attached
    assert vector.message == (BOARD.gic.its + 0x1_0040, 0)
    bridge.write(control, 2, MSIX_ENABLE | MSIX_MASK_ALL)
    assert not vector.attached
    function.device.irqs["MSI-X"].trigger(0)
    assert function.interrupts.is_pending(0)
    bridge.write(control, 2, MSIX_ENABLE)
    assert vector.attached
    assert not function.interrupts.is_pending(0)


def test_everything_is_released(gic_vm: Vm, vfio_device: VfioDevice) -> None:
    with HostBridge(gic_vm, BOARD.pci) as bridge:
        bridge.add(vfio_device)
        place(bridge, GPA)
        bridge.write(SLOT1 + COMMAND, 2, MEMORY)
    assert slots(gic_vm) == []
    assert not any(irq.enabled for irq in vfio_device.irqs.values())


def test_bars_that_cannot_be_placed(gic_vm: Vm, vfio_device: VfioDevice) -> None:
    layout = replace(BOARD.pci, window_64=Window(GPA, 0x1000))
    with HostBridge(gic_vm, layout) as bridge:
        with pytest.raises(UsageError, match=r"64-bit BARs .* 16 KiB .* window .* 4 KiB"):
            bridge.add(vfio_device)
    assert not any(irq.enabled for irq in vfio_device.irqs.values())


@pytest.mark.parametrize("seed", range(4))
def test_hostile_accesses(bridge: HostBridge, gic_vm: Vm, seed: int) -> None:
    """2,500 random accesses each: to config space, the MSI-X table, the BAR and its registers."""
    draw = random.Random(seed)
    interesting = [0, 1, MEMORY, MEMORY | MASTER, GPA & ALL_ONES, GPA >> 32, 0xC000, ALL_ONES]
    hot = [COMMAND, BAR0, BAR0 + 4, 0x30, msix_capability(bridge) + 2]
    for _ in range(2500):
        size = draw.choice([1, 2, 4, 8])
        value = draw.choice([*interesting, draw.getrandbits(64)]) & (1 << 8 * size) - 1
        match draw.randrange(4):
            case 0:
                offset = SLOT1 + draw.choice([*hot, draw.randrange(0x1000)])
            case 1:
                offset = draw.randrange(BOARD.pci.ecam_size - 8)
            case 2:
                bridge.memory.write(GPA + draw.randrange(0x4000), size, value)
                bridge.memory.read(GPA + draw.randrange(0x4000), size)
                continue
            case _:
                place(bridge, draw.choice([GPA, GPA + 0x4000, draw.getrandbits(64)]))
                bridge.write(SLOT1 + COMMAND, 2, MEMORY)
                continue
        bridge.write(offset, size, value)
        assert 0 <= bridge.read(offset, size) < 1 << 8 * size
    assert all(BOARD.pci.window_32.start <= gpa < 1 << 40 for gpa in slots(gic_vm))
