# SPDX-License-Identifier: GPL-2.0-only
"""Jobs on the emulated arm64 host's devices; some results depend on its CPU."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pyvmm.passthrough import Job, run_job
from pyvmm.passthrough.job_document import to_json
from pyvmm.passthrough.probe_bars import Write
from pyvmm.vfio.iommu_modes import AUTO, MODES
from pyvmm.vfio.sysfs import PciFunction
from tests.devices import Find
from tests.json_documents import valid

pytestmark = pytest.mark.needs_arch("aarch64")

TYPES = ["device-nGnRE", "normal-nc", "normal-wb"]


def run(
    function: PciFunction,
    *others: PciFunction,
    mode: str = AUTO,
    writes: Sequence[Write] = (),
    guest: Path | None = None,
) -> dict[str, Any]:
    """Run the job and return its JSON document."""
    devices = [str(each) for each in (function, *others)]
    result = run_job(Job(devices, iommu_mode=mode, writes=writes, guest=guest))
    document: dict[str, Any] = json.loads(json.dumps(to_json(result)))
    return document


def supported(document: dict[str, Any]) -> bool:
    """Return True if KVM supports cacheable PFNMAP memslots on this CPU."""
    [verdict] = [v for v in document["caps"]["verdicts"] if v["name"] == "cacheable-pfnmap"]
    return bool(verdict["supported"])


def probes(document: dict[str, Any], region: str) -> list[dict[str, Any]]:
    return [probe for probe in document["probes"] if probe["region"] == region]


def memslot(document: dict[str, Any], region: str) -> dict[str, Any]:
    [slot] = [slot for slot in document["memslots"] if slot["region"] == region]
    found: dict[str, Any] = slot
    return found


@pytest.fixture(scope="module")
def grace(find: Find) -> dict[str, Any]:
    """Return the document of one run on the Grace-style GPU."""
    return run(find("grace"))


def test_cacheable_memory_is_registered_or_explained(grace: dict[str, Any]) -> None:
    slot = memslot(grace, "BAR4")
    if supported(grace):
        assert (slot["outcome"], slot["errno"], slot["cause"]) == ("registered", None, None)
    else:
        assert (slot["outcome"], slot["errno"]) == ("rejected", "EINVAL")
        assert (slot["cause"], slot["fallback"]) == ("cacheable-pfnmap-unsupported", "emulate")
        assert slot["cacheability"] == "cacheable"


def test_missing_cpu_features_are_named(grace: dict[str, Any]) -> None:
    features, why = grace["caps"]["features"], memslot(grace, "BAR4")["why"]
    for name in ("fwb", "dic"):
        assert (f"no {name.upper()}" in why) == (not features[name])


def test_cacheable_memory_is_read_with_every_memory_type(grace: dict[str, Any]) -> None:
    found = probes(grace, "BAR4")
    assert [probe["attribute"] for probe in found[:3]] == TYPES
    assert {probe["result"] for probe in found} == {"ok"}
    assert {probe["exits"] for probe in found} == {0 if supported(grace) else 1}


def test_normal_nc_memory_is_registered_on_every_cpu(grace: dict[str, Any]) -> None:
    assert memslot(grace, "BAR2")["outcome"] == "registered"
    assert {probe["exits"] for probe in probes(grace, "BAR2")} == {0}


def test_an_emulated_bar_is_not_a_failure(grace: dict[str, Any]) -> None:
    assert grace["result"] == "ok"


def test_the_guest_reads_a_word_that_it_wrote(find: Find) -> None:
    document = run(find("grace"), writes=[Write("BAR4", 0x1000, 0xFEEDFACE)])
    written = [p for p in probes(document, "BAR4") if p["offset"] == 0x1000]
    values = {probe["value"] for probe in written if probe["access"] == "read"}
    assert values == {0xFEEDFACE}


def test_a_write_is_undone(find: Find) -> None:
    run(find("grace"), writes=[Write("BAR4", 0, 0xFEEDFACE)])
    again = run(find("grace"))
    assert {p["value"] for p in probes(again, "BAR4") if p["offset"] == 0} == {0}


@pytest.mark.parametrize("name", ["bochs", "edu", "nvme", "grace"])
@pytest.mark.parametrize("mode", MODES)
def test_every_device_in_every_mode(find: Find, name: str, mode: str) -> None:
    function = find(name)
    document = run(function, mode=mode)
    assert document["result"] == "ok"
    assert document["device"]["iommu_mode"] == mode
    assert {probe["result"] for probe in document["probes"]} == {"ok"}


def test_two_devices_share_a_machine(find: Find) -> None:
    one, other = find("edu"), find("nvme")
    document = run(one, other)
    assert [device["bdf"] for device in document["devices"]] == [str(one), str(other)]
    assert document["result"] == "ok"


def test_the_command_prints_and_saves_the_document(find: Find, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    argv = [sys.executable, "-m", "pyvmm", "--vfio", str(find("edu")), "--json"]
    done = subprocess.run([*argv, "--report", str(report)], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text()) == valid(done.stdout.decode())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grace", ["--flip", "BAR2", "--flip", "BAR4"]),
        ("grace", ["--flip", "BAR4", "--on-fault", "emulate"]),
        ("bochs", ["--flip", "BAR0", "--on-fault", "replay", "--write", "BAR0+0x10=0xff"]),
    ],
)
def test_the_sandbox_changes_no_result(find: Find, name: str, options: list[str]) -> None:
    documents = []
    for sandbox in ([], ["--no-sandbox"]):
        argv = [sys.executable, "-m", "pyvmm", "--vfio", str(find(name)), "--json"]
        done = subprocess.run([*argv, *options, *sandbox], capture_output=True, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        documents.append(valid(done.stdout.decode()))
    assert documents[0] == documents[1]


def test_a_payload_file(find: Find, tmp_path: Path) -> None:
    source = tmp_path / "end.s"
    source.write_text("ldr x2, [x1]\n movz w0, #8\n movk w0, #0x8400, lsl #16\n hvc #0\n")
    document = run(find("edu"), guest=source)
    assert (document["result"], document["probes"]) == ("ok", [])


@pytest.mark.parametrize("name", ["edu", "grace"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_returns_the_device_to_its_driver(
    find: Find, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    function = find(name)
    before = function.driver
    spin = tmp_path / "spin.s"
    spin.write_text("b .\n")
    argv = [sys.executable, "-m", "pyvmm", "--vfio", str(function), "--guest", str(spin)]
    child = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    _wait_for_vcpu(child.pid)
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert "Traceback" not in errors
    assert function.driver == before
    assert run(function)["result"] == "ok"


def _wait_for_vcpu(pid: int) -> None:
    """Wait until the process has a vCPU, so its guest is about to run."""
    for _ in range(600):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                if "kvm-vcpu" in str(fd.readlink()):
                    time.sleep(0.2)
                    return
        time.sleep(0.1)
    raise AssertionError("the process created no vCPU")
