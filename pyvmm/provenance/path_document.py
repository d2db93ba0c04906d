# SPDX-License-Identifier: GPL-2.0-only
"""The JSON form of a kernel path, which commands share."""

from typing import Any

from pyvmm.provenance.chain import KernelPath
from pyvmm.provenance.judge import verdict


def to_json(path: KernelPath) -> dict[str, Any]:
    """Return the path with its verdict, as a JSON object."""
    fault, slot = path.fault, path.request
    return {
        "ioctl": path.ioctl,
        "result": path.result,
        "verdict": verdict(path),
        "short": path.short,
        "causes": [{"function": step.function, "result": step.result} for step in path.causes],
        "returns": [{"function": step.function, "result": step.result} for step in path.steps],
        "log": path.log,
        "ipa": fault and fault.ipa,
        "esr": fault and fault.esr,
        "far": fault and fault.far,
        "pc": fault and fault.pc,
        "hva": path.hva,
        "memslot": slot
        and {"slot": slot.slot, "gpa": slot.gpa, "size": slot.size, "hva": slot.hva},
        "thread": path.thread,
    }
