# SPDX-License-Identifier: GPL-2.0-only
"""The JSON form of a job's result (schema ``pyvmm.run/1``), for scripts."""

from dataclasses import asdict
from typing import Any, Literal

from pyvmm.faults import FaultRecord
from pyvmm.kvm.exits import Halt, SystemEvent
from pyvmm.passthrough.job import DeviceResult, JobResult
from pyvmm.passthrough.probe_bars import BarProbe
from pyvmm.pci.bar_slots import SlotOutcome
from pyvmm.provenance.path_document import to_json as path_to_json

SCHEMA = "pyvmm.run/1"


def result_of(result: JobResult) -> Literal["ok", "fault", "error"]:
    """Return how the job ended.

    ``fault`` if an access stopped a guest, ``error`` if the user's payload did not end by itself.
    """
    if any(probe.result == "fault" for probe in result.probes):
        return "fault"
    if result.guest and not isinstance(result.guest.last_exit, SystemEvent | Halt):
        return "error"
    return "ok"


def to_json(result: JobResult) -> dict[str, Any]:
    """Return the whole document; its ``device`` is the first of its ``devices``."""
    devices = [_device(device) for device in result.devices]
    return {
        "schema": SCHEMA,
        "caps": result.caps.to_json(),
        "device": devices[0],
        "devices": devices,
        "memslots": [
            memslot_to_json(device.report.bdf, slot)
            for device in result.devices
            for slot in device.slots
        ],
        "stage2": [asdict(slot) for slot in result.memslots],
        "probes": [_probe(probe) for probe in result.probes],
        "faults": [fault_to_json(record) for record in result.faults],
        "exits": {"mmio": 0, **result.exits},
        "result": result_of(result),
    }


def fault_to_json(record: FaultRecord) -> dict[str, Any]:
    """Return a fault and its fix in the form that ``run`` and ``provoke`` share."""
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
        "pc": report.pc,
        "va": report.va,
        "instruction": _text(report.instruction),
        "memory_type": report.memory_type,
        "table": report.table,
        "untold": report.incomplete,
        "provenance": record.path and path_to_json(record.path),
    }


def _text(instruction: object) -> str | None:
    return None if instruction is None else str(instruction)


def _device(device: DeviceResult) -> dict[str, Any]:
    return asdict(device.report)


def slot_to_json(slot: SlotOutcome) -> dict[str, Any]:
    """Return the outcome for a part of a BAR; a part without a memslot is emulated."""
    return asdict(slot) | {"fallback": None if slot.outcome == "registered" else "emulate"}


def memslot_to_json(bdf: str, slot: SlotOutcome) -> dict[str, Any]:
    """Return the outcome for a part of a BAR of the function at `bdf`."""
    document = slot_to_json(slot)
    return {"bdf": bdf, **document.pop("part"), **document}


def _probe(probe: BarProbe) -> dict[str, Any]:
    document = asdict(probe)
    del document["ending"]
    return document | {"exits": sum(probe.exits.values())}
