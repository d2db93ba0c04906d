# SPDX-License-Identifier: GPL-2.0-only
"""The job of ``pyvmm run``: assign devices to a machine, let a guest access them, report."""

import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pyvmm import sandbox
from pyvmm.caps import CapsReport, negotiate
from pyvmm.faults import FaultRecord, Policy, auto
from pyvmm.faults.policy import by_region
from pyvmm.faults.repairs import MappedMemory
from pyvmm.guest.payload import Payload
from pyvmm.kvm.system import System
from pyvmm.machine.machine import Machine
from pyvmm.machine.run_loop import RunOutcome
from pyvmm.passthrough import probe_bars
from pyvmm.passthrough.assigned import AssignedDevice
from pyvmm.passthrough.device_report import DeviceReport, report_device
from pyvmm.passthrough.probe_bars import ALIASES, BarProbe, Write
from pyvmm.passthrough.slot_report import SlotReport, report_slots
from pyvmm.pci.bar_slots import SlotOutcome, require_regions
from pyvmm.vfio.bdf import Bdf
from pyvmm.vfio.iommu_modes import AUTO
from pyvmm.vfio.rebind import bind_to_vfio
from pyvmm.vfio.sysfs import PciFunction

if TYPE_CHECKING:
    from pyvmm.provenance import Recorder

_COUNT = struct.Struct("<Q")
_BAR = struct.Struct("<QQQQQ")


@dataclass(frozen=True)
class Job:
    """The options of a run.

    Attributes:
        devices: PCI addresses, as ``0000:01:00.0``.
        iommu_mode: one of `pyvmm.vfio.iommu_modes.MODES`, or ``auto``.
        bind: bind the devices to a vfio driver for the run.
        writes: words for the guest to write and read back.
        guest: a payload file to run instead of the built-in probes, or None.
        console: receives what the payload prints; None is stdout.
        on_fault: the reaction to an access that KVM cannot resolve.
        on_fault_in: the reaction by region (a BAR, or ``RAM``), where it differs.
        flip: names of BARs to register as anonymous memory and to replace afterwards.
        sandbox: restrict this process for good before the guest runs (`pyvmm.sandbox.enter`).
        recorder: records the kernel's own path to each fault, or None.
    """

    devices: Sequence[str]
    iommu_mode: str = AUTO
    bind: bool = False
    writes: Sequence[Write] = ()
    guest: Path | None = None
    console: BinaryIO | None = None
    on_fault: Policy = auto
    on_fault_in: Mapping[str, Policy] = field(default_factory=dict)
    flip: frozenset[str] = frozenset()
    sandbox: bool = False
    recorder: "Recorder | None" = None


@dataclass(frozen=True)
class DeviceResult:
    """A device's description, and the outcome of each part of its BARs."""

    report: DeviceReport
    slots: tuple[SlotOutcome, ...]


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes:
        caps: the host's capabilities.
        devices: one entry per device, in the order of the job.
        probes: the guest's accesses to the BARs; empty if a payload of the user's ran.
        guest: how that payload ended, or None.
        exits: number of exits by kind.
        faults: each fault and its fix, in order.
        memslots: all memslots before the guest runs, RAM included.
    """

    caps: CapsReport
    devices: tuple[DeviceResult, ...]
    probes: tuple[BarProbe, ...] = ()
    guest: RunOutcome | None = None
    exits: dict[str, int] = field(default_factory=dict)
    faults: tuple[FaultRecord, ...] = ()
    memslots: tuple[SlotReport, ...] = ()


def run_job(job: Job) -> JobResult:
    """Run `job`. On return and on every exception, devices are back with their old drivers.

    If the process is killed, they are soon afterwards.

    Raises `PyvmmError` with a one-line explanation.
    """
    addresses = Bdf.parse_all(job.devices)
    with ExitStack() as stack:
        system = stack.enter_context(System.open())
        caps = negotiate(system)
        if job.bind:  # before anything is mapped: each device's guardian inherits mappings
            for address in addresses:
                stack.enter_context(bind_to_vfio(PciFunction.find(address)))
        machine = stack.enter_context(Machine(system, console=job.console))
        machine.faults.recorder = job.recorder
        machine.faults.policy = by_region(job.on_fault_in, job.on_fault)
        devices: list[AssignedDevice] = []
        for address in addresses:
            device = AssignedDevice(
                machine,
                address,
                mode=job.iommu_mode,
                beside=tuple(devices),
                flip=job.flip,
            )
            devices.append(stack.enter_context(device))
        assigned = tuple(DeviceResult(report_device(d.device), tuple(d.slots)) for d in devices)
        bars = [bar for device in devices for bar in device.bars]
        mapped = {bar.region.name for bar in bars if bar.mapping.areas}
        require_regions("--flip", job.flip, mapped, "that can be mapped")
        known = {bar.region.name for bar in bars} | {MappedMemory.name}
        require_regions("--on-fault", job.on_fault_in, known, "that is a memory BAR")
        writable = bool(job.writes or job.guest)
        machine.windows += probe_bars.windows(bars, writable=writable)
        machine.load(_payload(job, machine))
        memslots = report_slots(machine.vm)
        if job.sandbox:
            sandbox.enter()
        if job.guest:
            machine.enter(_bar_table(devices))
            outcome = machine.run()
            return JobResult(
                caps,
                assigned,
                guest=outcome,
                exits=outcome.exits,
                faults=tuple(machine.faults.records),
                memslots=memslots,
            )
        probes = tuple(
            probe for device in devices for probe in probe_bars.probe(machine, device, job.writes)
        )
        exits: dict[str, int] = {}
        for probe in probes:
            for kind, count in probe.exits.items():
                exits[kind] = exits.get(kind, 0) + count
        return JobResult(
            caps,
            assigned,
            probes=probes,
            exits=exits,
            faults=tuple(machine.faults.records),
            memslots=memslots,
        )


def _payload(job: Job, machine: Machine) -> Payload:
    if job.guest:
        return Payload.of_file(job.guest, machine.arch.NAME)
    return Payload.builtin(probe_bars.PAYLOAD, machine.arch.NAME)


def _bar_table(devices: Sequence[AssignedDevice]) -> bytes:
    """Return the argument block of a user's payload: the number of BARs, and a record for each.

    A record is five 64-bit words: size in bytes, GPA, and the GVA in each memory type, least
    permissive first (device, non-cacheable, write-back).
    """
    bars = [bar for device in devices for bar in device.bars]
    gvas = sorted(ALIASES.values())
    records = (_BAR.pack(b.region.size, b.gpa, *(base + b.gpa for base in gvas)) for b in bars)
    return _COUNT.pack(len(bars)) + b"".join(records)
