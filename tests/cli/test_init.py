# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a whole: exit statuses, and one line per error."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyvmm import cli
from pyvmm.errors import Status
from pyvmm.uapi import builtin

PYVMM = [sys.executable, "-m", "pyvmm"]


def pyvmm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PYVMM, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("help",)])
def test_help(arguments: tuple[str, ...]) -> None:
    done = pyvmm(*arguments)
    assert done.returncode == Status.DONE
    assert done.stdout.startswith("usage: python -m pyvmm")
    assert "caps" in done.stdout
    assert done.stderr == ""


def test_no_arguments_print_what_to_try() -> None:
    done = pyvmm()
    assert (done.returncode, done.stderr) == (Status.DONE, "")
    assert "python -m pyvmm caps" in done.stdout
    assert "python -m pyvmm --help" in done.stdout


def test_the_console_script_prints_its_own_name() -> None:
    program = "import sys; from pyvmm.cli import main; sys.argv[0] = '/usr/bin/pyvmm'; main()"
    argv = [sys.executable, "-c", program, "trace", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout.startswith("usage: pyvmm trace [OPTIONS]")


@pytest.mark.parametrize("arguments", [("--version",), ("caps", "--version")])
def test_version(arguments: tuple[str, ...]) -> None:
    done = pyvmm(*arguments)
    assert (done.returncode, done.stderr) == (Status.DONE, "")
    headers = re.escape(builtin.version())
    assert re.fullmatch(rf"pyvmm \d+\.\d+\.\d+, .* of Linux {headers}\n", done.stdout)


def test_the_tree_has_every_command_and_explains_every_argument() -> None:
    tree = cli.tree()
    programs = [parser.prog for parser in tree.parsers()]
    assert {f"pyvmm {name}" for name in cli.COMMANDS} <= set(programs)
    unexplained = [
        f"{parser.prog} {action.metavar or action.dest}"
        for parser in tree.parsers()
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert unexplained == []


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from pyvmm.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(*[name for name in sys.modules if name.startswith('pyvmm.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = {"pyvmm.cli", "pyvmm.errors", "pyvmm.output_file"}
    assert set(done.stdout.splitlines()[-1].split()) == modules


@pytest.mark.parametrize("arguments", [("--json", "--vfio"), ("--vfio", "1:2", "--kvm-headers")])
def test_options_without_a_command_are_those_of_run(arguments: tuple[str, ...]) -> None:
    done = pyvmm(*arguments)
    assert done.returncode == Status.USAGE
    assert done.stderr.splitlines()[-1].endswith("expected one argument")


def test_the_order_of_options_does_not_matter() -> None:
    absent = ("--vfio", "ffff:ff:1f.7")
    first, second = pyvmm("--json", *absent), pyvmm(*absent, "--json")
    assert first.stderr == second.stderr
    assert "does not exist: lspci -D" in first.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such",),
        ("caps", "--no-such"),
        ("caps", "extra"),
        ("trace", "diff", "one"),
        ("lab", "run", "--no-such", "--", "caps"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = pyvmm(*arguments)
    assert done.returncode == Status.USAGE
    assert done.stdout == ""
    assert "usage: " in done.stderr
    assert "error: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", [("caps",), ("lab", "setup"), ("trace", "show", "x")])
def test_a_command_that_takes_no_command_line(command: tuple[str, ...]) -> None:
    done = pyvmm(*command, "--", "caps")
    assert done.returncode == Status.USAGE
    assert done.stderr == "pyvmm: error: this takes no command: caps\n"


def test_importing_the_package_imports_nothing_else() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import pyvmm, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "pyvmm" in said
    assert not {"ctypes", "argparse", "json", "rich"} & set(said)
    assert not [name for name in said if name.startswith("pyvmm.")]


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("arguments", [("caps", "--json"), ("caps",), ("--help",)])
def test_a_closed_pipe(arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [*PYVMM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == Status.DONE


PRINTS = [("caps", "--json"), ("caps",), ("--help",), ("provoke", "--list"), ("lab", "status")]


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("arguments", PRINTS)
def test_a_full_disk(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PYVMM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "pyvmm: error: cannot write to stdout: No space left on device\n"
    assert done.returncode == Status.LACKING


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize(
    "arguments", [*PRINTS, (), ("uapi", "show", "KVM_RUN"), ("explain", "KVM_RUN", "errno=EFAULT")]
)
def test_a_closed_stdout(arguments: tuple[str, ...]) -> None:
    done = in_shell(">&-", *arguments)
    assert done.stderr == "pyvmm: error: cannot write to stdout: it is closed\n"
    assert done.returncode == Status.LACKING


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("closed", ["2>&-", "<&-", "2>/dev/full", "2>&- <&-"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("caps", "--json"), Status.DONE),
        (("provoke", "outside", "--json"), Status.DONE),  # writes notes to stderr
        (("caps", "extra"), Status.USAGE),
        (("--kvm-headers", "/proc", "caps"), Status.USAGE),
    ],
)
def test_without_stderr_or_stdin(arguments: tuple[str, ...], status: int, closed: str) -> None:
    done = in_shell(closed, *arguments)
    assert done.returncode == status
    assert bool(done.stdout) == (status == Status.DONE)


@pytest.mark.usefixtures("kvm")
def test_all_standard_streams_closed() -> None:
    assert in_shell(">&- 2>&- <&-", "caps").returncode == Status.LACKING


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("lab", "run", "--help")])
def test_stdout_in_another_encoding(arguments: tuple[str, ...], encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*PYVMM, *arguments], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (Status.DONE, b"")
    assert done.stdout.decode(encoding).startswith("usage: ")


def in_shell(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pyvmm with the redirections of a shell: Popen cannot close a standard stream."""
    argv = ["sh", "-c", f'exec "$@" {redirections}', "sh", *PYVMM, *arguments]
    return subprocess.run(argv, capture_output=True, text=True)


def test_a_directory_without_headers() -> None:
    done = pyvmm("--kvm-headers", "/proc", "caps")
    assert done.stderr.startswith("pyvmm: error: /proc holds no kernel headers")
    assert done.returncode == Status.USAGE


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize(
    "arguments",
    [
        ("caps", "--diff", "/dev/zero"),
        ("explain", "--pid", "1", "--slots", "/dev/zero"),
        ("trace", "--scenario", "/dev/zero", "--", "true"),
        ("trace", "show", "/dev/zero"),
        ("trace", "diff", "/dev/zero", "/dev/zero"),
        ("--kvm-headers", "{directory}/zero.json", "caps"),
        ("--kvm-headers", "{directory}", "caps"),
        ("uapi", "diff", "{directory}", "builtin"),
    ],
)
def test_a_file_without_an_end(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "Makefile").symlink_to("/dev/zero")
    for directory in ("arch/arm64", "arch/x86", ""):
        (tmp_path / directory / "include/uapi/linux").mkdir(parents=True)
    (tmp_path / "include/uapi/linux/kvm.h").touch()
    with (tmp_path / "zero.json").open("wb") as sparse:
        sparse.truncate(16 << 30)
    words = [word.format(directory=tmp_path) for word in arguments]
    argv = ["sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh", *PYVMM, *words]  # KiB
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (Status.USAGE, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("pyvmm: error: ")


RUNS_FOREVER = """
import sys
from pyvmm import cli
import pyvmm.cli.caps
from pyvmm.guest.payload import Payload
from pyvmm.kvm import System
from pyvmm.machine import Machine

def run(options):
    with System.open() as system, Machine(system) as machine:
        machine.load(Payload.builtin("spin", machine.arch.NAME))
        machine.enter()
        print("running", flush=True)
        machine.run()

pyvmm.cli.caps.run = run  # a command that runs until it is interrupted
sys.exit(cli.main(["caps"]))
"""


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, Status.INTERRUPTED), (signal.SIGTERM, 128 + 15)]
)
def test_a_running_guest_can_be_interrupted(number: signal.Signals, status: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNS_FOREVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout
        assert running.stderr
        assert running.stdout.readline() == "running\n"
        time.sleep(0.05)
        running.send_signal(number)
        complaint = running.stderr.read()
    assert running.returncode == status
    assert "Traceback" not in complaint
