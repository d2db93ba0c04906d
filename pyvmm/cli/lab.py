# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm lab``: set up the emulated arm64 host, run commands in it, and manage its cache."""

import argparse
import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from pyvmm import kcidb
from pyvmm.cli import html_file, lab_hosts, lab_selftests, output
from pyvmm.cli.option_types import count
from pyvmm.cli.progress import progress
from pyvmm.cli.report_file import ReportFile
from pyvmm.errors import LackingError, Status, UsageError
from pyvmm.lab import (
    cache,
    causes,
    host,
    kernel,
    kernel_build,
    kernel_config,
    matrix,
    qemu,
)
from pyvmm.output_file import OutputFile

# Those that pytest takes as --lab-NAME.
_LAB_TEST_OPTIONS = (
    *("append", "cpu", "cpus_online", "device", "device_arg", "hugepages", "kernel", "mode"),
    *("package", "qemu", "timeout"),
)
_PYVMM = ("python3", "-m", "pyvmm")


def run(options: argparse.Namespace) -> int:
    """Run the chosen subcommand and return the exit status."""
    with cache.convert_errors():
        status: int = options.subcommand(options, options.rest)
    return status


def _setup(options: argparse.Namespace, rest: Sequence[str]) -> int:
    name = options.kernel
    changes = kernel_config.parse_changes(options.config)
    if name in (None, "lab"):  # keep the kernel without the patch and the options
        if options.patch:
            name = f"lab:{options.patch.stem}"
        elif changes:
            name = f"lab:{_variant(options.config[0])}"
    with progress() as report:
        if name is not None and name.partition(":")[0] == "lab":
            kernel_build.build(
                name, report, source=options.source, patch=options.patch, changes=changes
            )
        elif options.source or options.patch or changes:
            raise UsageError(
                "--source, --patch and --config build lab kernels: add --kernel lab:NAME"
            )
        host.prepare(
            qemu.find(report, options.qemu),
            kernel_build.find_or_build(name, report),
            qemu.EmulatedMachine(),
            report,
        )
    return Status.DONE


def _variant(change: str) -> str:
    """Return the name of a kernel with an option, or with those of a file: "lockdep"."""
    return Path(change).stem.partition("=")[0].removeprefix("CONFIG_").lower()


def _run(options: argparse.Namespace, command: Sequence[str]) -> int:
    if not command:
        raise UsageError("no command: pass one of pyvmm's, such as lab run -- caps")
    return _run_command(options, [*_PYVMM, *lab_hosts.headers_option(options), *command])


def _test(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Run ``pytest --lab`` with these options, which the plugin in `pyvmm.testing` defines."""
    if find_spec("pytest") is None:
        raise LackingError("lab test needs pytest: pip install 'pyvmm[test]'")
    lab_hosts.check_repeated(options)
    argv = [sys.executable, "-m", "pytest", "-p", "pyvmm.testing.plugin"]
    argv += ["--lab", f"--lab-memory={options.memory >> 20}M"]
    if options.kvm_headers:
        argv += [f"--kvm-headers={options.kvm_headers}"]
    for name in _LAB_TEST_OPTIONS:
        value = getattr(options, name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        argv += [f"--lab-{name.replace('_', '-')}={each}" for each in values]
    # execv: pytest rewrites asserts only in modules that it imports itself, and a signal to this
    # process must end the hosts.
    os.execv(sys.executable, [*argv, *arguments])


def _shell(options: argparse.Namespace, command: Sequence[str]) -> int:
    if command:
        return _run_command(options, command)
    if options.timeout is not None:
        raise UsageError("--timeout limits a command: add one after --, or omit --timeout")
    if max(len(options.cpu), len(options.kernel), len(options.mode)) > 1:
        raise UsageError("a shell runs on one host: give one --cpu, one --kernel and one --mode")
    [machine] = lab_hosts.create(options)
    with _dmesg_file(options) as dmesg:
        return machine.shell(["sh", "-l"], dmesg)


def _matrix(options: argparse.Namespace, command: Sequence[str]) -> int:
    if not command:
        raise UsageError("no command: pass one of pyvmm's, such as lab matrix -- caps --json")
    page = html_file.html_file(options, causes.MATRIX_SCHEMA)
    results = ReportFile(options.kcidb) if options.kcidb else None
    hosts = lab_hosts.create(options)
    with progress() as report:
        argv = [*_PYVMM, *lab_hosts.headers_option(options), *command]
        limit = options.timeout or lab_hosts.TIMEOUT
        cells = matrix.run(hosts, argv, limit, report, options.resume, options.jobs)
    if results:
        results.save(kcidb.document(matrix.kcidb_tests(cells, command)))
    if options.json:
        print(json.dumps(matrix.document(cells, command), indent=1))
    elif options.markdown:
        print(matrix.markdown(cells))
    else:
        output.table("", *matrix.table(cells))
    if page:
        page.save(matrix.document(cells, command))
    return max((cell.status for cell in cells), default=Status.DONE)


def _kernels(options: argparse.Namespace, rest: Sequence[str]) -> int:
    with progress() as report:
        offered = kernel.offered(report)
    if options.json:
        kernels = [asdict(each) for each in offered]
        print(json.dumps({"schema": "pyvmm.lab.kernels/1", "kernels": kernels}, indent=1))
        return Status.DONE
    rows = [
        (
            each.name,
            f"{each.page_size >> 10} KiB",
            "yes" if each.modules else "not on the mirror: does not run",
            "yes" if each.cached else "no",
        )
        for each in offered
    ]
    output.table("Kernels for --kernel", ("name", "pages", "modules", "cached"), rows)
    return Status.DONE


def _status(options: argparse.Namespace, rest: Sequence[str]) -> int:
    entries = cache.entries()
    if options.json:
        cached = [{"name": e.name, "size": e.size, "made": e.mtime} for e in entries]
        document = {"schema": "pyvmm.lab.status/1", "root": str(cache.root()), "cached": cached}
        print(json.dumps(document, indent=1))
        return Status.DONE
    rows = [(e.name, f"{e.size / (1 << 20):.1f} MiB", _age(time.time() - e.mtime)) for e in entries]
    rows.append(("total", f"{sum(e.size for e in entries) / (1 << 20):.1f} MiB", ""))
    output.table(f"Cache of the lab: {cache.root()}", ("name", "size", "age"), rows)
    return Status.DONE


def _clean(options: argparse.Namespace, rest: Sequence[str]) -> int:
    output.note(f"removing the lab's files in {cache.root()}")
    cache.clean()
    return Status.DONE


def _run_command(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Run a command in each host, in turn, with the stdout and stderr of this process."""
    hosts = lab_hosts.create(options)
    status = 0
    with _dmesg_file(options) as dmesg:
        for each in hosts:
            if len(hosts) > 1:
                mode = f", {each.machine.mode}" if each.machine.mode else ""
                output.note(f"running on {each.machine.cpu}, {each.kernel.name}{mode}")
            ended = each.run(
                command,
                stdout=sys.stdout.buffer,
                stderr=sys.stderr.buffer,
                timeout=options.timeout or lab_hosts.TIMEOUT,
                note=output.note,
                dmesg=dmesg,
            )
            status = max(status, ended)
    return status


def _dmesg_file(options: argparse.Namespace) -> contextlib.AbstractContextManager[TextIO | None]:
    """Return the file for ``--dmesg``, or None."""
    if options.dmesg is None:
        return contextlib.nullcontext()
    return io.TextIOWrapper(io.BufferedWriter(OutputFile(str(options.dmesg), str(options.dmesg))))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm lab``."""
    parser.set_defaults(run=run)
    parser.description = "Set up the emulated arm64 host, run commands in it, and manage its cache."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, about: str, function: object) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        added.set_defaults(subcommand=function, takes_headers=False)
        return added

    setup = command("setup", "download and build what the lab needs", _setup)
    lab_hosts.add_qemu(setup)
    setup.add_argument("--kernel", metavar="NAME", help=kernel.NAMES)
    setup.add_argument("--source", type=Path, metavar="DIR", help="build lab:VARIANT from DIR")
    setup.add_argument("--patch", type=Path, metavar="FILE", help="build a variant with a patch")
    setup.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE|OPTION=y",
        help="build a variant with more kernel options, by default lab:OPTION; repeatable",
    )
    run_parser = command("run", "run a pyvmm command in the host: lab run -- caps", _run)
    test = command(
        "test", "run tests in the host with pytest --lab; accepts pytest's arguments", _test
    )
    shell = command("shell", "open a shell in the host, or run any command after --", _shell)
    test.set_defaults(takes_unknown=True)
    table = command("matrix", "compare a pyvmm command on several CPUs, kernels and modes", _matrix)
    form = table.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    html_file.add_arguments(table)
    table.add_argument(
        "--jobs", type=count, metavar="N", help="hosts that run at once (one per core)"
    )
    table.add_argument(
        "--kcidb",
        type=Path,
        metavar="FILE",
        help="save the results for KCIDB, the database of kernel CI",
    )
    table.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="save the result of each host in DIR, and take those that it has from there",
    )
    selftests = command(
        "selftests", "run the kernel's selftests of KVM and vfio in the host", lab_selftests.run
    )
    for each in (run_parser, test, shell, table, selftests):
        lab_hosts.add_options(each)
    for each in (run_parser, shell):
        each.add_argument(
            "-v",
            "--verbose",
            action="store_true",
            help="show QEMU's command line and the host's console, with all kernel messages",
        )
        each.add_argument(
            "--dmesg", type=Path, metavar="FILE", help="write the log of the host's kernel to FILE"
        )
    lab_selftests.add_arguments(selftests)
    kernels = command("kernels", "list the kernels that --kernel accepts", _kernels)
    kernels.add_argument("--json", action="store_true", help="print JSON")
    status = command("status", "list the cached files with their size and age", _status)
    status.add_argument("--json", action="store_true", help="print JSON")
    command("clean", "remove the cached files", _clean)


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
