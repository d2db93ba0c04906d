# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm explain --live PID``: wait for the next ioctl that KVM fails in a VMM, and explain it."""

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pyvmm.cli.progress import progress
from pyvmm.errors import Status
from pyvmm.explain import live
from pyvmm.explain.live import LiveFailure
from pyvmm.kvm.system import System
from pyvmm.provenance.path_document import to_json as path_to_json
from pyvmm.uapi.kvm import KVM_RUN
from pyvmm.units import size
from pyvmm.why import Slot


def run(options: argparse.Namespace, slots: Sequence[Slot] | None, schema: str) -> int:
    """Wait, print the explanation, and return the exit status."""
    pid: int = options.live
    with live.record(pid) as recorder, progress() as report:
        waiting = f"waiting until KVM fails an ioctl of process {pid} (Ctrl-C ends it)"
        report(waiting, None)
        path = live.wait(pid, recorder, options.timeout, lambda: report(waiting, None))
        # A VM of our own answers for the kernel and the CPU; it is never run.
        with System.open() as system, system.create_vm() as vm:
            failure = live.explain(pid, path, vm.host, slots)
    if options.json:
        print(json.dumps(_document(failure, schema), indent=1))
    else:
        for line in _lines(failure):
            print(line)
    return Status.DONE


def _lines(failure: LiveFailure) -> Iterator[str]:
    path, fault, decided = failure.path, failure.path.fault, failure.path.decided_by
    result = path.result.removeprefix("-")
    verb = "failed with" if path.result.startswith("-") else "returned"
    yield (
        f"process {failure.pid} ({failure.command}), thread {path.thread} ({failure.thread}): "
        f"{path.ioctl} {verb} {result}"
    )
    if fault:
        at = "the page tables on the page at" if fault.table else "at"
        yield (
            f"  access:  {fault.access} {at} GPA {fault.gpa:#x}, GVA {fault.far:#x}, "
            f"by the instruction at PC {fault.pc:#x} (ESR_EL2 {fault.esr:#x})"
        )
    yield f"  memslot: {_slot(failure)}"
    if failure.hva is not None:
        vma = failure.vma
        mapped = f"{vma.perms} {vma.path or 'anonymous'}" if vma else "not mapped"
        yield f"  host:    HVA {failure.hva:#x}, {mapped}"
    if decided:
        yield f"  decided: {decided.function} returned {decided.result}"
    yield f"  path:    {path.short}"
    for n, (name, why) in enumerate(failure.causes):
        yield f"  {'or:     ' if n else 'cause:  '} {name}: {why}"
    if not failure.causes:
        yield "  cause:   unknown: no condition that pyvmm knows fits the kernel's path"


def _slot(failure: LiveFailure) -> str:
    slot = failure.slot
    if slot is None:
        return "not known; --slots FILE gives the VMM's memslots"
    if slot.number < 0:
        return f"GPA {slot.gpa:#x} is at HVA {slot.hva:#x}; number and size are not known"
    asked = "" if failure.path.ioctl == KVM_RUN.name else "the request: "
    return (
        f"{asked}slot {slot.number}, GPA {slot.gpa:#x}, {size(slot.size)}, HVA {slot.hva:#x}, "
        f"flags {slot.flags:#x}"
    )


def _document(failure: LiveFailure, schema: str) -> dict[str, Any]:
    path, slot, vma = failure.path, failure.slot, failure.vma
    return {
        "schema": schema,
        "host": {"kernel": platform.release(), "arch": platform.machine()},
        "failure": {
            "ioctl": path.ioctl,
            "errno": path.result[1:] if path.result.startswith("-") else None,
            "arguments": {},
            "conditions": [asdict(finding) for finding in failure.findings],
        },
        "process": None,
        "live": {
            "pid": failure.pid,
            "command": failure.command,
            "thread": {"tid": path.thread, "name": failure.thread},
            "gpa": path.fault and path.fault.gpa,
            "access": path.fault and path.fault.access,
            "hva": failure.hva,
            "memslot": slot
            and {
                "slot": None if slot.number < 0 else slot.number,
                "gpa": slot.gpa,
                "size": slot.size,
                "hva": slot.hva,
            },
            "vma": vma
            and {"start": vma.start, "end": vma.end, "perms": vma.perms, "path": vma.path},
            "decided_by": path.decided_by and path.decided_by.function,
            "causes": [{"name": name, "why": why} for name, why in failure.causes],
            "provenance": path_to_json(path),
        },
    }
