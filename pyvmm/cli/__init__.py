# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one argparse tree, one module per command.

A command's module defines ``add_arguments(parser)``, which sets these defaults:

    run             a function that takes the parsed options and returns the exit status
    takes_command   True if a command line may follow ``--``; it becomes ``options.rest``
    takes_unknown   True if ``options.rest`` may begin with unknown arguments
    takes_headers   False if ``--kvm-headers`` has no effect on the command

The module is imported when its command is parsed: ``caps`` does not import the lab, and the lab
does not import KVM. `tree` imports them all, for the man pages and the shells' completion.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pyvmm.errors import Status, UsageError, as_command

COMMANDS = {
    "run": "probe a vfio device's BARs from a guest; the default where --vfio is given",
    "boot": "boot a Linux guest with vfio devices, and report how it ran",
    "caps": "show what this kernel and CPU offer a VMM, and why the rest is missing",
    "explain": "explain why another VMM's ioctl failed, and how KVM treats its memory",
    "trace": "show and change what any VMM says to KVM, vfio and iommufd",
    "lab": "set up an emulated arm64 host with real KVM, vfio and SMMU, and run commands in it",
    "provoke": "provoke every known fault, and show what this kernel reports and what fixes it",
    "html": "render a saved JSON document as an HTML page",
    "uapi": "compare two kernels' headers, or look up one name",
}

INTRODUCTION = """\
pyvmm drives KVM, vfio and iommufd. Try:

  {prog} caps
      what this kernel and CPU offer, and why the rest is missing
  {prog} lab run --device bochs -- --vfio 0000:01:00.0
      probe a device in an emulated arm64 host; needs no hardware
  {prog} --vfio 0000:01:00.0 --bind
      probe a PCI device of this machine
  {prog} --help
      all commands
"""

USAGE = """%(prog)s [--kvm-headers DIR] --vfio BDF [OPTIONS]
       %(prog)s [--kvm-headers DIR] COMMAND [ARGS…]
       %(prog)s COMMAND --help
       %(prog)s --version"""

EXIT_STATUSES = (
    "exit status: 0 done, 1 the guest or the check failed, 2 wrong usage, 3 the machine lacks "
    "something, 4 this kernel or CPU does not offer it, 130 interrupted"
)


class CommandParser(argparse.ArgumentParser):
    """A parser that imports its command's module when it parses.

    It reports errors as one ``pyvmm: error: …`` line after the usage.
    """

    def __init__(self, *args: Any, command: str = "", **kwargs: Any) -> None:
        """Create the parser; `command` names the module in `pyvmm.cli` to import, if any."""
        super().__init__(*args, **kwargs)
        self._command = command

    def load(self, command: str) -> None:
        """Import a command's module and add its arguments."""
        importlib.import_module(f"pyvmm.cli.{command}").add_arguments(self)

    def parsers(self) -> Iterator["CommandParser"]:
        """Yield this parser and those of its subcommands."""
        yield self
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for each in action.choices.values():
                    yield from each.parsers()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse `args`; reject unknown ones unless the command sets ``takes_unknown``."""
        if self._command:
            self.load(self._command)
        options, unknown = super().parse_known_args(args, namespace)
        if unknown and not getattr(options, "takes_unknown", False):
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and one line on stderr, and exit with status 2."""
        self.print_usage(sys.stderr)
        self.exit(Status.USAGE, f"pyvmm: error: {message}\n")

    def print_help(self, file: Any = None) -> None:
        """Print the help text. Raises `OutputError` where argparse would ignore a full disk."""
        print(self.format_help(), end="", file=file, flush=True)


@as_command()
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Without arguments, print what to try first and return 0. Raises `SystemExit` for an error,
    with the status that `pyvmm.errors` gives it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(INTRODUCTION.format(prog=_program()), end="")
        return Status.DONE
    # What follows the first "--" is another program's command line, which argparse must not see.
    end = [*arguments, "--"].index("--")
    global_options = _global_options()
    options, rest = global_options.parse_known_args(arguments[:end])
    if options.version:
        print(_version())
        return Status.DONE
    if rest == ["help"]:
        rest = ["--help"]
    elif rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help"):
        rest.insert(0, "run")
    if options.kvm_headers and rest[:1] != ["lab"]:  # lab passes them to the emulated host
        from pyvmm.uapi import overlay

        overlay.load(options.kvm_headers)
    options, unknown = _parser(global_options, _program()).parse_known_args(rest, options)
    command_line = arguments[end + 1 :]
    if command_line and not getattr(options, "takes_command", False):
        raise UsageError(f"this takes no command: {' '.join(command_line)}")
    if options.kvm_headers and not getattr(options, "takes_headers", True):
        raise UsageError("--kvm-headers has no effect on this command: leave it out")
    options.rest = unknown + command_line
    status: int = options.run(options)
    return status


def _global_options() -> argparse.ArgumentParser:
    """Return the parser of the options that are accepted before and after any command."""
    parser = argparse.ArgumentParser("pyvmm", usage=USAGE, add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--kvm-headers",
        type=Path,
        metavar="DIR",
        help="know the capabilities, ioctls and exits of these kernel headers by name: a kernel "
        "tree, an unpacked linux-libc-dev, or the result of make headers_install; lab passes them "
        "on to the emulated host",
    )
    parser.add_argument(
        "--version", action="store_true", help="print pyvmm's version, and that of its headers"
    )
    return parser


def _version() -> str:
    from pyvmm import __version__
    from pyvmm.uapi import builtin

    return f"pyvmm {__version__}, with the kernel headers of Linux {builtin.version()}"


def tree() -> CommandParser:
    """Return the parser with the arguments of all commands, whose modules it imports."""
    return _parser(_global_options(), "pyvmm", complete=True)


def _program() -> str:
    """Return how the user has started pyvmm."""
    return "pyvmm" if Path(sys.argv[0]).name == "pyvmm" else "python -m pyvmm"


def _parser(
    global_options: argparse.ArgumentParser, program: str, *, complete: bool = False
) -> CommandParser:
    """Return the parser; `complete` adds all arguments, and those of ``run`` to the top as well."""
    parser = CommandParser(program, usage=USAGE, parents=[global_options])
    if complete:
        parser.load("run")
    parser.description = (
        "With --vfio, register a PCI device's BARs as memslots, let a guest access them, and "
        f"report what happened and why ({program} run --help)."
    )
    parser.epilog = EXIT_STATUSES
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog=program
    )
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, command=name)
        if complete:
            command.load(name)
    return parser
