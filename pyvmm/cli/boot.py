# SPDX-License-Identifier: GPL-2.0-only
"""The ``boot`` command: run a Linux guest with vfio devices, and report how it ran."""

import argparse
import contextlib
import json
import sys
import termios
import tty
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyvmm.cli.option_types import add_fault_options, add_iommu_mode, seconds, size
from pyvmm.cli.report_file import ReportFile
from pyvmm.cli.report_writer import ReportWriter
from pyvmm.cli.sandbox_option import add_no_sandbox, wants_sandbox
from pyvmm.errors import Status
from pyvmm.faults import policy
from pyvmm.linux.boot import BootOptions, BootResult, boot
from pyvmm.passthrough.job_document import fault_to_json, memslot_to_json

SCHEMA = "pyvmm.boot/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm boot``."""
    parser.set_defaults(run=run)
    parser.description = (
        "Boot an arm64 Linux guest on KVM, with vfio devices behind a PCI host bridge. Without "
        "--image and --initrd, the guest is the host's own kernel and a busybox that lists its PCI "
        "functions, prints the MD5 sum of each NVMe disk and powers off. Its console is stdout, or "
        "stderr with --json."
    )
    parser.epilog = (
        "Try it without arm64 hardware: python -m pyvmm lab run --device disk -- "
        "boot --vfio 0000:01:00.0"
    )
    add = parser.add_argument
    add("--image", type=Path, metavar="FILE", help="the kernel: an Image or Image.gz")
    add("--initrd", type=Path, metavar="FILE", help="the initial RAM file system")
    add("--append", default="", metavar="TEXT", help="append to the kernel command line")
    add("--cpus", type=int, default=1, metavar="N", help="number of vCPUs (1)")
    add("--ram", type=size, default=256 << 20, metavar="SIZE", help="RAM, such as 1G (256M)")
    add(
        "--vfio",
        action="append",
        default=[],
        metavar="BDF",
        help="the PCI address of a device for the guest; repeatable",
    )
    add(
        "--ram-bar",
        action="append",
        default=[],
        metavar="BDF=BAR",
        help="let this BAR of cacheable device memory be RAM of the guest, which does not see the "
        "device; repeatable",
    )
    add_iommu_mode(parser)
    add("--bind", action="store_true", help="bind the devices to vfio for this run")
    add_fault_options(parser)
    add(
        "--console",
        choices=("ring", "trap"),
        default="ring",
        help="ring: characters go through coalesced MMIO (default); trap: every access exits",
    )
    add("--timeout", type=seconds, metavar="S", help="stop the guest after S seconds")
    add_no_sandbox(parser)
    add("--json", action="store_true", help=f"print JSON (schema {SCHEMA})")
    add("--report", type=Path, metavar="FILE", help="write the JSON to this file as well")


def run(args: argparse.Namespace) -> int:
    """Run the guest, print how it ran, and return the exit status."""
    on_fault, on_fault_in = policy.parse(args.on_fault)
    report = ReportWriter(ReportFile(args.report)) if args.report else None
    with _input() as source:
        result = boot(
            BootOptions(
                console=sys.stderr.buffer if args.json else sys.stdout.buffer,
                image=args.image,
                initrd=args.initrd,
                append=args.append,
                cpus=args.cpus,
                ram=args.ram,
                devices=args.vfio,
                iommu_mode=args.iommu_mode,
                bind=args.bind,
                ring=args.console == "ring",
                timeout=args.timeout,
                source=source,
                sandbox=wants_sandbox(args),
                on_fault=on_fault,
                on_fault_in=on_fault_in,
                ram_bars=args.ram_bar,
                flip=frozenset(region.upper() for region in args.flip),
            )
        )
    document = to_json(result)
    if args.json:
        print(json.dumps(document, indent=1))
    else:
        _print(result)
    if report:
        report.save(document)
    return Status.DONE if result.end.reason == "power-off" else Status.FAILED


@contextlib.contextmanager
def _input() -> Iterator[int | None]:
    """Yield the descriptor of stdin, or None if it is closed.

    A terminal passes each character on at once and does not echo it; Ctrl-C still interrupts.
    """
    if sys.stdin is None:
        yield None
        return
    source = sys.stdin.fileno()
    before = termios.tcgetattr(source) if sys.stdin.isatty() else None
    try:
        if before:
            tty.setcbreak(source)
        yield source
    finally:
        if before:
            termios.tcsetattr(source, termios.TCSADRAIN, before)


def to_json(result: BootResult) -> dict[str, Any]:
    """Return the result in schema ``pyvmm.boot/1``."""
    accesses: dict[str, dict[str, int]] = {}
    for (device, kind), count in sorted(result.accesses.items()):
        accesses.setdefault(device, {})[kind] = count
    return {
        "schema": SCHEMA,
        "result": result.end.reason,
        "panic": result.panic,
        "boots": result.boots,
        "time_to_init": result.time_to_init,
        "seconds": result.seconds,
        "console_bytes": result.console_bytes,
        "memslots": [memslot_to_json(device, slot) for device, slot in result.slots],
        "exits": dict(result.exits),
        "accesses": accesses,
        "interrupts": result.interrupts,
        "faults": [
            fault_to_json(record) | {"symbol": result.symbols.get(record.fault.report.pc or 0)}
            for record in result.faults.records
        ],
        "fault_counts": dict(result.faults.counts),
        "repeated_accesses": result.faults.repeated,
    }


def _print(result: BootResult) -> None:
    to_init = (
        "init not seen" if result.time_to_init is None else f"{result.time_to_init:.2f} s to init"
    )
    exits = ", ".join(f"{count} {kind}" for kind, count in result.exits.items()) or "none"
    print(f"\n{result.end.reason} after {result.seconds:.2f} s, {to_init}")
    print(f"exits: {sum(result.exits.values())} ({exits})")
    for (device, kind), count in sorted(result.accesses.items()):
        print(f"  {device}: {count} {kind}s")
    for device, counts in result.interrupts.items():
        for mode, count in counts.items():
            print(f"  {device}: {count} {mode} interrupts")
    for device, slot in result.slots:
        if slot.outcome == "rejected":
            print(f"{device} {slot.part.region} is emulated: {slot.errno}: {slot.why}")
    faults = result.faults
    for text, count in Counter(
        f"{record.fault.cause}: {record.fault.why}; {record.how}" for record in faults.records
    ).items():
        print(f"{count} faults: {text}" if count > 1 else f"fault: {text}")
    for pc, symbol in result.symbols.items():
        print(f"  PC {pc:#x} is {symbol}")
    if unlisted := faults.counts.total() - sum(r.attempts for r in faults.records):
        print(f"and {unlisted} further faults")
