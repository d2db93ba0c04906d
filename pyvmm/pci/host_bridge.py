# SPDX-License-Identifier: GPL-2.0-only
"""A PCI host bridge with vfio devices on its bus 0: ECAM, and windows for the BARs."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from pyvmm.bus import Bus
from pyvmm.closeable import Closeable
from pyvmm.errors import UsageError
from pyvmm.kvm.vm import Vm
from pyvmm.pci.counted_device import AccessCounts
from pyvmm.pci.gsi_routes import GsiRoutes
from pyvmm.pci.guest_bar import GuestBar
from pyvmm.pci.pci_function import PciFunction
from pyvmm.units import size as size_text
from pyvmm.vfio.vfio_device import VfioDevice

_SLOTS = 32
_FUNCTION_CONFIG = 0x1000  # bytes of ECAM per function


@dataclass(frozen=True)
class Window:
    """A range of GPAs: `size` bytes from `start`."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """Return the first GPA after the window."""
        return self.start + self.size

    def contains(self, gpa: int, size: int) -> bool:
        """Return True if all of `size` bytes at `gpa` are in the window."""
        return self.start <= gpa and gpa + size <= self.end


@dataclass(frozen=True)
class PciLayout:
    """The GPAs of a host bridge, and the first of its SPIs for INTx, one per slot."""

    ecam: int
    window_32: Window
    window_64: Window
    first_spi: int
    ecam_size = _SLOTS * 8 * _FUNCTION_CONFIG

    def intx_spi(self, slot: int) -> int:
        """Return the shared peripheral interrupt of the function in `slot`."""
        return self.first_spi + slot

    @property
    def windows(self) -> tuple[Window, Window]:
        """Return both windows for BARs."""
        return self.window_32, self.window_64


class PciMemory(Bus):
    """A bus on which, as on PCI, no response is no error in the windows.

    Reads return all ones then, and writes are dropped.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        """Create a bus without devices."""
        super().__init__()
        self._windows = windows

    def read(self, address: int, size: int) -> int | None:
        """Read from the device at `address`; return None if that is outside the windows."""
        value = super().read(address, size)
        return (1 << 8 * size) - 1 if value is None and self._covers(address, size) else value

    def write(self, address: int, size: int, value: int) -> bool:
        """Write to the device at `address`; return False if that is outside the windows."""
        return super().write(address, size, value) or self._covers(address, size)

    def _covers(self, address: int, size: int) -> bool:
        return any(window.contains(address, size) for window in self._windows)


class HostBridge(Closeable):
    """A host bridge whose functions are in slots 1, 2, …, each as function 0.

    Attributes:
        functions: the functions by slot.
        memory: the emulated BARs, by GPA.
        counts: the accesses to BARs that exited, by device.
    """

    def __init__(self, vm: Vm, layout: PciLayout) -> None:
        """Create a bridge with an empty bus."""
        self._vm, self._layout = vm, layout
        self.memory = PciMemory(layout.windows)
        self._routes = GsiRoutes(vm)
        self.functions: dict[int, PciFunction] = {}
        self.counts: AccessCounts = Counter()
        self._owned = ExitStack()

    def add(self, device: VfioDevice, flip: Collection[str] = ()) -> PciFunction:
        """Add a device in the next slot; `flip` names BARs to register with `register_flipped`.

        Raises `UsageError` if the windows cannot hold its BARs, and `IoctlError`.
        """
        slot = len(self.functions) + 1
        if slot == _SLOTS:
            raise UsageError(f"the guest's PCI bus has {_SLOTS - 1} slots: pass fewer --vfio")
        requester_id = slot << 3
        spi = self._layout.intx_spi(slot)
        function = PciFunction(
            self._vm, self.memory, self._routes, device, requester_id, spi, self.counts, flip
        )
        self.functions[slot] = self._owned.enter_context(function)
        self._check_windows(device)
        return function

    def _check_windows(self, device: VfioDevice) -> None:
        bars = [bar for function in self.functions.values() for bar in function.bars]
        for wide, window in enumerate(self._layout.windows):
            need = sum(bar.region.size for bar in bars if bar.wide == wide)
            if need > window.size:
                raise UsageError(
                    f"the {64 if wide else 32}-bit BARs up to {device.function} need "
                    f"{size_text(need)}, and the guest's PCI window for them has "
                    f"{size_text(window.size)}: leave a device out"
                )

    def read(self, offset: int, size: int) -> int:
        """Read config space at byte `offset` of ECAM."""
        function, register = self._decode(offset)
        return function.read(register, size) if function else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Write config space at byte `offset` of ECAM."""
        function, register = self._decode(offset)
        if function and function.write(register, size, value):
            self._place()

    def close(self) -> None:
        """Remove the functions: their memslots, interrupts and mappings."""
        self._owned.close()
        self.functions.clear()

    def _decode(self, offset: int) -> tuple[PciFunction | None, int]:
        devfn, register = divmod(offset, _FUNCTION_CONFIG)
        return (None if devfn & 7 else self.functions.get(devfn >> 3)), register

    def _place(self) -> None:
        """Move the BARs to the addresses in their registers.

        A BAR outside the windows, or over another one, is at no address.
        """
        wanted: dict[GuestBar, int] = {}
        for function in self.functions.values():
            for bar, gpa in function.wanted():
                inside = any(w.contains(gpa, bar.region.size) for w in self._layout.windows)
                if inside and not any(
                    gpa < start + other.region.size and start < gpa + bar.region.size
                    for other, start in wanted.items()
                ):
                    wanted[bar] = gpa
        bars = [bar for function in self.functions.values() for bar in function.bars]
        for bar in bars:
            if bar.gpa != wanted.get(bar):
                bar.remove()
        for bar in bars:
            if bar.gpa != wanted.get(bar):
                bar.place(wanted[bar])
