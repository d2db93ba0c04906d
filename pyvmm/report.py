# SPDX-License-Identifier: GPL-2.0-only
"""The main job's outcome as JSON (schema ``pyvmm.run/1``), for others to script against."""

from dataclasses import asdict
from typing import Any, Literal

from pyvmm.assigned.slots import SlotOutcome
from pyvmm.job import DeviceOutcome, JobOutcome
from pyvmm.kvm.exits import Halt, SystemEvent
from pyvmm.probing import Probed

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
        "faults": [],
        "exits": {"mmio": 0, **outcome.exits},
        "result": result_of(outcome),
    }


def _device(device: DeviceOutcome) -> dict[str, Any]:
    return asdict(device.report)


def _memslot(bdf: str, slot: SlotOutcome) -> dict[str, Any]:
    document = asdict(slot)
    return {"bdf": bdf, **document.pop("part"), **document}


def _probe(probed: Probed) -> dict[str, Any]:
    document = asdict(probed)
    del document["ending"]
    return document | {"exits": sum(probed.exits.values())}
