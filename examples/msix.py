# SPDX-License-Identifier: GPL-2.0-only
"""Deliver a device's MSI-X interrupt to the guest without waking the VMM.

An NVMe disk gets an Identify command. It writes the result to memory by DMA and sends MSI-X
vector 0. vfio signals an eventfd, KVM's irqfd turns the eventfd into a guest interrupt, and the
guest's GIC shows it as pending.

    python -m pyvmm lab shell --device nvme -- python3 examples/msix.py
"""

import os
import struct
import sys
import time
from collections.abc import Callable

from pyvmm.arch.arm64.vgic import GicLayout, create_gic
from pyvmm.arch.native import native
from pyvmm.errors import LackingError, PyvmmError, UsageError, as_command
from pyvmm.kvm import System
from pyvmm.kvm.eventfds import irqfd
from pyvmm.memory import PAGE_SIZE, Mapping
from pyvmm.uapi.kvm_arm64 import KVM_DEV_ARM_VGIC_GRP_DIST_REGS
from pyvmm.vfio.iommu_modes import open_device
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction

SPI = 5  # the shared peripheral interrupt that the vector is routed to
GICD_ISPENDR, GICD_ICFGR = 0x200, 0xC00
INTERRUPT = 32 + SPI  # its INTID

# NVM Express: the class code, the controller's registers in BAR0, and one command.
NVME = 0x01_08_02
CC, CSTS, AQA, ASQ, ACQ, SQ0_DOORBELL = 0x14, 0x1C, 0x24, 0x28, 0x30, 0x1000
ENABLED = 6 << 16 | 4 << 20 | 1  # 64-byte SQ entries, 16-byte CQ entries, enable
IDENTIFY, CONTROLLER = 0x06, 1
QUEUE, ANSWERS, IDENTITY = range(0, 3 * PAGE_SIZE, PAGE_SIZE)  # one page each
IOVA = 0x1000_0000


@as_command()
def main(bdf: str = "0000:01:00.0") -> None:
    arch = native()
    if arch.NAME != "arm64":
        raise LackingError("needs an arm64 CPU with a GIC: run it in the lab with --device nvme")
    if PciFunction.find(bdf).class_code != NVME:
        raise UsageError(f"{bdf} is not an NVMe disk: run it in the lab with --device nvme")
    with (
        open_device(bdf) as device,
        Mapping.anonymous(3 * PAGE_SIZE) as memory,
        System.open() as system,
        system.create_vm() as vm,
    ):
        arch.prepare(system, vm, vm.create_vcpu())
        gic = create_gic(vm, GicLayout.at(0x800_0000, vcpus=1))
        edge = 0b10 << INTERRUPT % 16 * 2  # irqfd pulses the line, which a level would lose
        gic.set_attr(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_ICFGR + INTERRUPT // 16 * 4, edge)

        def pending() -> bool:
            word = GICD_ISPENDR + INTERRUPT // 32 * 4
            return bool(gic.get_attr(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, word) >> INTERRUPT % 32 & 1)

        msix = device.irqs["MSI-X"]
        print(f"{device.function}: {msix.count} MSI-X vectors, vector 0 is routed to SPI {SPI}")
        device.dma.map(IOVA, memory)
        device.config.enable_bus_master()
        eventfd = os.eventfd(0, os.EFD_CLOEXEC)
        with irqfd(vm, eventfd, SPI):
            msix.enable([eventfd])
            print(f"before the command: pending {pending()}")
            identify(device.regions["BAR0"], memory)
            wait(pending, "interrupt")
            serial = memory.read(IDENTITY + 4, 20).decode("ascii").strip()
            print(f"after the command:  pending {pending()}, and the disk's serial is {serial!r}")
            msix.disable()
        os.close(eventfd)


def identify(bar: Region, memory: Mapping) -> None:
    """Enable the controller with an admin queue in `memory`, and submit one command."""

    def write(register: int, value: int, size: int = 4) -> None:
        bar.write(register, value.to_bytes(size, "little"))

    def ready() -> bool:
        return bool(bar.read(CSTS, 4)[0] & 1)

    write(CC, 0)
    wait(lambda: not ready(), "reset of the controller")
    write(AQA, 1 << 16 | 1)  # two entries per queue
    write(ASQ, IOVA + QUEUE, 8)
    write(ACQ, IOVA + ANSWERS, 8)
    write(CC, ENABLED)
    wait(ready, "readiness of the controller")
    command = struct.pack("<IIQQQQIIQQ", IDENTIFY, 0, 0, 0, IOVA + IDENTITY, 0, CONTROLLER, 0, 0, 0)
    memory.write(QUEUE, command)
    write(SQ0_DOORBELL, 1)


def wait(done: Callable[[], bool], what: str) -> None:
    """Poll until `done` returns True, for at most ten seconds."""
    for _ in range(1000):
        if done():
            return
        time.sleep(0.01)
    raise PyvmmError(f"no {what} within ten seconds")


if __name__ == "__main__":
    main(*sys.argv[1:2])
