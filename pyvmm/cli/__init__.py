# SPDX-License-Identifier: GPL-2.0-only
"""The command line: one module a command, which parses, calls and prints.

A command's module is imported only when that command runs, so that ``pyvmm caps`` never
pays for the lab and the lab never pays for KVM.
"""

import importlib
import sys
from pathlib import Path

from pyvmm.errors import Status, UsageError, as_command

COMMANDS = {
    "run": "the main job, named: run --vfio BDF is --vfio BDF",
    "caps": "what this kernel and CPU offer a VMM, and why the rest is missing",
    "explain": "why an ioctl of another VMM failed, and what KVM makes of its memory",
    "trace": "see and bend what any VMM says to KVM, vfio and iommufd",
    "lab": "an emulated arm64 host with real KVM, vfio and SMMU: set it up, run commands in it",
    "provoke": "every fault that pyvmm can name: what this kernel tells of it, and what helps",
    "uapi": "how two kernels' headers differ, and what they say about one name",
}

HEADERS_OPTION = "--kvm-headers"

USAGE = """\
usage: python -m pyvmm [--kvm-headers DIR] --vfio BDF [OPTIONS]
       python -m pyvmm [--kvm-headers DIR] COMMAND [ARGS…]
       python -m pyvmm COMMAND --help

With --vfio, the main job: take a PCI device, register its BARs as memslots, let a guest touch
them, and say what happened and why (python -m pyvmm run --help).

With --kvm-headers, what a kernel's own headers have new or otherwise is known by name: new
capabilities, ioctls, exits. DIR is a kernel tree, an unpacked linux-libc-dev, or what `make
headers_install` made.

commands:
{commands}

exit status: 0 done, 1 the guest or the check failed, 2 wrong usage, 3 the machine lacks
something, 4 this kernel or CPU does not offer it, 130 interrupted
"""


@as_command()
def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status, or raises `SystemExit` with that of an error."""
    arguments = _with_headers(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    if command.startswith("--vfio"):
        arguments, command = ["run", *arguments], "run"
    if command in COMMANDS:
        module = importlib.import_module(f"pyvmm.cli.{command}")
        status: int = module.main(arguments[1:])
        return status
    usage = USAGE.format(commands="\n".join(f"  {n:<8} {what}" for n, what in COMMANDS.items()))
    if command in ("-h", "--help", "help"):
        print(usage, end="")
        return Status.DONE
    print(usage, end="", file=sys.stderr)
    print(f"pyvmm: error: there is no command {command!r}", file=sys.stderr)
    return Status.USAGE


def _with_headers(arguments: list[str]) -> list[str]:
    """Load what ``--kvm-headers`` names, before any command does; return the other arguments."""
    option, given, place = (arguments[0] if arguments else "").partition("=")
    if option != HEADERS_OPTION:
        return arguments
    if not given and len(arguments) > 1:
        place, arguments = arguments[1], arguments[1:]
    if not place:
        raise UsageError(f"{HEADERS_OPTION} needs a directory of kernel headers")
    arguments = arguments[1:]
    if arguments[:1] == ["lab"]:  # it is the command in the emulated host that is to know them
        return [*arguments[:2], f"{HEADERS_OPTION}={place}", *arguments[2:]]
    from pyvmm.uapi import overlay

    overlay.load(Path(place))
    return arguments
