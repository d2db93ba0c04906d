# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm explain``: why an ioctl of another VMM failed, and what KVM makes of its memory."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyvmm.cli import output
from pyvmm.errno_names import errno_name
from pyvmm.errors import LackingError, Status, UsageError
from pyvmm.explain import memslots, question, running, slots
from pyvmm.explain.backing import Piece
from pyvmm.explain.finding import Finding
from pyvmm.explain.host import Host, this_host
from pyvmm.explain.process import Process, look
from pyvmm.explain.question import Question
from pyvmm.uapi.kvm import KVM_RUN
from pyvmm.units import size

SCHEMA = "pyvmm.explain/1"
_COLOURS = {"known": "red", "inferred": "yellow", "impossible": "dim"}


def run(options: argparse.Namespace) -> int:
    """Print the conditions that could be the reason; return the exit status."""
    if not options.failure and options.pid is None:
        raise UsageError("give a failed ioctl, or --pid PID of a running VMM: see explain --help")
    asked = question.parse(options.failure) if options.failure else None
    told = slots.read(options.slots) if options.slots else slots.Slots()
    with this_host() as host:
        host = host.having(told)
        process = look(options.pid, host) if options.pid is not None else None
        findings = _findings(asked, host, process) if asked else []
        if options.json:
            print(json.dumps(_document(host, asked, findings, process), indent=1))
            return Status.DONE
    if asked:
        title = f"{asked.ioctl} failed with {errno_name(asked.errno)}"
        if not findings:
            print(f"{title}: that is no errno of its own conditions that pyvmm knows of")
        else:
            shown = [f for f in findings if options.all or f.mark != "impossible"]
            output.table(title, ("", "condition", "why"), map(_row, shown))
            if rest := len(findings) - len(shown):
                print(f"{rest} other conditions are impossible here; --all lists them.")
    if process:
        _print_process(process)
    return Status.DONE


def _findings(asked: Question, host: Host, process: Process | None) -> list[Finding]:
    if asked.ioctl == KVM_RUN.name:
        backing = process.pieces if process and process.slots_known else None
        return running.could_be(host, asked.errno, backing, asked.arguments.get("gpa"))
    try:
        return memslots.could_be(host, asked.slot(), asked.errno, process.pid if process else None)
    except OSError as error:
        raise LackingError(f"the process cannot be looked at: {error.strerror}") from None


def _row(finding: Finding) -> tuple[output.Cell, ...]:
    return output.Styled(finding.mark, _COLOURS[finding.mark]), finding.name, finding.why


def _print_process(process: Process) -> None:
    held = ", ".join(f"{count} {kind}" for kind, count in process.descriptors.items())
    print(f"process {process.pid} ({process.command}) holds {held or 'nothing of KVM or vfio'}")
    if not process.slots_known:
        print("its memslots are not told (--slots FILE): this is memory that could be a guest's")
    for piece in process.pieces:
        print(_place(piece))
        for finding in piece.findings:
            print(f"    {finding.mark:<9} {finding.name}: {finding.why}")
    for vm in process.stage2:
        print(f"debugfs {vm.vm} has in stage 2 now: {'' if vm.mapped else 'nothing'}".rstrip())
        for start, end in vm.mapped:
            print(f"    IPA {start:#x} to {end:#x}, {size(end - start)}")


def _place(piece: Piece) -> str:
    slot = "" if piece.slot is None else f"slot {piece.slot}, GPA {piece.gpa:#x}, "
    what = "not mapped"
    if piece.vma:
        what = f"{piece.vma.perms} {piece.vma.path or 'anonymous'}"
    return f"{slot}HVA {piece.hva:#x}, {size(piece.size)}: {what}"


def _document(
    host: Host, asked: Question | None, findings: Sequence[Finding], process: Process | None
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "host": {"kernel": host.report.kernel, "arch": host.report.arch},
        "failure": asked
        and {
            "ioctl": asked.ioctl,
            "errno": errno_name(asked.errno),
            "arguments": asked.arguments,
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
        "pieces": [_piece(piece) for piece in process.pieces],
        "stage2": [asdict(vm) for vm in process.stage2],
    }


def _piece(piece: Piece) -> dict[str, Any]:
    vma = piece.vma and {
        "start": piece.vma.start,
        "end": piece.vma.end,
        "perms": piece.vma.perms,
        "path": piece.vma.path,
        "flags": sorted(piece.vma.flags),
    }
    findings = [asdict(finding) for finding in piece.findings]
    place = {"slot": piece.slot, "gpa": piece.gpa, "hva": piece.hva, "size": piece.size}
    return {**place, "vma": vma, "findings": findings}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm explain``."""
    parser.set_defaults(run=run)
    parser.description = (
        "Say which conditions could have made an ioctl fail on this kernel and CPU, "
        "and what KVM makes of a running VMM's memory. Each answer is known (seen to be so), "
        "inferred (could be so; what decides cannot be seen) or impossible."
    )
    parser.epilog = (
        "KVM gives no memslots back. FILE is a JSON list of objects with the members slot, "
        "guest_phys_addr, memory_size, userspace_addr and flags. Example: pyvmm explain "
        "KVM_SET_USER_MEMORY_REGION errno=EINVAL slot=1 guest_phys_addr=0x100000000 "
        "memory_size=0x1000 userspace_addr=0x7f0000000000"
    )
    parser.add_argument(
        "failure",
        nargs="*",
        metavar="IOCTL errno=NAME NAME=VALUE",
        help=f"what failed, one of {', '.join(question.IOCTLS)}, and its arguments by the names "
        "of its struct; of KVM_RUN gpa=, if known",
    )
    parser.add_argument("--pid", type=int, metavar="PID", help="a running VMM to look at")
    parser.add_argument("--slots", type=Path, metavar="FILE", help="its memslots")
    parser.add_argument("--all", action="store_true", help="list what is impossible as well")
    parser.add_argument("--json", action="store_true", help=f"print JSON (schema {SCHEMA})")
