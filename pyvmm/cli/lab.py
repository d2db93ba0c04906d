# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm lab``: set up the emulated arm64 host, run commands in it, see what it keeps."""

import argparse
import sys
from collections.abc import Sequence

from pyvmm.cli.progress import progress
from pyvmm.errors import UsageError
from pyvmm.lab import devices, host, qemu

_PYVMM = ("python3", "-m", "pyvmm")


def main(argv: list[str]) -> int:
    """Run ``pyvmm lab ARGV``; returns the exit status."""
    before, dashes, after = _split(argv)
    options = _parser().parse_args(before)
    status: int = options.run(options, after if dashes else None)
    return status


def _split(argv: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """What is before the first ``--``, whether there is one, and what is after it."""
    words = list(argv)
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


def _run(options: argparse.Namespace, command: list[str] | None) -> int:
    if not command:
        raise UsageError("lab run needs a command of pyvmm's: lab run -- caps")
    return _host(options).run(
        [*_PYVMM, *command],
        stdout=sys.stdout.buffer,
        stderr=sys.stderr.buffer,
        timeout=options.timeout,
    )


def _shell(options: argparse.Namespace, command: list[str] | None) -> int:
    here = _host(options)
    if command:
        return here.run(
            command, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer, timeout=options.timeout
        )
    if not sys.stdin.isatty():
        raise UsageError("stdin is no terminal: give a command, lab shell -- COMMAND")
    return here.shell(["busybox", "sh", "-l"])


def _host(options: argparse.Namespace) -> host.Host:
    machine = qemu.Machine(
        cpu=options.cpu,
        memory=options.memory,
        devices=tuple(devices.lookup(options.device)),
        device_arguments=tuple(options.device_arg),
    )
    with progress() as tell:
        program = qemu.find(tell, options.qemu)
        return host.prepare(program, kernel.resolve(options.kernel, tell), machine, tell)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyvmm lab", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a command of pyvmm's there: lab run -- caps")
    run.set_defaults(run=_run)
    shell = commands.add_parser("shell", help="a terminal there, or any command after --")
    shell.set_defaults(run=_shell)
    for each in (run, shell):
        _machine_options(each)
    return parser


def _machine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cpu", default="max", metavar="NAME", help="QEMU's CPU model, and options of it")
    add("--kernel", metavar="NAME", help=f"{kernel.NAMES}; the lab's own if it is built")
    names = ", ".join(devices.DEVICES)
    add("--device", action="append", default=[], metavar="NAME", help=f"one of {names}; repeatable")
    add("--device-arg", action="append", default=[], metavar="ARG", help="a -device of QEMU's own")
    add("--memory", type=_size, default=2 << 30, metavar="SIZE", help="the kernel's RAM: 2G")
    add("--timeout", type=float, metavar="S", help="seconds, from power-on")
    add("--qemu", metavar="PROGRAM", help="a QEMU of yours")


def _size(text: str) -> int:
    """Bytes of a size as QEMU writes it: 512M, 2G."""
    scale = {"M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper())
    if scale is None or not text[:-1].isdigit() or not int(text[:-1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 512M or 2G")
    return int(text[:-1]) * scale
