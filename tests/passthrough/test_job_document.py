# SPDX-License-Identifier: GPL-2.0-only
"""The document's schema, checked with constructed results."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pyvmm.caps.caps_report import CapsReport
from pyvmm.kvm.exits import Exit, Halt, RunFailure, Shutdown, SystemEvent
from pyvmm.machine.run_loop import RunOutcome
from pyvmm.passthrough import DeviceResult, JobResult
from pyvmm.passthrough.device_report import DeviceReport
from pyvmm.passthrough.job_document import result_of, to_json
from pyvmm.passthrough.probe_bars import BarProbe
from pyvmm.pci.bar_slots import Part, SlotOutcome

CAPS = CapsReport("7.2", "aarch64", 12, [], None, [])
DEVICE = DeviceReport("0000:01:00.0", "0x1234", "0x1111", "vfio-pci", "iommufd", 3, (), (), ())
SLOT = SlotOutcome(Part("BAR4", 0, 1 << 29, 1 << 32), "registered", "it fits", slot=2)
BAR_PROBE = BarProbe(
    bdf="0000:01:00.0",
    region="BAR4",
    offset=0,
    width=4,
    attribute="normal-wb",
    access="read",
    result="ok",
    value=7,
    syndrome=0,
    exits={"mmio": 1},
    ending=None,
)
RESULT = JobResult(CAPS, (DeviceResult(DEVICE, (SLOT,)),), (BAR_PROBE,), exits={"mmio": 1})

# The keys of schema pyvmm.run/1. Keys may be added, never removed.
MEMSLOT = "slot gpa size region outcome errno cause why cacheability mark fallback"
KEYS = {
    "device": "bdf vendor device driver iommu_mode regions",
    "caps": "schema host kvm capabilities features verdicts",
    "exits": "mmio",
}


@pytest.mark.parametrize(("part", "keys"), KEYS.items())
def test_no_key_is_missing(part: str, keys: str) -> None:
    assert set(keys.split()) <= to_json(RESULT)[part].keys()


def test_a_memslot_has_its_keys() -> None:
    [slot] = to_json(RESULT)["memslots"]
    assert set(MEMSLOT.split()) <= slot.keys()
    assert (slot["gpa"], slot["slot"], slot["outcome"]) == (1 << 32, 2, "registered")


def test_a_probe_has_its_keys() -> None:
    [probe] = to_json(RESULT)["probes"]
    expected: dict[str, Any] = {"region": "BAR4", "attribute": "normal-wb", "access": "read"}
    expected |= {"result": "ok", "value": 7, "exits": 1}
    assert expected.items() <= probe.items()


def test_the_document_is_json() -> None:
    document = to_json(RESULT)
    assert json.loads(json.dumps(document))["schema"] == "pyvmm.run/1"


@pytest.mark.parametrize(
    ("ending", "result"),
    [
        (SystemEvent(1, ()), "ok"),
        (Halt(), "ok"),
        (Shutdown(), "error"),
        (RunFailure(14), "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_result_of_a_payload(ending: Exit, result: str) -> None:
    assert result_of(replace(RESULT, guest=RunOutcome(ending, {}))) == result


@pytest.mark.parametrize("result", ["ok", "abort", "skipped", "fault"])
def test_result_of_the_probes(result: Any) -> None:
    job_result = replace(RESULT, probes=(BAR_PROBE, replace(BAR_PROBE, result=result)))
    assert result_of(job_result) == ("fault" if result == "fault" else "ok")
