# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a whole: exit statuses, and one line per error."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyvmm.errors import Status

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


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from pyvmm.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(*[name for name in sys.modules if name.startswith('pyvmm.')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert set(done.stdout.splitlines()[-1].split()) == {"pyvmm.cli", "pyvmm.errors"}


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


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("arguments", [("caps", "--json"), ("caps",), ("--help",)])
def test_a_full_disk(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PYVMM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "pyvmm: error: No space left on device\n"
    assert done.returncode == Status.LACKING


def test_a_directory_without_headers() -> None:
    done = pyvmm("--kvm-headers", "/proc", "caps")
    assert done.stderr.startswith("pyvmm: error: /proc holds no kernel headers")
    assert done.returncode == Status.USAGE


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
