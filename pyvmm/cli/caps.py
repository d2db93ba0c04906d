# SPDX-License-Identifier: GPL-2.0-only
"""The ``caps`` command: what this kernel and CPU offer a VMM, and why the rest is missing."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyvmm.caps import CapsReport, negotiate
from pyvmm.caps.caps_report import SCHEMA
from pyvmm.caps.changes import answer_text, compare
from pyvmm.cli import output
from pyvmm.errors import Status, UsageError
from pyvmm.input_file import read_bytes
from pyvmm.kvm.system import System


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm caps``."""
    parser.set_defaults(run=run)
    parser.description = (
        "Query every capability that the kernel's headers name, on /dev/kvm and on a VM; read the "
        "CPU's features from a vCPU; and say which important ones are supported and why. "
        "Read-only."
    )
    parser.epilog = (
        "Keep a report with 'pyvmm caps --json > before.json', boot another kernel, and "
        "compare: 'pyvmm caps --diff before.json'."
    )
    parser.add_argument("--json", action="store_true", help="print JSON (schema pyvmm.caps/1)")
    parser.add_argument("--all", action="store_true", help="list absent capabilities too")
    parser.add_argument("--diff", type=Path, metavar="FILE", help="compare with an earlier --json")


def run(args: argparse.Namespace) -> int:
    """Print the report, or how it differs from an earlier one; return the exit status."""
    for option, given in (("--json", args.json), ("--diff", args.diff)):
        if args.all and given:
            raise UsageError(f"--all has no effect with {option}, which covers every capability")
    earlier = _read(args.diff) if args.diff else None
    with System.open() as system:
        report = negotiate(system)
    if earlier is not None:
        _print_diff(earlier, report.to_json(), as_json=args.json)
    elif args.json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        _print_report(report, everything=args.all)
    return Status.DONE


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise UsageError(f"{path} is not a report of 'pyvmm caps --json' (schema {SCHEMA})")
    return report


def _print_report(report: CapsReport, *, everything: bool) -> None:
    print(f"Linux {report.kernel} on {report.arch}, KVM API {report.api_version}\n")
    print_verdicts(report)
    if report.features:
        features = asdict(report.features).items()
        output.table("\nCPU", ("feature", "value"), ((k, _feature(v)) for k, v in features))
    shown = [c for c in report.capabilities if everything or c.value or c.system.value]
    output.table(
        "\nCapabilities",
        ("number", "system", "VM", "name"),
        (
            (
                str(c.number),
                answer_text(asdict(c.system)),
                answer_text(asdict(c.vm) if c.vm else None),
                c.name,
            )
            for c in shown
        ),
    )
    if len(shown) < len(report.capabilities):
        absent = len(report.capabilities) - len(shown)
        print(f"\n{absent} of {len(report.capabilities)} are absent; --all lists them.")


def print_verdicts(report: CapsReport) -> None:
    """Print each verdict: its name, whether it is supported, and why."""
    output.table(
        "Verdicts",
        ("", "verdict", "why"),
        (
            (
                output.Styled("yes", "green") if verdict.supported else output.Styled("no", "red"),
                verdict.name,
                verdict.why,
            )
            for verdict in report.verdicts
        ),
    )


def _feature(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{size >> 10} KiB" for size in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _print_diff(before: dict[str, Any], after: dict[str, Any], *, as_json: bool) -> None:
    try:
        changes = compare(before, after)
    except (KeyError, TypeError, AttributeError):
        raise UsageError("the earlier report is incomplete; create it again with --json") from None
    if as_json:
        document = {"schema": "pyvmm.caps-diff/1", "changes": [asdict(c) for c in changes]}
        print(json.dumps(document, indent=1))
    elif changes:
        rows = ((c.kind, c.name, c.before or "-", c.after or "-") for c in changes)
        output.table("Changes", ("", "name", "before", "now"), rows)
    else:
        print("nothing changed")
