# SPDX-License-Identifier: GPL-2.0-only
"""The main job's outcome as JSON (schema ``pyvmm.run/1``), for others to script against."""

from dataclasses import asdict
from typing import Any, Literal

from pyvmm.faults import FaultRecord
from pyvmm.kvm.exits import Halt, SystemEvent
from pyvmm.passthrough.bar_slots import SlotOutcome
from pyvmm.passthrough.job import DeviceOutcome, JobOutcome
from pyvmm.passthrough.probe_bars import Probed

SCHEMA = "pyvmm.run/1"


def result_of(outcome: JobOutcome) -> Literal["ok", "fault", "error"]:
    """``fault`` where an access ended a run, ``error`` where the user's own payload did not end."""
    if any(probed.result == "fault" for probed in outcome.probes):
        return "fault"
    if outcome.guest and not isinstance(outcome.guest.ending, SystemEvent | Halt):
        return "error"
    return "ok"


def to_json(outcome: JobOutcome) -> dict[str, Any]:
    """The document; ``device`` is the first of ``devices``."""
    devices = [_device(device) for device in outcome.devices]
    return {
        "schema": SCHEMA,
        "caps": outcome.caps.to_json(),
        "device": devices[0],
        "devices": devices,
        "memslots": [
            _memslot(device.report.bdf, slot) for device in outcome.devices for slot in device.slots
        ],
        "probes": [_probe(probed) for probed in outcome.probes],
        "faults": [fault_to_json(record) for record in outcome.faults],
        "exits": {"mmio": 0, **outcome.exits},
        "result": result_of(outcome),
    }


def fault_to_json(record: FaultRecord) -> dict[str, Any]:
    """A fault as the schema has it, and what else is known of it."""
    fault, report = record.fault, record.fault.report
    return {
        "gpa": report.gpa,
        "size": report.size,
        "access": report.access,
        "errno": report.errno,
        "source": report.source,
        "cause": fault.cause,
        "why": fault.why,
        "fix": str(record.fix),
        "outcome": record.outcome,
        "how": record.how,
        "attempts": record.attempts,
        "possible": [str(remedy.fix) for remedy in fault.remedies],
        "region": fault.region,
        "exit": report.exit.kind,
        "pc": report.detail.pc,
        "va": report.detail.va,
        "instruction": _text(report.detail.instruction),
        "memory_type": report.detail.memory_type,
        "table": report.detail.table,
        "untold": report.detail.untold,
    }


def _text(instruction: object) -> str | None:
    return None if instruction is None else str(instruction)


def _device(device: DeviceOutcome) -> dict[str, Any]:
    return asdict(device.report)


def _memslot(bdf: str, slot: SlotOutcome) -> dict[str, Any]:
    document = asdict(slot)
    return {"bdf": bdf, **document.pop("part"), **document}


def _probe(probed: Probed) -> dict[str, Any]:
    document = asdict(probed)
    del document["ending"]
    return document | {"exits": sum(probed.exits.values())}
