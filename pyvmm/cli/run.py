# SPDX-License-Identifier: GPL-2.0-only
"""The ``run`` command, also ``pyvmm --vfio BDF``: probe vfio devices and print the results."""

import argparse
import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from pyvmm.cli import html_file, output
from pyvmm.cli.caps import print_verdicts
from pyvmm.cli.option_types import add_fault_options, add_iommu_mode
from pyvmm.cli.recording import add_argument, recording
from pyvmm.cli.report_file import ReportFile
from pyvmm.cli.report_writer import ReportWriter
from pyvmm.cli.sandbox_option import add_no_sandbox, wants_sandbox
from pyvmm.errors import Status, UsageError
from pyvmm.faults import policy
from pyvmm.memory import PAGE_SIZE
from pyvmm.output_file import OutputFile
from pyvmm.passthrough import Job, JobResult, run_job
from pyvmm.passthrough.job_document import SCHEMA, result_of, to_json
from pyvmm.passthrough.probe_bars import BarProbe, Write
from pyvmm.provenance import KernelPath, verdict
from pyvmm.units import size
from pyvmm.vfio import rebind
from pyvmm.vfio.sysfs import PciFunction

_WRITE = re.compile(r"(?P<region>\w+)\+(?P<offset>\w+)=(?P<value>\w+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm run``."""
    parser.set_defaults(run=run)
    parser.description = (
        "Open a PCI device through vfio, map its BARs, register them as memslots, and let a guest "
        "read their first and last words with each memory type that its page tables can choose. "
        "If KVM rejects a memslot, the reason is printed and the BAR is emulated. Nothing is "
        "written to the device without --write."
    )
    parser.epilog = (
        "Try it without arm64 hardware: python -m pyvmm lab run --device grace -- "
        "--vfio 0000:01:00.0. Other commands: python -m pyvmm --help."
    )
    parser.add_argument(
        "--vfio",
        action="append",
        required=True,
        metavar="BDF",
        help="the device's PCI address, as lspci -D prints it; repeatable",
    )
    add_iommu_mode(parser)
    parser.add_argument(
        "--bind",
        action="store_true",
        help="bind the device to vfio for this run and to its old driver afterwards, also after "
        "SIGKILL; refused if the host is using it",
    )
    parser.add_argument(
        "--write",
        action="append",
        default=[],
        metavar="REGION+OFFSET=VALUE",
        help="let the guest write a 32-bit word (BAR0+0x10=0xff) and read it back; the old value "
        "is restored at the end",
    )
    parser.add_argument(
        "--guest",
        type=Path,
        metavar="FILE",
        help="run this payload instead of the probes: assembly source (.s) or a flat binary; its "
        "argument block lists the BARs",
    )
    parser.add_argument(
        "--console",
        type=Path,
        metavar="FILE",
        help="write what the payload prints to this file; default: stderr",
    )
    add_fault_options(parser)
    add_no_sandbox(parser)
    add_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON (schema pyvmm.run/1)")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write the JSON to this file as well"
    )
    html_file.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Probe the devices, print what happened, and return the exit status."""
    if args.write and len(args.vfio) > 1:
        raise UsageError("--write is ambiguous with several devices: give one --vfio")
    if args.write and args.guest:
        raise UsageError("--write is for the probes, which --guest replaces: write in the payload")
    if args.console and not args.guest:
        raise UsageError("--console is for what a payload prints: add --guest FILE")
    on_fault, on_fault_in = policy.parse(args.on_fault)
    writes = [_write(text) for text in args.write]
    files = [ReportFile(args.report)] if args.report else []
    if page := html_file.html_file(args, SCHEMA):
        files.append(page)
    writers = [ReportWriter(file) for file in files]
    with ExitStack() as stack:
        console = stack.enter_context(_create(args.console)) if args.console else sys.stderr.buffer
        recorded = stack.enter_context(recording(args.provenance))
        for function in map(PciFunction.find, args.vfio if args.bind else ()):
            if driver := rebind.kept_driver(function):
                output.note(
                    f"{function} has {driver} already and keeps it; to give it back to its own "
                    f"driver: {rebind.how_to_return(function)}"
                )
        result = run_job(
            Job(
                devices=args.vfio,
                iommu_mode=args.iommu_mode,
                bind=args.bind,
                writes=writes,
                guest=args.guest,
                console=console,
                on_fault=on_fault,
                on_fault_in=on_fault_in,
                flip=frozenset(region.upper() for region in args.flip),
                sandbox=wants_sandbox(args),
                recorder=recorded.recorder,
            )
        )
    document = {**to_json(result), **recorded.to_json()}
    if args.json:
        print(json.dumps(document, indent=1))
    else:
        _print(result)
    for writer in writers:
        writer.save(document)
    return Status.DONE if document["result"] == "ok" else Status.FAILED


def _create(path: Path) -> BinaryIO:
    try:
        return OutputFile(str(path), str(path))
    except OSError as error:
        raise UsageError(f"cannot write the console to {path}: {error.strerror}") from None


def _write(text: str) -> Write:
    match = _WRITE.fullmatch(text)
    try:
        if match:
            offset, value = int(match["offset"], 0), int(match["value"], 0)
            if value < 1 << 32:
                return Write(match["region"].upper(), offset, value)
    except ValueError:
        pass
    raise UsageError(
        f"--write takes REGION+OFFSET=VALUE of 32 bits, such as BAR0+0x10=0xff, not {text!r}"
    )


def _print(result: JobResult) -> None:
    caps = result.caps
    print(f"Linux {caps.kernel} on {caps.arch}, {PAGE_SIZE >> 10} KiB pages\n")
    print_verdicts(caps)
    for device in result.devices:
        report = device.report
        print(
            f"\n{report.bdf}  {report.vendor}:{report.device}  driver {report.driver}, "
            f"IOMMU mode {report.iommu_mode}"
        )
        output.table(
            "\nMemslots",
            ("region", "GPA", "size", "", "why"),
            (
                (
                    slot.part.region,
                    f"{slot.part.gpa:#x}",
                    size(slot.part.size),
                    _coloured(slot.outcome, slot.outcome == "registered"),
                    f"{slot.errno}: {slot.why}" if slot.errno else slot.why,
                )
                for slot in device.slots
            ),
        )
    if result.probes:
        output.table(
            "\nThe guest's accesses",
            ("at", "memory type", "access", "result", "value", "exits"),
            (
                (
                    f"{probe.region}+{probe.offset:#x}",
                    probe.attribute,
                    probe.access,
                    _coloured(probe.result, probe.result == "ok"),
                    _value(probe),
                    str(sum(probe.exits.values())),
                )
                for probe in result.probes
            ),
        )
    if result.faults:
        output.table(
            "\nFaults",
            ("at", "access", "errno", "address from", "cause", "fix", "outcome"),
            (
                (
                    _hex(record.fault.report.gpa),
                    record.fault.report.access or "?",
                    record.fault.report.errno or "-",
                    record.fault.report.source,
                    record.fault.cause,
                    record.fix,
                    _coloured(record.outcome, record.outcome == "resolved"),
                )
                for record in result.faults
            ),
        )
        for why in dict.fromkeys(f"{r.fault.cause}: {r.fault.why}; {r.how}" for r in result.faults):
            print(why)
        for cause in dict.fromkeys(record.fault.cause for record in result.faults):
            if cause != "unknown":
                print(f"pyvmm explain {cause} says what else helps")
        for path in dict.fromkeys(_kernel_path(r.path) for r in result.faults if r.path):
            print(path)
    if result.guest:
        print(f"\nthe guest ended with {result.guest.last_exit}")
    exits = ", ".join(f"{count} {kind}" for kind, count in result.exits.items()) or "none"
    print(f"\nexits: {exits}")
    print(f"{result_of(result)}: {_verdict(result)}")


def _kernel_path(path: KernelPath) -> str:
    fits = " or ".join(verdict(path)) or "no condition that pyvmm knows"
    return f"the kernel's path: {path.short}; it fits {fits}"


def _verdict(result: JobResult) -> str:
    slots = [slot for device in result.devices for slot in device.slots]
    registered = sum(slot.outcome == "registered" for slot in slots)
    parts = [f"{registered} of {len(slots)} BAR areas are memslots"]
    for slot in slots:
        if slot.outcome == "rejected":
            parts.append(f"{slot.part.region} is emulated ({slot.cause})")
    if result.probes:
        succeeded = sum(probe.result == "ok" for probe in result.probes)
        parts.append(f"{succeeded} of {len(result.probes)} guest accesses succeeded")
    return ", ".join(parts)


def _coloured(word: str, good: bool) -> output.Styled:
    return output.Styled(word, "green" if good else "yellow")


def _hex(address: int | None) -> str:
    return "?" if address is None else f"{address:#x}"


def _value(probe: BarProbe) -> str:
    if probe.result == "ok":
        return f"{probe.value:#010x}"
    return f"syndrome {probe.syndrome:#x}" if probe.result == "abort" else "-"
