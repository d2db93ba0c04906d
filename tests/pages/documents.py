# SPDX-License-Identifier: GPL-2.0-only
"""Small documents, for what a page does with members that no real run has."""

from typing import Any

_PATH = {"short": "user_mem_abort -EFAULT"}
_FAULT = {
    "gpa": 0x1_8000_0000,
    "size": 4,
    "access": "read",
    "errno": "EFAULT",
    "source": "reconstructed",
    "cause": "hva-unmapped",
    "why": "nothing is mapped",
    "fix": "replay",
    "outcome": "resolved",
    "how": "mapped it again",
    "region": "BAR4",
    "instruction": "ldr w7, [x4]",
    "provenance": _PATH,
}
_VERDICT = {"name": "vfio", "supported": False, "why": "no /dev/vfio"}
_CAPS = {"host": {"kernel": "7.3.4", "arch": "aarch64"}, "verdicts": [_VERDICT]}


def _slot(region: str, gpa: int, outcome: str, **more: Any) -> dict[str, Any]:
    slot = {"bdf": "0000:01:00.0", "region": region, "offset": 0, "size": 1 << 29, "gpa": gpa}
    slot |= {"outcome": outcome, "why": "why", "slot": None, "errno": None, "cause": None}
    return slot | {"mark": None} | more


def _probe(result: str) -> dict[str, Any]:
    probe = {"bdf": "0000:01:00.0", "region": "BAR4", "offset": 0, "attribute": "normal-nc"}
    return probe | {"access": "read", "result": result, "value": 7, "syndrome": 1, "exits": 0}


RUN: dict[str, Any] = {
    "schema": "pyvmm.run/1",
    "caps": _CAPS,
    "devices": [
        {
            "bdf": "0000:01:00.0",
            "vendor": "0x1234",
            "device": "0x1111",
            "driver": "vfio-pci",
            "iommu_mode": "iommufd",
        }
    ],
    "memslots": [
        _slot("BAR4", 0x1_8000_0000, "registered", slot=1),
        _slot("BAR2", 0x2_0000_0000, "rejected", errno="EINVAL", cause="a-cause", mark="known"),
        _slot("BAR0", 0x3_0000_0000, "emulated", cause="unmappable"),
    ],
    "stage2": [
        {"slot": 0, "gpa": 0x4000_0000, "size": 1 << 22, "stage2": "Normal-WB", "mark": "known"},
        {"slot": 1, "gpa": 0x1_8000_0000, "size": 1 << 29, "stage2": "Device-x", "mark": "known"},
    ],
    "probes": [_probe("ok"), _probe("abort")],
    "faults": [_FAULT, _FAULT | {"gpa": None, "access": None, "outcome": "stopped"}],
    "exits": {"mmio": 1},
    "result": "ok",
}

_PROVOKED: dict[str, Any] = {
    "name": "unmapped",
    "how": "munmap",
    "expected": "hva-unmapped",
    "resolved_by": None,
    "kernel": "bare EFAULT",
    "fault": _FAULT,
    "rejected": None,
    "failure": None,
    "cause": "hva-unmapped",
    "mark": "known",
    "as_expected": True,
    "guest": "read 0x0",
    "skipped": None,
    "provenance": _PATH,
    "disagreements": [],
}
PROVOKE: dict[str, Any] = {
    "schema": "pyvmm.provoke/1",
    "provoked": [
        _PROVOKED,
        _PROVOKED | {"name": "other", "cause": None, "mark": None, "as_expected": False},
        _PROVOKED | {"name": "skipped", "skipped": "no device"},
    ],
}

BENCH: dict[str, Any] = {
    "schema": "pyvmm.bench/1",
    "date": "2026-11-21",
    "revision": "abc",
    "figures": [
        {"benchmark": "exits", "name": "pyvmm", "unit": "µs", "value": 24.5, "goal": None},
        {"benchmark": "exits", "name": "ratio", "unit": "", "value": 1.14, "goal": 1.25},
    ],
}
