# SPDX-License-Identifier: GPL-2.0-only
"""The board of a Linux guest: its memory map, and the device tree that describes it.

The memory map::

    0x0800_0000     GICv3: distributor, redistributors, ITS
    0x0900_0000     UART
    0x1000_0000     PCI memory window for 32-bit BARs
    0x3f00_0000     PCI config space (ECAM) of bus 0
    0x4000_0000     RAM, then BARs that are RAM, each on its own GiB
    half of the IPA space  PCI memory window for 64-bit BARs
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pyvmm.arch.arm64.vgic import GicLayout
from pyvmm.errors import UsageError
from pyvmm.linux.device_tree import Node, quad
from pyvmm.memory import round_up
from pyvmm.pci.host_bridge import PciLayout, Window

GIC_BASE = 0x0800_0000
UART = 0x0900_0000
UART_SPI = 1
RAM_BASE = 0x4000_0000
_UART_SIZE = 0x1000
_GIB = 1 << 30
_IPA_BITS = 40
_WINDOW_32 = Window(0x1000_0000, 0x2F00_0000)
_ECAM = 0x3F00_0000
# The SPI of INTx of the function in slot 0; one for each slot.
_FIRST_INTX_SPI = 32
SPIS = 96  # multiple of 32
MAX_CPUS = (UART - GIC_BASE - 0x3_0000) // 0x2_0000

# phandles
_GIC, _ITS = 1, 2
# Cells of an interrupt (Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml).
_SPI, _PPI, _LEVEL_HIGH = 0, 1, 4
# The first cell of a PCI address: memory space of 32 and 64 bits.
_PCI_MEMORY_32, _PCI_MEMORY_64 = 0x0200_0000, 0x0300_0000


@dataclass(frozen=True)
class Board:
    """The board.

    Attributes:
        cpus: the number of vCPUs.
        ram: bytes of RAM.
        ipa_bits: the width of guest physical addresses.
        ram_bars: the sizes of the BARs that are RAM, too.
    """

    cpus: int
    ram: int
    ipa_bits: int
    ram_bars: tuple[int, ...] = ()

    @classmethod
    def fitting(
        cls, cpus: int, ram: int, ram_bars: Sequence[int], bars: int, widest: int
    ) -> "Board":
        """Return a board with an IPA space of 40 bits, or of more if the memory needs it.

        `bars` is the size of all 64-bit BARs in bytes, and `widest` the host's limit. Raises
        `UsageError` if RAM does not fit. The smaller the space, the faster KVM destroys the VM.
        """
        board = cls(cpus, ram, min(_IPA_BITS, widest), tuple(ram_bars))
        needed = max(bars, board.memory[-1].end)
        board = replace(board, ipa_bits=min(max(_IPA_BITS, (needed - 1).bit_length() + 1), widest))
        if board.memory[-1].end > board.pci.window_64.start:
            most = board.pci.window_64.start - RAM_BASE
            raise UsageError(f"--ram: this host's guests have at most {most >> 30}G of memory")
        return board

    @property
    def memory(self) -> tuple[Window, ...]:
        """Return the GPAs of the RAM, and of each BAR that is RAM."""
        windows = [Window(RAM_BASE, self.ram)]
        for size in self.ram_bars:
            windows.append(Window(round_up(windows[-1].end, _GIB), size))
        return tuple(windows)

    @property
    def gic(self) -> GicLayout:
        """Return the GPAs of the interrupt controller."""
        return GicLayout.at(GIC_BASE, self.cpus)

    @property
    def pci(self) -> PciLayout:
        """Return the GPAs and interrupts of the PCI host bridge."""
        half = 1 << self.ipa_bits - 1
        return PciLayout(_ECAM, _WINDOW_32, Window(half, half), _FIRST_INTX_SPI)

    def device_tree(self, command_line: str, initrd: range, slots: Sequence[int] = ()) -> bytes:
        """Return the device tree's blob.

        `initrd` is the GPAs of the initial RAM file system, and `slots` are the PCI slots that
        have a function.
        """
        return Node(
            "",
            {
                "compatible": "linux,dummy-virt",
                "model": "pyvmm",
                "interrupt-parent": _GIC,
                "dma-coherent": (),
                **_cells(address=2, size=2),
            },
            (
                _chosen(command_line, initrd),
                *(
                    Node(
                        f"memory@{each.start:x}",
                        {"device_type": "memory", "reg": quad(each.start, each.size)},
                    )
                    for each in self.memory
                ),
                Node("psci", {"compatible": ("arm,psci-1.0", "arm,psci-0.2"), "method": "hvc"}),
                _cpus(self.cpus),
                _timer(),
                self._gic(),
                _uart(),
                self._host_bridge(slots),
            ),
        ).to_bytes()

    def _gic(self) -> Node:
        layout = self.gic
        its = Node(
            f"msi-controller@{layout.its:x}",
            {
                "compatible": "arm,gic-v3-its",
                "reg": quad(layout.its, layout.end - layout.its),
                "msi-controller": (),
                "#msi-cells": 1,
                "phandle": _ITS,
            },
        )
        distributor, redistributors = layout.distributor, layout.redistributors
        return Node(
            f"interrupt-controller@{distributor:x}",
            {
                "compatible": "arm,gic-v3",
                "reg": (
                    *quad(distributor, redistributors - distributor),
                    *quad(redistributors, layout.its - redistributors),
                ),
                "interrupt-controller": (),
                "interrupts": (_PPI, 9, _LEVEL_HIGH),
                "#interrupt-cells": 3,
                **_cells(address=2, size=2),
                "ranges": (),
                "phandle": _GIC,
            },
            (its,),
        )

    def _host_bridge(self, slots: Sequence[int]) -> Node:
        layout = self.pci
        # Neither is prefetchable: Linux would keep other 64-bit BARs out of a prefetchable window.
        windows = ((_PCI_MEMORY_32, layout.window_32), (_PCI_MEMORY_64, layout.window_64))
        return Node(
            f"pcie@{layout.ecam:x}",
            {
                "compatible": "pci-host-ecam-generic",
                "device_type": "pci",
                "reg": quad(layout.ecam, layout.ecam_size),
                "bus-range": (0, 0),
                "linux,pci-domain": 0,
                "#interrupt-cells": 1,
                **_cells(address=3, size=2),
                "ranges": [
                    cell
                    for space, window in windows
                    for cell in (space, *quad(window.start, window.start, window.size))
                ],
                "dma-coherent": (),
                # Requester ID = device ID of the ITS, which gets none without this.
                "msi-map": (0, _ITS, 0, 0x1_0000),
                # By slot, for any pin. The two zeros after the GIC are its unit address.
                "interrupt-map-mask": (0xF800, 0, 0, 0),
                "interrupt-map": [
                    cell
                    for slot in slots
                    for cell in (
                        *(slot << 11, 0, 0, 0),
                        *(_GIC, 0, 0, _SPI, layout.intx_spi(slot), _LEVEL_HIGH),
                    )
                ],
            },
        )


def _cells(*, address: int, size: int) -> dict[str, int]:
    return {"#address-cells": address, "#size-cells": size}


def _chosen(command_line: str, initrd: range) -> Node:
    return Node(
        "chosen",
        {
            "bootargs": command_line,
            "stdout-path": f"/serial@{UART:x}",
            "rng-seed": os.urandom(64),
            "linux,initrd-start": quad(initrd.start),
            "linux,initrd-end": quad(initrd.stop),
        },
    )


def _cpus(count: int) -> Node:
    return Node(
        "cpus",
        _cells(address=1, size=0),
        (
            Node(
                f"cpu@{mpidr(index):x}",
                {
                    "device_type": "cpu",
                    "compatible": "arm,armv8",
                    "reg": mpidr(index),
                    "enable-method": "psci",
                },
            )
            for index in range(count)
        ),
    )


def _timer() -> Node:
    # Secure, non-secure, virtual and hypervisor timer.
    interrupts = [cell for ppi in (13, 14, 11, 10) for cell in (_PPI, ppi, _LEVEL_HIGH)]
    return Node(
        "timer", {"compatible": "arm,armv8-timer", "interrupts": interrupts, "always-on": ()}
    )


def _uart() -> Node:
    return Node(
        f"serial@{UART:x}",
        {
            "compatible": "arm,sbsa-uart",
            "reg": quad(UART, _UART_SIZE),
            "interrupts": (_SPI, UART_SPI, _LEVEL_HIGH),
            "current-speed": 115200,
        },
    )


def mpidr(index: int) -> int:
    """Return the affinity fields of MPIDR_EL1 that KVM gives vCPU `index` (reset_mpidr)."""
    return index & 0xF | (index >> 4 & 0xFF) << 8
