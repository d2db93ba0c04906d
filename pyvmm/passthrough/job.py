# SPDX-License-Identifier: GPL-2.0-only
"""The job of ``pyvmm run``: assign devices to a machine, let a guest access them, report."""

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pyvmm.caps import CapsReport, negotiate
from pyvmm.errors import UsageError
from pyvmm.faults import FaultRecord, Policy, auto
from pyvmm.guest.payload import Payload
from pyvmm.kvm.system import System
from pyvmm.machine.machine import Machine
from pyvmm.machine.run_loop import RunOutcome
from pyvmm.passthrough import AssignedDevice, probe_bars
from pyvmm.passthrough.bar_slots import SlotOutcome
from pyvmm.passthrough.device_report import DeviceReport, report_device
from pyvmm.passthrough.probe_bars import ALIASES, BarProbe, Write
from pyvmm.vfio.iommu_modes import AUTO

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
        on_fault: the reaction to an access that KVM cannot resolve.
        flip: names of BARs to register as anonymous memory and to replace afterwards.
    """

    devices: Sequence[str]
    iommu_mode: str = AUTO
    bind: bool = False
    writes: Sequence[Write] = ()
    guest: Path | None = None
    on_fault: Policy = auto
    flip: frozenset[str] = frozenset()


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
    """

    caps: CapsReport
    devices: tuple[DeviceResult, ...]
    probes: tuple[BarProbe, ...] = ()
    guest: RunOutcome | None = None
    exits: dict[str, int] = field(default_factory=dict)
    faults: tuple[FaultRecord, ...] = ()


def run_job(job: Job) -> JobResult:
    """Run `job`. On return and on every exception, devices are back with their old drivers.

    Raises `PyvmmError` with a one-line explanation.
    """
    with ExitStack() as stack:
        system = stack.enter_context(System.open())
        caps = negotiate(system)
        machine = stack.enter_context(Machine(system))
        machine.faults.policy = job.on_fault
        devices: list[AssignedDevice] = []
        for address in job.devices:
            device = AssignedDevice(
                machine,
                address,
                mode=job.iommu_mode,
                bind=job.bind,
                beside=tuple(devices),
                flip=job.flip,
            )
            devices.append(stack.enter_context(device))
        assigned = tuple(DeviceResult(report_device(d.device), tuple(d.slots)) for d in devices)
        bars = [bar for device in devices for bar in device.bars]
        if missing := job.flip - {bar.region.name for bar in bars}:
            raise UsageError(f"--flip: no device has {' or '.join(sorted(missing))}")
        writable = bool(job.writes or job.guest)
        machine.windows += probe_bars.windows(bars, writable=writable)
        if job.guest:
            machine.load(Payload.of_file(job.guest, machine.arch.NAME))
            machine.enter(_bar_table(devices))
            outcome = machine.run()
            return JobResult(
                caps,
                assigned,
                guest=outcome,
                exits=outcome.exits,
                faults=tuple(machine.faults.records),
            )
        machine.load(Payload.builtin(probe_bars.PAYLOAD, machine.arch.NAME))
        probes = tuple(
            probe for device in devices for probe in probe_bars.probe(machine, device, job.writes)
        )
        exits: dict[str, int] = {}
        for probe in probes:
            for kind, count in probe.exits.items():
                exits[kind] = exits.get(kind, 0) + count
        return JobResult(
            caps, assigned, probes=probes, exits=exits, faults=tuple(machine.faults.records)
        )


def _bar_table(devices: Sequence[AssignedDevice]) -> bytes:
    """Return the argument block of a user's payload: the number of BARs, and a record for each.

    A record is five 64-bit words: size in bytes, GPA, and the GVA in each memory type, least
    permissive first (device, non-cacheable, write-back).
    """
    bars = [bar for device in devices for bar in device.bars]
    gvas = sorted(ALIASES.values())
    records = (_BAR.pack(b.region.size, b.gpa, *(base + b.gpa for base in gvas)) for b in bars)
    return _COUNT.pack(len(bars)) + b"".join(records)
