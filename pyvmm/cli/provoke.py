# SPDX-License-Identifier: GPL-2.0-only
"""The ``provoke`` command: provoke every cause that pyvmm can name, and print the results."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyvmm.cli import html_file, output
from pyvmm.cli.recording import add_argument, recording
from pyvmm.errors import Status, UsageError
from pyvmm.passthrough.job_document import fault_to_json, slot_to_json
from pyvmm.provenance import verdict
from pyvmm.provenance.path_document import to_json as path_to_json
from pyvmm.provoke.runner import PROVOCATIONS, ProvocationResult, provoke
from pyvmm.provoke.testbed import Provocation

SCHEMA = "pyvmm.provoke/1"
LIST_SCHEMA = "pyvmm.provoke-list/1"
HEADINGS = (
    *("provoked by", "the kernel gave", "address from"),
    *("cause", "mark", "fix", "outcome", "the guest"),
)
PROVENANCE_HEADINGS = ("the kernel's path", "its verdict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm provoke``."""
    parser.set_defaults(run=run)
    parser.description = (
        "Provoke every cause that pyvmm can name, each on a virtual machine of its own: faults, "
        "and ioctls that KVM fails. Show what this kernel reports, the cause that pyvmm finds, and "
        "what fixes it."
    )
    parser.epilog = "With a vfio device: python -m pyvmm lab run --device bochs -- provoke"
    parser.add_argument("names", nargs="*", metavar="NAME", help="provoke only these (see --list)")
    parser.add_argument(
        "--all", action="store_true", help="include those that harm the host, but do not crash it"
    )
    parser.add_argument("--list", action="store_true", help="list them and exit")
    add_argument(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"print JSON (schema {SCHEMA})")
    form.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    html_file.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Provoke the causes and print a table; return 1 if one is unexpected or disagrees."""
    if args.list:
        return _list(args)
    if args.names and args.all:
        raise UsageError("--all has no effect where NAME is given: a named one always runs")
    selected = _select(args.names, args.all)
    page = html_file.html_file(args, SCHEMA)
    results = []
    with recording(args.provenance) as recorded:
        for provoked in provoke(selected, recorded.recorder):
            results.append(provoked)
            output.note(f"{provoked.provocation.name}: {provoked.skipped or provoked.kernel}")
    headings = HEADINGS + (PROVENANCE_HEADINGS if recorded.recorder else ())
    rows = (_row(each, len(headings)) for each in results)
    document = {
        "schema": SCHEMA,
        "provoked": [_to_json(each) for each in results],
        "verdicts": [_verdict(each) for each in results if not each.skipped],
        **recorded.to_json(),
    }
    if args.json:
        print(json.dumps(document, indent=1))
    elif args.markdown:
        for line in (headings, ("---",) * len(headings), *rows):
            print(f"| {' | '.join(line)} |")
    else:
        output.table("", headings, rows)
    if page:
        page.save(document)
    agreed = all(each.as_expected and not each.disagreements for each in results)
    return Status.DONE if agreed else Status.FAILED


def _list(args: argparse.Namespace) -> int:
    if args.names or args.all or args.markdown or args.html or args.earlier:
        raise UsageError(
            "--list takes no NAME, --all, --markdown or --html: it lists every provocation"
        )
    if args.kvm_headers:
        raise UsageError("--kvm-headers has no effect on --list")
    if args.json:
        listed = [
            {
                "name": each.name,
                "how": each.how,
                "expected": each.cause,
                "harm": each.harm,
                "crashes": each.crashes,
                "resolved_by": each.resolved_by,
            }
            for each in PROVOCATIONS
        ]
        print(json.dumps({"schema": LIST_SCHEMA, "provocations": listed}, indent=1))
    else:
        for each in PROVOCATIONS:
            print(f"{each.name:<26} {each.how}{f' ({each.harm})' if each.harm else ''}")
    return Status.DONE


def _select(names: Sequence[str], everything: bool) -> list[Provocation]:
    by_name = {each.name: each for each in PROVOCATIONS}
    for name in names:
        if name not in by_name:
            raise UsageError(f"no provocation is named {name!r}: see provoke --list")
    if names:
        return [by_name[name] for name in names]
    safe = (each for each in PROVOCATIONS if not each.crashes)
    return [each for each in safe if everything or not each.harm]


def _row(each: ProvocationResult, columns: int) -> tuple[str, ...]:
    how = each.provocation.how
    if each.skipped:
        return (how, f"skipped: {each.skipped}", *[""] * (columns - 2))
    source = fix = outcome = ""
    if record := each.record:
        report = record.fault.report
        source = report.source if report.gpa is not None else ""
        fix, outcome = str(record.fix), record.outcome
    elif each.rejected:
        fix = "emulate"
    row = (how, each.kernel, source, _cause(each), each.mark or "", fix, outcome, each.guest)
    path = each.path.short if each.path else ""
    return (*row, path, _kernel_verdict(each))[:columns]


def _kernel_verdict(each: ProvocationResult) -> str:
    """Return the verdict on the kernel's path, or the points in which it is not the cause's."""
    if each.disagreements:
        return f"DISAGREES: {'; '.join(each.disagreements)}"
    return " or ".join(verdict(each.path)) if each.path else ""


def _cause(each: ProvocationResult) -> str:
    """Return the cause, and the expected one if it is not that."""
    cause = each.cause or ""
    return cause if each.as_expected else f"{cause} (expected: {each.provocation.cause})".strip()


def _verdict(each: ProvocationResult) -> dict[str, Any]:
    """Return what ``lab matrix`` compares: whether the kernel reports the fault's address."""
    supported = each.record is None or each.record.fault.report.source == "kernel"
    return {"name": each.provocation.name, "supported": supported, "why": each.kernel}


def _to_json(each: ProvocationResult) -> dict[str, Any]:
    return {
        "name": each.provocation.name,
        "how": each.provocation.how,
        "expected": each.provocation.cause,
        "resolved_by": each.provocation.resolved_by,
        "kernel": None if each.skipped else each.kernel,
        "fault": fault_to_json(each.record) if each.record else None,
        "rejected": each.rejected and slot_to_json(each.rejected),
        "failure": each.failure and asdict(each.failure),
        "cause": each.cause,
        "mark": each.mark,
        "as_expected": each.as_expected,
        "guest": each.guest,
        "skipped": each.skipped,
        "provenance": each.path and path_to_json(each.path),
        "disagreements": each.disagreements,
    }
