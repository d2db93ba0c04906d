# SPDX-License-Identifier: GPL-2.0-only
"""MSI and INTx of QEMU's teaching device, which has no Linux driver; tests/linux has MSI-X."""

import select
import time

import pytest

from pyvmm.kvm import Vm
from pyvmm.pci.host_bridge import HostBridge
from pyvmm.pci.interrupts import Interrupts
from pyvmm.vfio.vfio_device import VfioDevice
from tests.pci.conftest import BOARD

pytestmark = [pytest.mark.needs_arch("aarch64"), pytest.mark.needs_device("edu")]

SLOT1 = 0x8000  # byte offset in ECAM
COMMAND, MEMORY_AND_MASTER = 0x04, 6
CAP_ID_MSI, ENABLE = 0x05, 1
RAISE, LOWER = 0x60, 0x64  # registers in BAR0
MESSAGE = BOARD.gic.its + 0x1_0040, 1


def raise_interrupt(device: VfioDevice, interrupts: Interrupts, mode: str) -> None:
    """Let the device raise one interrupt, and wait until the host has received it."""
    device.regions["BAR0"].write(RAISE, (1).to_bytes(4, "little"))
    deadline = time.monotonic() + 10
    while not interrupts.delivered[mode] and time.monotonic() < deadline:
        time.sleep(0.01)
    device.regions["BAR0"].write(LOWER, (1).to_bytes(4, "little"))
    assert interrupts.delivered[mode] == 1


def test_interrupts_of_an_earlier_guest_are_not_counted(
    gic_vm: Vm, vfio_device: VfioDevice
) -> None:
    for _ in range(2):
        with HostBridge(gic_vm, BOARD.pci) as bridge:
            interrupts = bridge.add(vfio_device).interrupts
            bridge.write(SLOT1 + COMMAND, 2, MEMORY_AND_MASTER)
            assert not interrupts.delivered["INTx"]
            raise_interrupt(vfio_device, interrupts, "INTx")


def test_msi_follows_the_capability(gic_vm: Vm, vfio_device: VfioDevice) -> None:
    with HostBridge(gic_vm, BOARD.pci) as bridge:
        interrupts = bridge.add(vfio_device).interrupts
        assert interrupts.mode == "INTx"
        at = SLOT1 + dict(vfio_device.config.capabilities())[CAP_ID_MSI]
        bridge.write(SLOT1 + COMMAND, 2, MEMORY_AND_MASTER)
        address, data = MESSAGE
        bridge.write(at + 4, 4, address)
        bridge.write(at + 8, 4, address >> 32)
        bridge.write(at + 12, 2, data)
        bridge.write(at + 2, 2, bridge.read(at + 2, 2) | ENABLE)
        assert interrupts.mode == "MSI"
        assert not vfio_device.irqs["INTx"].enabled
        [vector] = interrupts._vectors.values()
        assert (vector.message, vector.attached) == (MESSAGE, True)

        raise_interrupt(vfio_device, interrupts, "MSI")
        assert not select.select([vector.eventfd], [], [], 0)[0]  # KVM has taken it

        bridge.write(at + 12, 2, data + 1)
        assert vector.message == (address, data + 1)
        bridge.write(at + 2, 2, bridge.read(at + 2, 2) & ~ENABLE)
        assert interrupts.mode == "INTx"
        assert interrupts.delivered["MSI"] == 1
