# SPDX-License-Identifier: GPL-2.0-only
"""A cacheable BAR flipped in behind KVM's back: mended, the guest sees what it sees with FWB."""

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
    """Let the guest write `VALUE` at the start of BAR4 and read it back, with each memory type."""
    plan = Job(
        [str(function)], writes=[Write("BAR4", 0, VALUE)], on_fault=policy, flip=frozenset(flip)
    )
    document: dict[str, Any] = json.loads(json.dumps(to_json(run_job(plan))))
    return document


def seen(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What the guest saw of BAR4."""
    return [
        (probe["offset"], probe["attribute"], probe["access"], probe["result"], probe["value"])
        for probe in document["probes"]
        if probe["region"] == "BAR4"
    ]


@pytest.fixture(scope="module")
def grace(find: Find) -> PciFunction:
    return find("grace")


def flipped(grace: PciFunction, policy: Policy) -> dict[str, Any]:
    document = run(grace, policy)
    verdicts = {v["name"]: v["supported"] for v in document["caps"]["verdicts"]}
    if verdicts["cacheable-pfnmap"]:
        assert document["faults"] == []
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    return document


# What an FWB machine's guest sees: every access goes well, and reads what was written.
def right(observed: list[tuple[Any, ...]]) -> None:
    assert {result for *_, result, _ in observed} == {"ok"}
    reads = [value for offset, _, access, _, value in observed if (offset, access) == (0, "read")]
    assert set(reads[:3]) == {VALUE}


@pytest.mark.parametrize(
    ("words", "fix"),
    [([], "emulate"), (["emulate"], "emulate"), (["BAR4=replay"], "replay")],
    ids=["auto", "emulate", "BAR4=replay"],
)
def test_the_guest_sees_what_it_would_with_fwb(
    grace: PciFunction, words: list[str], fix: str
) -> None:
    document = flipped(grace, parse(words))
    right(seen(document))
    assert document["result"] == "ok"
    for fault in document["faults"]:
        assert FAULT.items() <= fault.items()
        assert (fault["fix"], fault["outcome"]) == (fix, "resolved")
    assert document["faults"]


def test_without_a_flip_the_guest_sees_the_same(grace: PciFunction) -> None:
    """Registered where the CPU allows it, and emulated from the start where it does not."""
    document = run(grace, flip=())
    right(seen(document))
    assert document["faults"] == []


def test_a_copy_says_that_it_is_one(grace: PciFunction) -> None:
    [fault, *_] = flipped(grace, parse(["replay"]))["faults"]
    assert "private copy" in fault["how"]


def test_stopping_is_a_fault_of_the_job(grace: PciFunction) -> None:
    document = flipped(grace, parse(["stop"]))
    assert document["result"] == "fault"
    assert {fault["outcome"] for fault in document["faults"]} == {"stopped"}
    assert document["faults"][0]["possible"] == ["replay", "emulate", "inject"]


def test_injecting_is_the_guests_to_handle(grace: PciFunction) -> None:
    document = flipped(grace, parse(["inject"]))
    assert {result for *_, result, _ in seen(document)} == {"abort"}
    assert document["result"] == "ok"


def test_a_bar_that_there_is_not_cannot_be_flipped(grace: PciFunction) -> None:
    with pytest.raises(UsageError, match="there is no BAR1 to flip"):
        run(grace, flip=["BAR1"])


def test_the_command_line_does_the_same(grace: PciFunction) -> None:
    argv = [sys.executable, "-m", "pyvmm", "--vfio", str(grace), "--flip", "bar4"]
    done = subprocess.run([*argv, "--on-fault", "BAR4=replay"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if CAUSE not in done.stdout:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert re.search(rf"read +EFAULT +reconstructed +{CAUSE} +replay +resolved", done.stdout)
