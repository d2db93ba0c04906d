# SPDX-License-Identifier: GPL-2.0-only
"""The main job: negotiate, assign devices, let a guest touch them, and tell what happened."""

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pyvmm.caps import Report, negotiate
from pyvmm.errors import UsageError
from pyvmm.faults import FaultRecord, Policy, auto
from pyvmm.guest.payload import Payload
from pyvmm.kvm.system import System
from pyvmm.machine.machine import Machine
from pyvmm.machine.run_loop import Outcome
from pyvmm.passthrough import AssignedDevice, probe_bars
from pyvmm.passthrough.bar_slots import SlotOutcome
from pyvmm.passthrough.device_report import DeviceReport, report_device
from pyvmm.passthrough.probe_bars import VIEWS, Probed, Write
from pyvmm.vfio.iommu_modes import AUTO

_COUNT = struct.Struct("<Q")
_BAR = struct.Struct("<QQQQQ")


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        guest: a payload's file, to run in place of the built-in probes.
        on_fault: what to do where KVM can't resolve an access.
        flip: BARs that are to be mapped behind KVM's back, by name.
    """

    devices: Sequence[str]
    iommu_mode: str = AUTO
    bind: bool = False
    writes: Sequence[Write] = ()
    guest: Path | None = None
    on_fault: Policy = auto
    flip: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DeviceOutcome:
    """A device as it was found, and what became of its BARs."""

    report: DeviceReport
    slots: tuple[SlotOutcome, ...]


@dataclass(frozen=True)
class JobOutcome:
    """Everything that happened. `guest` is how the user's own payload ended, if one ran."""

    caps: Report
    devices: tuple[DeviceOutcome, ...]
    probes: tuple[Probed, ...] = ()
    guest: Outcome | None = None
    exits: dict[str, int] = field(default_factory=dict)
    faults: tuple[FaultRecord, ...] = ()


def perform(plan: Plan) -> JobOutcome:
    """Do it, and undo it: whatever happens, devices go back to where they were.

    Raises `PyvmmError`s, each with one line on what is wrong.
    """
    with ExitStack() as stack:
        system = stack.enter_context(System.open())
        caps = negotiate(system)
        machine = stack.enter_context(Machine(system))
        machine.faults.policy = plan.on_fault
        devices: list[AssignedDevice] = []
        for address in plan.devices:
            device = AssignedDevice(
                machine,
                caps,
                address,
                mode=plan.iommu_mode,
                bind=plan.bind,
                beside=tuple(devices),
                flip=plan.flip,
            )
            devices.append(stack.enter_context(device))
        found = tuple(DeviceOutcome(report_device(d.device), tuple(d.slots)) for d in devices)
        bars = [bar for device in devices for bar in device.bars]
        if missing := plan.flip - {bar.region.name for bar in bars}:
            raise UsageError(f"there is no {' or '.join(sorted(missing))} to flip")
        writable = bool(plan.writes or plan.guest)
        machine.windows += probe_bars.windows(bars, writable=writable)
        if plan.guest:
            machine.load(Payload.of_file(plan.guest, machine.arch.NAME))
            machine.enter(_table_of(devices))
            ran = machine.run()
            return JobOutcome(
                caps, found, guest=ran, exits=ran.exits, faults=tuple(machine.faults.records)
            )
        machine.load(Payload.builtin(probe_bars.PAYLOAD, machine.arch.NAME))
        probes = tuple(
            probed
            for device in devices
            for probed in probe_bars.probe(machine, device, plan.writes)
        )
        exits: dict[str, int] = {}
        for probed in probes:
            for kind, count in probed.exits.items():
                exits[kind] = exits.get(kind, 0) + count
        return JobOutcome(
            caps, found, probes=probes, exits=exits, faults=tuple(machine.faults.records)
        )


def _table_of(devices: Sequence[AssignedDevice]) -> bytes:
    """The argument block of a user's payload: how many BARs, and for each five words of 64 bits.

    They are its size in bytes, its GPA, and its GVA in each memory type, least permissive first
    (device, non-cacheable, write-back).
    """
    bars = [bar for device in devices for bar in device.bars]
    views = [base for _, base in sorted(VIEWS.items(), key=lambda item: item[1])]
    records = (_BAR.pack(b.region.size, b.gpa, *(base + b.gpa for base in views)) for b in bars)
    return _COUNT.pack(len(bars)) + b"".join(records)
