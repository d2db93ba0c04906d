# SPDX-License-Identifier: GPL-2.0-only
"""The remedies for a cacheable BAR that replaced registered memory on a CPU without FWB."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from pyvmm.errors import UsageError
from pyvmm.faults import Policy
from pyvmm.faults.policy import auto, parse
from pyvmm.passthrough import Job, run_job
from pyvmm.passthrough.document import to_json
from pyvmm.passthrough.probe_bars import Write
from pyvmm.vfio.sysfs import PciFunction
from tests.devices import Find

pytestmark = pytest.mark.needs_arch("aarch64")

VALUE = 0x5EED_F00D
CAUSE = "cacheable-pfnmap-unsupported"
FAULT = {"errno": "EFAULT", "source": "reconstructed", "cause": CAUSE, "region": "BAR4"}


def run(
    function: PciFunction, policy: Policy = auto, flip: Sequence[str] = ("BAR4",)
) -> dict[str, Any]:
    """Let the guest write `VALUE` at the start of BAR4, then read it back with each memory type."""
    plan = Job(
        [str(function)], writes=[Write("BAR4", 0, VALUE)], on_fault=policy, flip=frozenset(flip)
    )
    document: dict[str, Any] = json.loads(json.dumps(to_json(run_job(plan))))
    return document


def bar4_probes(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the results of the guest's accesses to BAR4."""
    return [
        (probe["offset"], probe["attribute"], probe["access"], probe["result"], probe["value"])
        for probe in document["probes"]
        if probe["region"] == "BAR4"
    ]


@pytest.fixture(scope="module")
def grace(find: Find) -> PciFunction:
    return find("grace")


def run_without_fwb(grace: PciFunction, policy: Policy) -> dict[str, Any]:
    """Run the guest with BAR4 flipped; skip the test if the CPU maps it cacheable."""
    document = run(grace, policy)
    verdicts = {v["name"]: v["supported"] for v in document["caps"]["verdicts"]}
    if verdicts["cacheable-pfnmap"]:
        assert document["faults"] == []
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    return document


def assert_as_with_fwb(probes: list[tuple[Any, ...]]) -> None:
    """Assert that each access succeeds, and that the first reads return the written value."""
    assert {result for *_, result, _ in probes} == {"ok"}
    reads = [value for offset, _, access, _, value in probes if (offset, access) == (0, "read")]
    assert set(reads[:3]) == {VALUE}


@pytest.mark.parametrize(
    ("words", "fix"),
    [([], "emulate"), (["emulate"], "emulate"), (["BAR4=replay"], "replay")],
    ids=["auto", "emulate", "BAR4=replay"],
)
def test_the_guest_sees_the_same_as_with_fwb(
    grace: PciFunction, words: list[str], fix: str
) -> None:
    document = run_without_fwb(grace, parse(words))
    assert_as_with_fwb(bar4_probes(document))
    assert document["result"] == "ok"
    for fault in document["faults"]:
        assert FAULT.items() <= fault.items()
        assert (fault["fix"], fault["outcome"]) == (fix, "resolved")
    assert document["faults"]


def test_without_a_flip_the_guest_sees_the_same(grace: PciFunction) -> None:
    """BAR4 is registered if the CPU has FWB and DIC, and emulated from the start if not."""
    document = run(grace, flip=())
    assert_as_with_fwb(bar4_probes(document))
    assert document["faults"] == []


def test_the_record_of_a_copy_says_so(grace: PciFunction) -> None:
    [fault, *_] = run_without_fwb(grace, parse(["replay"]))["faults"]
    assert "private copy" in fault["how"]


def test_a_stopped_fault_is_the_result_of_the_job(grace: PciFunction) -> None:
    document = run_without_fwb(grace, parse(["stop"]))
    assert document["result"] == "fault"
    assert {fault["outcome"] for fault in document["faults"]} == {"stopped"}
    assert document["faults"][0]["possible"] == ["replay", "emulate", "inject"]


def test_an_injected_abort_reaches_the_guest(grace: PciFunction) -> None:
    document = run_without_fwb(grace, parse(["inject"]))
    assert {result for *_, result, _ in bar4_probes(document)} == {"abort"}
    assert document["result"] == "ok"


def test_only_an_existing_bar_can_be_replaced(grace: PciFunction) -> None:
    with pytest.raises(UsageError, match="--flip: no device has BAR1"):
        run(grace, flip=["BAR1"])


def test_the_command_line_applies_the_same_remedy(grace: PciFunction) -> None:
    argv = [sys.executable, "-m", "pyvmm", "--vfio", str(grace), "--flip", "bar4"]
    done = subprocess.run([*argv, "--on-fault", "BAR4=replay"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if CAUSE not in done.stdout:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert re.search(rf"read +EFAULT +reconstructed +{CAUSE} +replay +resolved", done.stdout)
