# SPDX-License-Identifier: GPL-2.0-only
"""The options that describe emulated hosts, and the hosts that they describe."""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyvmm.cli.option_types import count, seconds, size
from pyvmm.cli.progress import progress
from pyvmm.errors import UsageError
from pyvmm.lab import host, kernel, kvm_mode, lab_devices, qemu
from pyvmm.uapi import header_set

TIMEOUT = 1800.0  # seconds


def add_qemu(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--qemu``."""
    parser.add_argument("--qemu", metavar="PROGRAM", help="QEMU program to use")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe hosts, and ``--timeout``."""
    parser.set_defaults(takes_command=True, takes_headers=True, verbose=False)
    add_qemu(parser)
    add = parser.add_argument
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    add(
        "--cpu",
        help="CPU model of QEMU, with its options (max); max+mte has memory tags; repeatable",
        **several,
    )
    add("--kernel", help=f"{kernel.NAMES}; repeatable", **several)
    names = ", ".join(lab_devices.NAMES)
    add("--device", help=f"{names}; repeatable", **several)
    add(
        "--device-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="add -device ARG to QEMU; a PCI device without bus= gets its own root port, vfio-pci, "
        "and the address after those of --device; repeatable",
    )
    add(
        "--mode",
        action="append",
        default=[],
        choices=kvm_mode.NAMES,
        help="mode of KVM in the host (kvm-arm.mode of its kernel); repeatable",
    )
    add(
        "--package",
        help=f"Debian package to unpack into {host.PACKAGES}/NAME of the host; repeatable",
        **several,
    )
    add("--append", default="", metavar="TEXT", help="append to the kernel command line")
    add("--cpus-online", type=count, default=2, metavar="N", help="CPUs of the host (2)")
    add("--hugepages", type=count, default=0, metavar="N", help="huge pages to reserve at boot")
    add("--memory", type=size, default=2 << 30, metavar="SIZE", help="RAM of the kernel (2G)")
    add(
        "--timeout",
        type=seconds,
        metavar="S",
        help="end a command, or each test, that runs for more than S seconds "
        f"({TIMEOUT:.0f} since power-on, 300 for a test)",
    )


def create(options: argparse.Namespace) -> list[host.Host]:
    """Prepare a host for each CPU, kernel and mode of KVM."""
    check_repeated(options)
    hosts: list[host.Host] = []
    with progress() as report:
        program = qemu.find(report, options.qemu)
        for cpu, name, mode in itertools.product(
            options.cpu or ["max"], options.kernel or [None], options.mode or [None]
        ):
            machine = _machine(program, options, cpu, mode)
            made = host.prepare_by_name(
                program, name, machine, report, _files(options), options.package
            )
            made = replace(made, verbose=options.verbose)
            if made in hosts:  # debian, and the same one by its version
                raise UsageError(f"--kernel {name} is {made.kernel.name}, given before")
            hosts.append(made)
    return hosts


def check_repeated(options: argparse.Namespace) -> None:
    """Raise `UsageError` if a CPU, a kernel or a mode is given twice."""
    for option in ("--cpu", "--kernel", "--mode"):
        names = getattr(options, option[2:])
        for n, name in enumerate(names):
            if name in names[:n]:
                raise UsageError(f"{option} {name} is given twice: leave one out")


def _files(options: argparse.Namespace) -> list[Path]:
    """Return the file for the host that has the definitions of ``--kvm-headers``."""
    headers: Path | None = options.kvm_headers
    return [header_set.cache_file(headers, "arm64")] if headers else []


def headers_option(options: argparse.Namespace) -> list[str]:
    """Return the option that loads these definitions in the host."""
    return [f"--kvm-headers={host.FILES / each.name}" for each in _files(options)]


def _machine(
    program: qemu.Qemu, options: argparse.Namespace, cpu: str, mode: str | None
) -> qemu.EmulatedMachine:
    devices, arguments = program.devices(options.device, options.device_arg)
    return qemu.EmulatedMachine(
        cpu=cpu,
        cpus=options.cpus_online,
        memory=options.memory,
        devices=devices,
        device_arguments=arguments,
        append=options.append,
        mode=mode,
        hugepages=options.hugepages,
    )
