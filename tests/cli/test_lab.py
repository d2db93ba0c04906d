# SPDX-License-Identifier: GPL-2.0-only
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyvmm import cli
from pyvmm.cli import lab
from pyvmm.errors import Status
from tests.json_documents import valid
from tests.process import exits_with


@pytest.mark.parametrize(
    "argv",
    [
        ("status", "--qemu", "/none"),
        ("clean", "--qemu", "/none"),
        ("clean", "--json"),
        ("matrix", "--json", "--markdown", "--", "caps"),
        ("selftests", "--json", "--markdown"),
        ("setup", "--timeout", "5"),
        ("shell", "--timeout", "5"),
    ],
    ids=" ".join,
)
def test_option_without_effect_is_an_error(
    argv: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # `clean` must not remove the user's
    with exits_with(Status.USAGE):
        cli.main(["lab", *argv])
    assert argv[1] in capfd.readouterr().err


def test_pytest_has_the_options_of_lab_test() -> None:
    [parser] = [each for each in cli.tree().parsers() if each.prog == "pyvmm lab test"]
    names = {action.dest for action in parser._actions} - {"help"}
    assert names == {*lab._LAB_TEST_OPTIONS, "memory"}
    argv = [sys.executable, "-m", "pytest", "--help"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    for name in names:
        assert f"--lab-{name.replace('_', '-')}=" in text


NO_QEMU = ("--qemu", "/no/such/qemu")  # ends a command before it downloads anything


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("matrix", "--cpu", "a", "--cpu", "b", "--kernel", "lab", *NO_QEMU), "/no/such/qemu"),
        (("run", "--cpu", "a", "--cpu", "b", "--kernel", "lab", *NO_QEMU), "/no/such/qemu"),
        (("run", "--cpu", "a", "--cpu", "a", *NO_QEMU), "--cpu a is given twice"),
        (("matrix", "--kernel", "lab", "--kernel", "lab", *NO_QEMU), "--kernel lab is given twice"),
        (("test", "--cpu", "a", "--cpu", "a", *NO_QEMU), "--cpu a is given twice"),
        (("matrix", "--mode", "vhe", "--mode", "nvhe", *NO_QEMU), "/no/such/qemu"),
        (("run", "--mode", "vhe", "--mode", "vhe", *NO_QEMU), "--mode vhe is given twice"),
        (("test", "--mode", "vhe", "--mode", "vhe", *NO_QEMU), "--mode vhe is given twice"),
        (("run", "--mode", "pkvm"), "invalid choice: 'pkvm'"),
        (("matrix", "--jobs", "0", *NO_QEMU), "'0' is not a positive number"),
        (("matrix", "--kcidb", "/no/such/file", *NO_QEMU), "cannot write the report to /no/such"),
        (("matrix", "--cpus", "a,b"), "unrecognized arguments: --cpus a,b"),
        (("matrix", "--kernels", "a,b"), "unrecognized arguments: --kernels a,b"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_cpus_and_kernels_are_repeated_options(
    argv: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with exits_with(Status.USAGE):
        cli.main(["lab", *argv, "--", "caps"])
    assert says in capfd.readouterr().err


def test_status_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "pyvmm"
    (root / "kernels").mkdir(parents=True)
    (root / "kernels/some").write_bytes(bytes(5))
    assert cli.main(["lab", "status", "--json"]) == Status.DONE
    document = valid(capsys.readouterr().out)
    assert document["root"] == str(root)
    assert len(document["cached"]) == 1


def test_a_shell_is_on_one_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with exits_with(Status.USAGE):
        cli.main(["lab", "shell", "--cpu", "a", "--cpu", "b", *NO_QEMU])
    assert "a shell runs on one host" in capfd.readouterr().err


@pytest.mark.skipif("PYVMM_LAB" in os.environ, reason="the lab does not run in the lab")
def test_run_on_two_cpus() -> None:
    argv = [sys.executable, "-m", "pyvmm", "lab", "run", "-v"]
    argv += ["--cpu", "cortex-a57", "--cpu", "max"]
    done = subprocess.run([*argv, "--", "help"], capture_output=True, text=True, timeout=600)
    if done.returncode == Status.LACKING:
        pytest.skip(f"cannot set up the lab: {done.stderr.splitlines()[-1]}")
    assert done.returncode == Status.DONE
    assert done.stdout.count("usage: python -m pyvmm") == 2
    assert [line.split(",")[0] for line in done.stderr.splitlines() if "running on" in line] == [
        "pyvmm: running on cortex-a57",
        "pyvmm: running on max",
    ]
    for cpu in ("cortex-a57", "max"):
        assert f" -cpu {cpu} " in done.stderr
    assert done.stderr.count("] Booting Linux on physical CPU") == 2
