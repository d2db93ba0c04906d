# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm explain``: why an ioctl of another VMM failed, and what KVM makes of its memory."""

import argparse
import json
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyvmm.cli import explain_live, output
from pyvmm.cli.option_types import process_id, seconds
from pyvmm.errno_names import errno_name
from pyvmm.errors import Status, UsageError
from pyvmm.explain import catalogue, conditions, failure, slots_file
from pyvmm.explain.conditions import SlotPart
from pyvmm.explain.failure import Failure
from pyvmm.explain.process import JudgedPart, Process, inspect
from pyvmm.kvm.system import System
from pyvmm.uapi.kvm import KVM_RUN
from pyvmm.units import size
from pyvmm.why import Finding, Host, Slot

SCHEMA = "pyvmm.explain/1"
_COLOURS = {"known": "red", "inferred": "yellow", "impossible": "dim"}


def run(options: argparse.Namespace) -> int:
    """Print the conditions that could be the reason; return the exit status."""
    if options.list:
        return _list(options)
    if options.live is not None:
        return _live(options)
    if options.timeout is not None:
        raise UsageError("--timeout limits --live PID: add that, or omit --timeout")
    if not options.failure and options.pid is None:
        raise UsageError("give a failed ioctl, or --pid PID of a running VMM: see explain --help")
    if len(options.failure) == 1 and options.failure[0] not in failure.IOCTLS:
        return _cause(options)
    failed = failure.parse(options.failure) if options.failure else None
    if options.all and options.json:
        raise UsageError("--all has no effect with --json, which lists every condition")
    if options.all and not failed:
        raise UsageError("--all has no effect without a failed ioctl")
    if options.slots and failed and failed.ioctl == KVM_RUN.name and options.pid is None:
        raise UsageError("--slots needs --pid for KVM_RUN: the VMM's mappings decide")
    slots = slots_file.read(options.slots) if options.slots else None
    with ExitStack() as stack:
        # A VM of our own answers for the kernel and the CPU; it is never run.
        host = stack.enter_context(stack.enter_context(System.open()).create_vm()).host
        process = inspect(options.pid, host, slots) if options.pid is not None else None
        findings = _findings(failed, host, slots, process) if failed else []
    if options.json:
        print(json.dumps(_document(failed, findings, process), indent=1))
        return Status.DONE
    if failed:
        title = f"{failed.ioctl} failed with {errno_name(failed.errno)}"
        if not findings:
            print(f"{title}: pyvmm knows no condition of this ioctl that gives this errno")
        else:
            shown = [f for f in findings if options.all or f.mark != "impossible"]
            output.table(title, ("", "condition", "why"), map(_row, shown))
            if shown:
                print(f"pyvmm explain {shown[0].name} describes the first one.")
            if rest := len(findings) - len(shown):
                print(f"{rest} other conditions are impossible here; --all lists them.")
    if process:
        _print_process(process)
    return Status.DONE


def _cause(options: argparse.Namespace) -> int:
    """Print the page about a cause."""
    if options.pid is not None or options.slots or options.all:
        raise UsageError("--pid, --slots and --all have no effect on a cause: leave them out")
    cause = catalogue.find(options.failure[0])
    if options.json:
        print(json.dumps(cause.to_json(), indent=1))
    else:
        print(cause.text(), end="")
    return Status.DONE


def _list(options: argparse.Namespace) -> int:
    given = vars(options)
    if options.failure or any(given[name] for name in ("pid", "live", "slots", "all", "json")):
        raise UsageError("--list takes nothing else: it prints the names of all causes")
    output.table(
        "", ("cause", "if"), ((c.name, c.places[0].condition.rule) for c in catalogue.all_causes())
    )
    return Status.DONE


def _live(options: argparse.Namespace) -> int:
    if options.failure or options.pid is not None or options.all:
        raise UsageError("--live PID takes no failed ioctl, --pid or --all: it waits for a failure")
    slots = slots_file.read(options.slots) if options.slots else None
    return explain_live.run(options, slots, SCHEMA)


def _findings(
    failed: Failure, host: Host, slots: Sequence[Slot] | None, process: Process | None
) -> list[Finding]:
    pid = process.pid if process else None
    if failed.ioctl != KVM_RUN.name:
        return conditions.of_registration(host, failed.slot(), failed.errno, slots, pid)
    parts = None
    if process and process.slots_known:
        parts = [judged.part for judged in process.parts]
    return conditions.of_run(host, failed.errno, parts, failed.arguments.get("gpa"), pid)


def _row(finding: Finding) -> tuple[output.Cell, ...]:
    return output.Styled(finding.mark, _COLOURS[finding.mark]), finding.name, finding.why


def _print_process(process: Process) -> None:
    held = ", ".join(f"{count} {kind}" for kind, count in process.descriptors.items())
    print(f"process {process.pid} ({process.command}) has {held or 'no KVM or vfio descriptor'}")
    if not process.slots_known:
        print("its memslots are not known (--slots FILE); this memory could be a guest's:")
    for part, findings in process.parts:
        print(_place(part))
        for finding in findings:
            print(f"    {finding.mark:<9} {finding.name}: {finding.why}")
    for vm in process.stage2:
        print(f"mapped in stage 2 of {vm.vm} (debugfs):{'' if vm.mapped else ' nothing'}")
        for start, end in vm.mapped:
            print(f"    IPA {start:#x} to {end:#x}, {size(end - start)}")


def _place(part: SlotPart) -> str:
    slot = "" if part.slot is None else f"slot {part.slot.number}, GPA {part.gpa:#x}, "
    mapped = f"{part.vma.perms} {part.vma.path or 'anonymous'}" if part.vma else "not mapped"
    return f"{slot}HVA {part.hva:#x}, {size(part.size)}: {mapped}"


def _document(
    failed: Failure | None, findings: Sequence[Finding], process: Process | None
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "host": {"kernel": platform.release(), "arch": platform.machine()},
        "failure": failed
        and {
            "ioctl": failed.ioctl,
            "errno": errno_name(failed.errno),
            "arguments": failed.arguments,
            "conditions": [asdict(finding) for finding in findings],
        },
        "process": process and _process(process),
    }


def _process(process: Process) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "command": process.command,
        "descriptors": process.descriptors,
        "slots_known": process.slots_known,
        "pieces": [_piece(judged) for judged in process.parts],
        "stage2": [asdict(vm) for vm in process.stage2],
    }


def _piece(judged: JudgedPart) -> dict[str, Any]:
    part = judged.part
    vma = part.vma and {
        "start": part.vma.start,
        "end": part.vma.end,
        "perms": part.vma.perms,
        "path": part.vma.path,
        "flags": sorted(part.vma.flags),
    }
    return {
        "slot": part.slot and part.slot.number,
        "gpa": part.gpa,
        "hva": part.hva,
        "size": part.size,
        "vma": vma,
        "findings": [asdict(finding) for finding in judged.findings],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm explain``."""
    parser.set_defaults(run=run)
    parser.description = (
        "Describe a cause by its name, or list the conditions that could have made an ioctl fail "
        "on this kernel and CPU, and the memory types that KVM gives a running VMM's memory. Each "
        "answer is known (the facts show it), inferred (it fits, but a deciding fact is missing) "
        "or impossible."
    )
    parser.epilog = (
        "KVM does not return memslots. FILE is a JSON list of objects with the members slot, "
        "guest_phys_addr, memory_size, userspace_addr and flags. Example: pyvmm explain "
        "KVM_SET_USER_MEMORY_REGION errno=EINVAL slot=1 guest_phys_addr=0x100000000 "
        "memory_size=0x1000 userspace_addr=0x7f0000000000"
    )
    parser.add_argument(
        "failure",
        nargs="*",
        metavar="CAUSE | IOCTL errno=NAME NAME=VALUE",
        help="a cause to describe, by its name; or "
        f"the ioctl that failed, one of {', '.join(failure.IOCTLS)}, and the members of its "
        "struct; for KVM_RUN gpa=, if known",
    )
    parser.add_argument("--pid", type=process_id, metavar="PID", help="a running VMM to inspect")
    parser.add_argument(
        "--live",
        type=process_id,
        metavar="PID",
        help="as root: wait until KVM fails an ioctl of this running VMM, and explain that",
    )
    parser.add_argument("--timeout", type=seconds, metavar="S", help="wait at most S seconds")
    parser.add_argument("--slots", type=Path, metavar="FILE", help="the VMM's memslots, as JSON")
    parser.add_argument("--list", action="store_true", help="list the causes and exit")
    parser.add_argument("--all", action="store_true", help="list impossible conditions too")
    parser.add_argument("--json", action="store_true", help=f"print JSON (schema {SCHEMA})")
