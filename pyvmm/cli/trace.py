# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm trace``: trace a VMM's KVM, vfio and iommufd ioctls, and inject results."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from pyvmm.cli import output
from pyvmm.cli.option_types import process_id
from pyvmm.errors import PyvmmError, Status, UsageError
from pyvmm.output_file import discard, is_blocked
from pyvmm.trace import launch, trace_diff
from pyvmm.trace.events import EventWriter, Recording
from pyvmm.trace.inject import Rules, parse, read_scenario
from pyvmm.trace.kvm_trace import KvmTrace
from pyvmm.trace.timeline import TimelineWriter
from pyvmm.trace.tracer import Tracer
from pyvmm.trace.views import EventPrinter, Filter, ViewOptions, address_range

_FILTERS = ("fd", "ioctl", "exit", "address")
_PATIENCE_MS = 1000  # for a slow reader, after Ctrl-C


def run(args: argparse.Namespace) -> int:
    """Trace a command or a process, and return the exit status."""
    command: list[str] = args.rest
    if (args.pid is None) == (not command):
        raise UsageError("give either a command after --, or -p PID")
    scenario = read_scenario(args.scenario) if args.scenario else []
    rules = Rules([parse(text) for text in [*args.inject, *scenario]])
    options = _view_options(args)
    if args.record and args.record == args.timeline:
        raise UsageError("--record and --timeline have two formats: give each a file of its own")
    saved = "record" if args.record else "timeline" if args.timeline else None
    quiet = saved and not (args.summary or args.slots or args.json or args.output)
    for name in _FILTERS:
        if quiet and getattr(args, name):
            raise UsageError(
                f"--{name} selects what is printed, and --{saved} alone prints nothing: leave "
                f"--{name} out, or add --summary, --slots, --json or -o FILE"
            )
    traced = command or ["-p", str(args.pid)]
    with ExitStack() as stack:
        out = _out(args, stack)
        files = {
            path: stack.enter_context(_create(path))
            for path in (args.record, args.timeline)
            if path
        }
        parent = launch.fork_tracer()
        printer = None if quiet else EventPrinter(options, out, traced)
        sinks = [printer.add] if printer else []
        if args.record:
            sinks.append(EventWriter(files[args.record], traced).write)
        if args.timeline:
            timeline = TimelineWriter(files[args.timeline], traced)
            stack.callback(timeline.close)
            sinks.append(timeline.write)
        trace = KvmTrace(
            sinks,
            rules,
            detailed=bool(files) or options.lines,
            count_run=printer.run_counter() if printer and not (files or rules) else None,
        )
        stack.callback(trace.close)
        tracer = Tracer(trace, trace.syscalls)
        launch.on_stop_signals(partial(_stop, tracer, [out, *files.values()]))
        status = Status.FAILED
        try:
            if command:
                tracer.start(command, stdout=2 if args.json and out is sys.stdout else None)
            else:
                tracer.attach(args.pid)
            os.setsid()  # signals to the process group or from the terminal do not reach the tracer
            status = _follow(tracer, printer)
        finally:
            if tracer.has_tracees:
                with contextlib.suppress(Exception):
                    stack.close()
                parent.exit(status)
                tracer.let_go()
                os._exit(status)
    if args.pid is not None:
        return Status.DONE
    assert tracer.status is not None
    return _exit_status(tracer.status)


def _stop(tracer: Tracer, outputs: list[TextIO]) -> None:
    """End the trace. Discard the rest of an output whose reader does not read."""
    tracer.stop()
    for each in outputs:
        if not each.closed and is_blocked(each, _PATIENCE_MS):
            discard(each)


def _follow(tracer: Tracer, printer: EventPrinter | None) -> Status:
    """Trace until the end, and return the status of a trace that ends before the command."""
    try:
        tracer.run()
        if printer:
            printer.finish()
    except Exception as error:
        if isinstance(error, PyvmmError) and not tracer.has_tracees:
            raise
        # A closed pipe, a full disk or a bug in pyvmm must not stop the VMM.
        output.note(f"the trace ends here: {error}")
        return Status.FAILED
    return Status.INTERRUPTED


def _show(args: argparse.Namespace) -> int:
    recording = Recording.open(args.file)
    with ExitStack() as stack:
        out = stack.enter_context(_create(args.output)) if args.output else sys.stdout
        command = recording.header.get("command", [])
        timeline = None
        if args.timeline:
            timeline = TimelineWriter(stack.enter_context(_create(args.timeline)), command)
            stack.callback(timeline.close)
        printer = EventPrinter(_view_options(args), out, command)
        for event in recording:
            printer.add(event)
            if timeline:
                timeline.write(event)
        printer.finish()
    return Status.DONE


def _diff(args: argparse.Namespace) -> int:
    difference = trace_diff.compare(Recording.open(args.first), Recording.open(args.second))
    if args.json:
        print(json.dumps(trace_diff.to_json(difference), indent=1))
    else:
        for text in trace_diff.text_lines(difference) if difference else ["the traces are equal"]:
            print(text)
    return Status.FAILED if difference else Status.DONE


class _Subcommands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """The subcommands, whose own options would silently replace those before them."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        subcommand = values[0] if values else ""
        for name, value in vars(namespace).items():
            if subcommand in self.choices and value != parser.get_default(name):
                own = {action.dest for action in self.choices[subcommand]._actions}
                advice = f"give it after {subcommand}" if name in own else "leave it out"
                raise UsageError(f"--{name} has no effect before {subcommand}: {advice}")
        super().__call__(parser, namespace, values, option_string)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pyvmm trace``."""
    parser.set_defaults(run=run, takes_command=True)
    parser.usage = (
        "%(prog)s [OPTIONS] (-p PID | -- COMMAND…)\n"
        "       %(prog)s show FILE [VIEWS]\n"
        "       %(prog)s diff A B"
    )
    parser.description = (
        "Trace a VMM, its threads and its children. Print every KVM, vfio and iommufd ioctl with "
        "its decoded argument, and every exit with its payload. The trace goes to stderr; the "
        "command keeps its own stdin and stdout."
    )
    parser.epilog = (
        "The exit status is the command's. Ctrl-C, SIGTERM, SIGHUP, SIGQUIT or SIGKILL ends the "
        "trace and leaves the command running. pyvmm's child process stays until the command ends: "
        "do not kill it, because the command's KVM ioctls fail without it. With -p nothing stays. "
        "As with strace, a reader that does not read the trace stops the traced program until the "
        "trace ends. "
        "Rules for --inject: cap:KVM_CAP_NAME=0, ioctl:NAME where MEMBER=VALUE:errno=NAME, "
        "run:memory_fault gpa=ADDRESS, run:errno=EFAULT after=100, ioctl:NAME:delay=10ms."
    )
    parser.add_argument(
        "-p", "--pid", type=process_id, metavar="PID", help="trace a running process"
    )
    _add_views(parser)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="save the trace for trace show and trace diff"
    )
    parser.add_argument(
        "--inject",
        action="append",
        default=[],
        metavar="RULE",
        help="inject a result into matching system calls; repeatable",
    )
    parser.add_argument(
        "--scenario",
        type=Path,
        metavar="FILE",
        help='read rules from a TOML file: inject = ["…", …]',
    )
    commands = parser.add_subparsers(metavar="COMMAND", prog=parser.prog, action=_Subcommands)
    about = "print a recorded trace"
    show = commands.add_parser("show", help=about, description=about)
    show.set_defaults(run=_show, takes_command=False)
    show.add_argument("file", type=Path, metavar="FILE", help="a file written by trace --record")
    _add_views(show)
    about = (
        "Compare two recorded traces. Ignores what differs in every run: host addresses, "
        "descriptors, times. Exit status 0 if the traces are equal, 1 if they differ."
    )
    difference = commands.add_parser("diff", help="compare two recorded traces", description=about)
    difference.set_defaults(run=_diff, takes_command=False)
    difference.add_argument("first", type=Path, metavar="A", help="the first recording")
    difference.add_argument("second", type=Path, metavar="B", help="the second one")
    difference.add_argument("--json", action="store_true", help="print JSON (pyvmm.trace-diff/1)")


def _add_views(parser: argparse.ArgumentParser) -> None:
    views = parser.add_argument_group("views")
    views.add_argument(
        "--summary",
        action="store_true",
        help="print counts, and the memslots of the open VMs and of the VM closed last",
    )
    views.add_argument(
        "--slots", action="store_true", help="print memslots and changes of the memory under them"
    )
    views.add_argument(
        "--json", action="store_true", help="print JSON to stdout, one line per event"
    )
    views.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="save exits and ioctls over time in the Chrome trace event format, for Perfetto",
    )
    views.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the trace to FILE")
    only = parser.add_argument_group("filters (repeatable)")
    only.add_argument(
        "--fd", action="append", default=[], metavar="LABEL", help="an object: vm1, vcpu, …"
    )
    only.add_argument(
        "--ioctl", action="append", default=[], metavar="NAME", help="an ioctl: KVM_*_ONE_REG"
    )
    only.add_argument(
        "--exit", action="append", default=[], metavar="KIND", help="an exit: mmio, io, …"
    )
    only.add_argument(
        "--address", action="append", default=[], metavar="A[-B]", help="a GPA, HVA, IOVA or port"
    )


def _view_options(args: argparse.Namespace) -> ViewOptions:
    return ViewOptions(
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
    """Return the command's exit status, or 128 + N after signal N, as a shell does."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        output.note(f"the command was killed by signal {-code}")
    return code if code >= 0 else 128 - code
