# SPDX-License-Identifier: GPL-2.0-only
"""The ``provoke`` command: provoke every cause that pyvmm can name, and print the results."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pyvmm.cli import output
from pyvmm.errors import Status, UsageError
from pyvmm.passthrough.document import fault_to_json, slot_to_json
from pyvmm.provoke.runner import PROVOCATIONS, ProvocationResult, provoke
from pyvmm.provoke.testbed import Provocation

SCHEMA = "pyvmm.provoke/1"
LIST_SCHEMA = "pyvmm.provoke-list/1"
HEADINGS = (
    *("provoked by", "the kernel gave", "address from"),
    *("cause", "mark", "fix", "outcome", "the guest"),
)


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
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"print JSON (schema {SCHEMA})")
    form.add_argument("--markdown", action="store_true", help="print a table in Markdown")


def run(args: argparse.Namespace) -> int:
    """Provoke the causes and print a table; return 1 if an unexpected one is found."""
    if args.list:
        return _list(args)
    if args.names and args.all:
        raise UsageError("--all has no effect where NAME is given: a named one always runs")
    results = []
    for provoked in provoke(_select(args.names, args.all)):
        results.append(provoked)
        output.note(f"{provoked.provocation.name}: {provoked.skipped or provoked.kernel}")
    if args.json:
        document = {
            "schema": SCHEMA,
            "provoked": [_to_json(each) for each in results],
            "verdicts": [_verdict(each) for each in results if not each.skipped],
        }
        print(json.dumps(document, indent=1))
    elif args.markdown:
        for line in (HEADINGS, ("---",) * len(HEADINGS), *_rows(results)):
            print(f"| {' | '.join(line)} |")
    else:
        output.table("", HEADINGS, _rows(results))
    return Status.DONE if all(each.as_expected for each in results) else Status.FAILED


def _list(args: argparse.Namespace) -> int:
    if args.names or args.all or args.markdown:
        raise UsageError("--list takes no NAME, --all or --markdown: it lists every provocation")
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


def _rows(results: Sequence[ProvocationResult]) -> Iterator[tuple[str, ...]]:
    for each in results:
        how = each.provocation.how
        if each.skipped:
            yield (how, f"skipped: {each.skipped}", *[""] * (len(HEADINGS) - 2))
            continue
        source = fix = outcome = ""
        if record := each.record:
            source, fix, outcome = record.fault.report.source, str(record.fix), record.outcome
        elif each.rejected:
            fix = "emulate"
        yield (how, each.kernel, source, _cause(each), each.mark or "", fix, outcome, each.guest)


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
    }
