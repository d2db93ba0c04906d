# SPDX-License-Identifier: GPL-2.0-only
"""The arguments of ``run``; tests/passthrough tests its results."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from tests.devices import Find
from tests.json_documents import valid


def pyvmm(*args: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pyvmm", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout)


ABSENT = "ffff:ff:1f.7"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--vfio", "01:00"], "01:00"),
        (["--vfio", "0000:01:00.9"], "0000:01:00.9"),
        (["--vfio", ABSENT], "does not exist: lspci -D"),
        (["--vfio", ABSENT, "--write", "BAR0=1"], "REGION+OFFSET=VALUE"),
        (["--vfio", ABSENT, "--write", "BAR0\n+0=1"], "REGION+OFFSET=VALUE"),
        (["--vfio", ABSENT, "--write", "BAR0+0x=1"], "REGION+OFFSET=VALUE"),
        (["--vfio", ABSENT, "--write", f"BAR0+0={1 << 32}"], "32 bits"),
        (["--vfio", ABSENT, "--vfio", ABSENT, "--write", "BAR0+0=1"], "give one --vfio"),
        (["--vfio", ABSENT, "--vfio", ABSENT.upper()], f"{ABSENT} is given twice"),
        (["--vfio", ABSENT, "--write", "BAR0+0=1", "--guest", "x"], "--write is for the probes"),
        (["--vfio", ABSENT, "--console", "x"], "--console is for what a payload prints"),
        (["--vfio", ABSENT, "--guest", "x", "--console", "/"], "cannot write the console to /"),
        (["--vfio", ABSENT, "--on-fault", "stop", "--on-fault", "auto"], "has a policy already"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(args: list[str], says: str) -> None:
    done = pyvmm(*args)
    assert (done.returncode, done.stdout) == (2, "")
    *notes, line = done.stderr.splitlines()
    assert all("the sandbox is incomplete" in note for note in notes)  # by a kernel without it
    assert line.startswith("pyvmm: error: ")
    assert says in line


HELLO = str(files("pyvmm.guest") / "payloads/arm64/hello.bin")
PRINTED = "Hello from arm64\n"


@pytest.mark.needs_arch("aarch64")
def test_the_console_is_stderr(find: Find) -> None:
    done = pyvmm("--vfio", str(find("edu")), "--guest", HELLO, "--json")
    assert (done.returncode, done.stderr.endswith(PRINTED)) == (0, True)
    assert valid(done.stdout)["result"] == "ok"


@pytest.mark.needs_arch("aarch64")
def test_the_console_is_a_file(find: Find, tmp_path: Path) -> None:
    console = tmp_path / "console"
    done = pyvmm("--vfio", str(find("edu")), "--guest", HELLO, "--console", str(console))
    assert done.returncode == 0
    assert PRINTED not in done.stdout + done.stderr
    assert console.read_text() == PRINTED


@pytest.mark.needs_arch("aarch64")
def test_a_console_on_a_full_disk(find: Find) -> None:
    done = pyvmm("--vfio", str(find("edu")), "--guest", HELLO, "--console", "/dev/full")
    assert (done.returncode, done.stdout) == (3, "")
    line = done.stderr.splitlines()[-1]
    assert line == "pyvmm: error: cannot write to /dev/full: No space left on device"


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize("args", [["--on-fault", "BAR9=stop"], ["--flip", "BAR9"]])
def test_a_region_that_no_device_has(find: Find, args: list[str]) -> None:
    done = pyvmm("--vfio", str(find("edu")), *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{args[0]}: no device has a region BAR9" in done.stderr


@pytest.mark.needs_arch("aarch64")
@pytest.mark.parametrize("args", [["--on-fault", "BAR0=stop"], ["--on-fault", "RAM=stop"]])
def test_a_policy_of_a_region(find: Find, args: list[str]) -> None:
    assert pyvmm("--vfio", str(find("edu")), *args).returncode == 0


@pytest.mark.needs_arch("aarch64")
def test_a_device_that_has_a_vfio_driver_already(find: Find) -> None:
    edu = find("edu")
    done = pyvmm("--vfio", str(edu), "--bind")
    assert done.returncode == 0
    assert f"{edu} has vfio-pci already and keeps it; to give it back" in done.stderr
    assert edu.driver == "vfio-pci"


@pytest.mark.parametrize("args", [["--vfio"], ["--vfio", ABSENT, "--iommu-mode", "magic"], ["run"]])
def test_argparse_rejects(args: list[str]) -> None:
    done = pyvmm(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_help() -> None:
    done = pyvmm("run", "--help")
    assert done.returncode == 0
    assert "--iommu-mode" in done.stdout


def test_an_unwritable_report_is_rejected_before_the_run(tmp_path: Path) -> None:
    done = pyvmm("--vfio", ABSENT, "--report", str(tmp_path / "no" / "such.json"))
    assert done.returncode == 2
    assert "such.json" in done.stderr


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_kernels_path_to_a_fault(find: Find, form: str) -> None:
    args = ["--vfio", str(find("grace")), "--flip", "BAR4", "--on-fault", "replay", "--provenance"]
    done = pyvmm(*args, *(["--json"] if form == "json" else []), timeout=250)
    if "--provenance is skipped" in done.stderr:
        pytest.skip(done.stderr)
    cause = "cacheable-pfnmap-unsupported"
    if cause not in done.stdout:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    if form == "text":
        assert "the kernel's path: user_mem_abort -EFAULT; it fits cacheable-pfnmap" in done.stdout
        return
    document = valid(done.stdout)
    fault = document["faults"][0]
    path = fault["provenance"]
    assert cause in path["verdict"]
    assert (path["ipa"], path["pc"]) == (fault["gpa"], fault["pc"])
    assert document["provenance"]["skipped"] is None
