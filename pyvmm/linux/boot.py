# SPDX-License-Identifier: GPL-2.0-only
"""The job of ``pyvmm boot``: assign devices to a Linux guest, run it until its end, report."""

import mmap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dictionary
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pyvmm import kernel_image, sandbox
from pyvmm.arch.native import native
from pyvmm.errors import LackingError, UsageError
from pyvmm.faults import Faults, Policy, auto
from pyvmm.faults.policy import by_region
from pyvmm.faults.repairs import MappedMemory
from pyvmm.input_file import read_bytes
from pyvmm.kernel_image import KernelImage
from pyvmm.kvm.system import System
from pyvmm.linux import built_in_guest, loader
from pyvmm.linux.board import MAX_CPUS, RAM_BASE, Board
from pyvmm.linux.guest_console import GuestConsole
from pyvmm.linux.kallsyms import Kallsyms
from pyvmm.linux.linux_guest import GuestEnd, LinuxGuest
from pyvmm.linux.ram_bar import RamBar, RamBarName
from pyvmm.memory import Mapping
from pyvmm.pci.bar_slots import SlotOutcome, require_regions
from pyvmm.uapi.kvm import KVM_CAP_ARM_VM_IPA_SIZE, KVM_CAP_MAX_VCPUS
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.iommu_modes import AUTO, open_device
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.regions import Region
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.vfio.vfio_device import VfioDevice

_COMMAND_LINE = "console=ttyAMA0 panic=-1"


@dataclass(frozen=True)
class BootOptions:
    """The options of a boot.

    Attributes:
        console: receives the guest's output.
        image, initrd: files, or None for the built-in guest's.
        append: text after pyvmm's kernel command line.
        ram: bytes.
        ring: False to let every access to the UART exit.
        timeout: seconds from the first power-on, or None.
        source: the file descriptor of the guest's input, or None.
        on_fault: the reaction to an access that KVM cannot resolve.
        on_fault_in: the reaction by region (a BAR, or ``RAM``), where it differs.
        flip: names of BARs to register as anonymous memory and to replace afterwards.
        ram_bars: BARs that are RAM of the guest, each of another device, as ``BDF=BAR4``.
        started: called with each guest before it runs, for a thread that inspects it.
        sandbox: restrict this process for good before the guest runs (`pyvmm.sandbox.enter`).
    """

    console: BinaryIO
    image: Path | None = None
    initrd: Path | None = None
    append: str = ""
    cpus: int = 1
    ram: int = 256 << 20
    devices: Sequence[str] = ()
    iommu_mode: str = AUTO
    bind: bool = False
    ring: bool = True
    timeout: float | None = None
    source: int | None = None
    on_fault: Policy = auto
    on_fault_in: Dictionary[str, Policy] = field(default_factory=dict)
    flip: frozenset[str] = frozenset()
    ram_bars: Sequence[str] = ()
    started: Callable[[LinuxGuest], object] | None = None
    sandbox: bool = False


@dataclass
class BootResult:
    """The result of a boot.

    Attributes:
        end: how the guest ended.
        boots: the number of times that the guest was entered: one more than it rebooted.
        panic: the reason of a panic, or None.
        time_to_init: seconds from the first ``KVM_RUN`` to init in the last boot, or None.
        seconds: from the first ``KVM_RUN`` to the end, in the last boot.
        exits: the number of exits by kind.
        accesses: the number of accesses that exited, by device and kind.
        slots: the outcomes of the BARs' memslots where the guest last placed them, with the device.
        interrupts: the number of interrupts by device and mode (INTx, MSI or MSI-X).
        faults: the faults of all boots and their fixes.
        symbols: the guest's symbols of the faults' PCs in its kernel, such as ``memcpy+0x10``.
    """

    end: GuestEnd
    faults: Faults
    boots: int = 0
    panic: str | None = None
    time_to_init: float | None = None
    seconds: float = 0.0
    console_bytes: int = 0
    exits: Counter[str] = field(default_factory=Counter)
    accesses: Counter[tuple[str, str]] = field(default_factory=Counter)
    interrupts: dict[str, Counter[str]] = field(default_factory=dict)
    slots: list[tuple[str, SlotOutcome]] = field(default_factory=list)
    symbols: dict[int, str] = field(default_factory=dict)


def boot(options: BootOptions) -> BootResult:
    """Run the guest. On return and on every exception, devices are back with their old drivers.

    Raises `PyvmmError` with a one-line explanation.
    """
    if native().NAME != "arm64":
        raise LackingError(
            "boot runs arm64 guests on arm64 hosts: python -m pyvmm lab run --device disk -- boot"
        )
    names = [RamBarName.parse(text) for text in options.ram_bars]
    addresses = Bdf.parse_all([*options.devices, *(str(name.address) for name in names)])
    path = options.image or built_in_guest.find_image()
    kernel = kernel_image.read(path)
    initrd = (
        read_bytes(options.initrd, options.ram)
        if options.initrd
        else built_in_guest.make_initrd(path)
    )
    layout = loader.lay_out(kernel, len(initrd), options.ram)
    with ExitStack() as stack:
        system = stack.enter_context(System.open())
        if options.bind:  # before anything is mapped: each device's guardian inherits mappings
            for address in addresses:
                stack.enter_context(bind_to_vfio(PciFunction.find(address)))
        opened: list[VfioDevice] = []
        for address in addresses:
            beside = opened[0] if opened else None
            device = open_device(address, options.iommu_mode, beside=beside)
            opened.append(stack.enter_context(device))
        devices, others = opened[: len(options.devices)], opened[len(options.devices) :]
        ram_bars = [
            stack.enter_context(RamBar(device, name.bar))
            for device, name in zip(others, names, strict=True)
        ]
        board = _board(system, options, devices, ram_bars)
        ram = stack.enter_context(Mapping.anonymous(options.ram, align=2 << 20))
        ram.advise(mmap.MADV_HUGEPAGE)
        if devices:  # they share their IO address space
            devices[0].dma.map(RAM_BASE, ram)
            for bar, window in zip(ram_bars, board.memory[1:], strict=True):
                bar.map_for_dma(devices[0], window.start)
        tree = board.device_tree(
            f"{_COMMAND_LINE} {options.append}".rstrip(),
            range(RAM_BASE + layout.initrd, RAM_BASE + layout.initrd + len(initrd)),
            range(1, len(devices) + 1),
        )
        _check_regions(options, devices)
        if options.sandbox:
            sandbox.enter(linux_guest=True)
        faults = Faults(by_region(options.on_fault_in, options.on_fault))
        result = BootResult(GuestEnd("reset"), faults)
        deadline = time.monotonic() + options.timeout if options.timeout else float("inf")
        while result.end.reason == "reset":
            if result.boots:
                for device in devices:
                    if device.resettable:
                        device.reset()
            _load(ram, layout, kernel, initrd, tree)
            console = GuestConsole(options.console)
            with LinuxGuest(
                system,
                board,
                ram,
                layout,
                devices,
                console,
                faults,
                ram_bars,
                ring=options.ring,
                flip=options.flip,
            ) as guest:
                if options.started:
                    options.started(guest)
                result.end = guest.run(deadline, options.source)
                _add(result, guest, console)
                _add_symbols(result, guest, kernel)
        return result


def _add(result: BootResult, guest: LinuxGuest, console: GuestConsole) -> None:
    """Add a boot to the result."""
    result.boots += 1
    result.seconds = time.monotonic() - guest.started
    result.panic = console.panic
    result.time_to_init = console.init - guest.started if console.init else None
    result.console_bytes += console.size
    result.exits.update(guest.exits())
    result.accesses.update(guest.accesses())
    for device, counts in guest.interrupts().items():
        result.interrupts.setdefault(device, Counter()).update(counts)
    result.slots = guest.slots()


def _add_symbols(result: BootResult, guest: LinuxGuest, kernel: KernelImage) -> None:
    """Add the symbols of new faults. Modules are not in the image."""
    pcs = {record.fault.report.pc for record in result.faults.records} - result.symbols.keys()
    offsets = {pc: guest.image_offset(pc) for pc in pcs if pc is not None}
    if not any(offset is not None for offset in offsets.values()):
        return
    symbols = Kallsyms.find(kernel.data)
    for pc, offset in offsets.items():
        if symbols and offset is not None and 0 <= offset < kernel.memory_size:
            result.symbols[pc] = symbols.describe(offset) or ""


def _check_regions(options: BootOptions, devices: Sequence[VfioDevice]) -> None:
    """Raise `UsageError` if no device has a BAR that an option names."""
    bars = [bar for device in devices for bar in _memory_bars(device)]
    mapped = {bar.name for bar in bars if "mmap" in bar.flags}
    require_regions("--flip", options.flip, mapped, "that can be mapped")
    known = {bar.name for bar in bars} | {MappedMemory.name}
    require_regions("--on-fault", options.on_fault_in, known, "that is a memory BAR")


def _memory_bars(device: VfioDevice) -> list[Region]:
    bars = (region for region in device.regions.values() if region.name.startswith("BAR"))
    return [bar for bar in bars if not device.config.is_port_bar(bar.index)]


def _board(
    system: System,
    options: BootOptions,
    devices: Sequence[VfioDevice],
    ram_bars: Sequence[RamBar],
) -> Board:
    most = min(system.check(KVM_CAP_MAX_VCPUS), MAX_CPUS)
    if not 0 < options.cpus <= most:
        raise UsageError(f"--cpus {options.cpus}: this host's guests have 1 to {most} CPUs")
    return Board.fitting(
        options.cpus,
        options.ram,
        [bar.size for bar in ram_bars],
        sum(bar.size for device in devices for bar in _memory_bars(device)),
        system.check(KVM_CAP_ARM_VM_IPA_SIZE),
    )


def _load(
    ram: Mapping, layout: loader.LoadLayout, kernel: KernelImage, initrd: bytes, tree: bytes
) -> None:
    ram.write(layout.kernel, kernel.data)
    ram.write(layout.initrd, initrd)
    ram.write(layout.tree, tree)
