# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm trace``: see and bend what any VMM says to KVM, vfio and iommufd."""

import argparse
import contextlib
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from pyvmm.cli import output
from pyvmm.errors import PyvmmError, Status, UsageError
from pyvmm.trace import apart, diff
from pyvmm.trace.filters import Filter, address_range
from pyvmm.trace.inject import Rules, parse
from pyvmm.trace.known import Known
from pyvmm.trace.record import Lines, Recording
from pyvmm.trace.scenario import read_scenario
from pyvmm.trace.tracer import Tracer
from pyvmm.trace.views import Views, Wanted
from pyvmm.trace.watch import Watch


def run(args: argparse.Namespace) -> int:
    """Trace a command or a process, and return the exit status."""
    command: list[str] = args.rest
    if (args.pid is None) == (not command):
        raise UsageError("give either a command after --, or -p PID")
    rules = Rules([parse(text) for text in [*args.inject, *read_scenario(args.scenario)]])
    wanted = _wanted(args)
    quiet = args.record and not (args.summary or args.slots or args.json or args.output)
    named = command or ["-p", str(args.pid)]
    with ExitStack() as stack:
        out = _out(args, stack)
        record = stack.enter_context(_create(args.record)) if args.record else None
        release = apart.part()
        views = None if quiet else Views(wanted, out, named)
        takers = [views.take] if views else []
        if record:
            takers.append(Lines(record, named).take)
        detailed = bool(record) or wanted.lines
        known = Known(rules, detailed)
        stack.callback(known.close)
        count = views.counter() if views and not (record or rules) else None
        watch = Watch(known, takers, mappings=detailed, count=count)
        tracer = Tracer(watch, watch.calls)
        apart.on_end(tracer.stop)
        if command:
            tracer.start(command, stdout=2 if args.json and out is sys.stdout else None)
        else:
            tracer.attach(args.pid)
        status = Status.INTERRUPTED
        try:
            tracer.run()
            if views:
                views.finish()
        except PyvmmError:
            raise
        except Exception as error:
            # Whoever reads the trace has gone, the disk is full, or there is a bug in here: the
            # VMM shall not suffer for it.
            output.note(f"the trace ends here: {error}")
            status = Status.FAILED
        if tracer.status is None:
            with contextlib.suppress(OSError):
                stack.close()
            release(status)
            tracer.let_go()
            os._exit(status)
    if args.pid is not None:
        return Status.DONE
    return _exit_status(tracer.status)


def _show(args: argparse.Namespace) -> int:
    recording = Recording.open(args.file)
    with ExitStack() as stack:
        out = stack.enter_context(_create(args.output)) if args.output else sys.stdout
        views = Views(_wanted(args), out, recording.header.get("command", []))
        for event in recording:
            views.take(event)
        views.finish()
    return Status.DONE


def _diff(args: argparse.Namespace) -> int:
    found = diff.diff(Recording.open(args.first), Recording.open(args.second))
    if args.json:
        print(json.dumps(diff.to_json(found), indent=1))
    else:
        for text in diff.lines(found) if found else ["the traces say the same"]:
            print(text)
    return Status.FAILED if found else Status.DONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm trace``."""
    parser.set_defaults(run=run, takes_command=True)
    parser.usage = (
        "python -m pyvmm trace [OPTIONS] (-p PID | -- COMMAND…)\n"
        "       python -m pyvmm trace show FILE [VIEWS]\n"
        "       python -m pyvmm trace diff A B"
    )
    parser.description = (
        "Follow a VMM, its threads and its children, and show every KVM, vfio and "
        "iommufd ioctl with its argument decoded, and every exit with its payload. The command's "
        "own input and output are its own; the trace goes to stderr."
    )
    parser.epilog = (
        "The command's exit status is passed on. Ctrl-C ends the trace and leaves what is "
        "traced running. A rule for --inject: cap:KVM_CAP_NAME=0, "
        "ioctl:NAME where MEMBER=VALUE:errno=NAME, run:memory_fault gpa=…, "
        "run:errno=EFAULT after=100, ioctl:NAME:delay=10ms."
    )
    parser.add_argument("-p", "--pid", type=int, metavar="PID", help="trace what runs already")
    _add_views(parser)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="keep the trace, for trace show and diff"
    )
    parser.add_argument(
        "--inject", action="append", default=[], metavar="RULE", help="answer in the kernel's place"
    )
    parser.add_argument(
        "--scenario", type=Path, metavar="FILE", help='a TOML file of rules: inject = ["…", …]'
    )
    commands = parser.add_subparsers(metavar="COMMAND", prog=parser.prog)
    about = "show a recorded trace in any of trace's views"
    show = commands.add_parser("show", help=about, description=about)
    show.set_defaults(run=_show, takes_command=False)
    show.add_argument("file", type=Path, metavar="FILE", help="what trace --record wrote")
    _add_views(show)
    about = (
        "show where two recorded traces part. What differs in every run (host addresses, "
        "descriptors, times) is left out. Exit status 0: they say the same."
    )
    difference = commands.add_parser("diff", help="show where two traces part", description=about)
    difference.set_defaults(run=_diff, takes_command=False)
    difference.add_argument("first", type=Path, metavar="A")
    difference.add_argument("second", type=Path, metavar="B")
    difference.add_argument("--json", action="store_true", help="print JSON (pyvmm.trace-diff/1)")


def _add_views(parser: argparse.ArgumentParser) -> None:
    views = parser.add_argument_group("views")
    views.add_argument("--summary", action="store_true", help="counts, and the memslots at the end")
    views.add_argument(
        "--slots", action="store_true", help="memslots and the mappings under them, over time"
    )
    views.add_argument("--json", action="store_true", help="JSON on stdout, a line an event")
    views.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the trace goes")
    only = parser.add_argument_group("filters, each may be given several times")
    only.add_argument("--fd", action="append", default=[], metavar="LABEL", help="vm1, vcpu, …")
    only.add_argument("--ioctl", action="append", default=[], metavar="NAME", help="KVM_*_ONE_REG")
    only.add_argument("--exit", action="append", default=[], metavar="KIND", help="mmio, io, …")
    only.add_argument(
        "--address", action="append", default=[], metavar="A[-B]", help="a GPA, HVA, IOVA or port"
    )


def _wanted(args: argparse.Namespace) -> Wanted:
    return Wanted(
        summary=args.summary,
        slots=args.slots,
        json=args.json,
        filter=Filter(
            on=tuple(args.fd),
            ioctls=tuple(args.ioctl),
            exits=tuple(args.exit),
            addresses=tuple(map(address_range, args.address)),
        ),
    )


def _out(args: argparse.Namespace, stack: ExitStack) -> TextIO:
    if args.output:
        return stack.enter_context(_create(args.output))
    return sys.stdout if args.json else sys.stderr


def _create(path: Path) -> TextIO:
    try:
        return path.open("w")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _exit_status(status: int) -> int:
    """The traced command's own exit status; 128 and the signal that killed it, as shells say."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        output.note(f"the command was killed by signal {-code}")
    return code if code >= 0 else 128 - code
