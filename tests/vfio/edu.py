# SPDX-License-Identifier: GPL-2.0-only
"""A small driver for QEMU's edu device (docs/specs/edu.rst)."""

import time
from dataclasses import dataclass

from pyvmm.vfio.regions import Region
from pyvmm.vfio.vfio_device import VfioDevice


@dataclass
class Edu:
    """The edu device, driven through its BAR."""

    device: VfioDevice

    # Registers of BAR0.
    IDENTITY = 0x00
    LIVENESS = 0x04  # reads as the inverse of the last write
    IRQ_STATUS = 0x24
    IRQ_RAISE = 0x60
    IRQ_ACK = 0x64
    DMA_FROM = 0x80
    DMA_TO = 0x88
    DMA_COUNT = 0x90
    DMA_COMMAND = 0x98
    # The address of its internal 4 KiB buffer for DMA, and its last IOVA (28 bits).
    BUFFER = 0x40000
    LAST_IOVA = 0xFFFFFFF

    @property
    def bar(self) -> Region:
        return self.device.regions["BAR0"]

    def read(self, register: int, size: int = 4) -> int:
        return int.from_bytes(self.bar.read(register, size), "little")

    def write(self, register: int, value: int, size: int = 4) -> None:
        self.bar.write(register, value.to_bytes(size, "little"))

    def fetch(self, iova: int, size: int) -> None:
        """Copy `size` bytes at `iova` to the device's buffer by DMA."""
        self._dma(iova, self.BUFFER, size, 1)

    def store(self, iova: int, size: int) -> None:
        """Copy `size` bytes of the device's buffer to `iova` by DMA."""
        self._dma(self.BUFFER, iova, size, 1 | 2)

    def _dma(self, source: int, target: int, size: int, command: int) -> None:
        self.device.config.enable_bus_master()
        for register, value in (
            (self.DMA_FROM, source),
            (self.DMA_TO, target),
            (self.DMA_COUNT, size),
            (self.DMA_COMMAND, command),
        ):
            self.write(register, value, 8)
        deadline = time.monotonic() + 10
        while self.read(self.DMA_COMMAND, 8) & 1:
            assert time.monotonic() < deadline, "the device does not finish its DMA"
            time.sleep(0.01)
