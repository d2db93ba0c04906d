# SPDX-License-Identifier: GPL-2.0-only
"""The remedies for each cause; and for a cacheable BAR that replaced registered memory, applied."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from pyvmm.arch.native import native
from pyvmm.bus import Bus
from pyvmm.errors import UsageError
from pyvmm.faults import Policy
from pyvmm.faults.access_facts import facts_of
from pyvmm.faults.context import VcpuContext
from pyvmm.faults.fault import Fix
from pyvmm.faults.policy import always, auto, by_region
from pyvmm.faults.remedies import DESCRIPTIONS, NAMES, offer
from pyvmm.faults.repairs import MappedMemory
from pyvmm.faults.report import FaultReport
from pyvmm.kvm import Vm
from pyvmm.kvm.exits import RunFailure
from pyvmm.memory import PAGE_SIZE, PROT_READ, Mapping
from pyvmm.passthrough import Job, run_job
from pyvmm.passthrough.job_document import to_json
from pyvmm.passthrough.probe_bars import Write
from pyvmm.vfio.sysfs import PciFunction
from pyvmm.why.facts import AccessKind
from tests.devices import Find

VALUE = 0x5EED_F00D
CAUSE = "cacheable-pfnmap-unsupported"
FAULT = {"errno": "EFAULT", "source": "reconstructed", "cause": CAUSE, "region": "BAR4"}


GPA = 0x1000_0000
SIZE = 2 * PAGE_SIZE
FAITHFUL_REPLAY, LOSSY_REPLAY = (Fix.REPLAY, True), (Fix.REPLAY, False)
FAITHFUL_EMULATION, LOSSY_EMULATION = (Fix.EMULATE, True), (Fix.EMULATE, False)


@pytest.fixture
def context(vm: Vm) -> VcpuContext:
    return VcpuContext(vm, vm.create_vcpu(), native(), Bus())


@pytest.fixture
def memories() -> Iterator[dict[str, Mapping]]:
    """Create a mapping of each kind, by name."""
    fd = os.memfd_create("guest")
    os.ftruncate(fd, SIZE)
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        anonymous = stack.enter_context(Mapping.anonymous(SIZE))
        file = stack.enter_context(Mapping.of_file(fd, SIZE))
        read_only = stack.enter_context(Mapping.of_file(fd, SIZE, prot=PROT_READ))
        region = stack.enter_context(Mapping.of_file(fd, SIZE))
        region.backing = MappedMemory(file)
        reserved = stack.enter_context(Mapping(SIZE))
        yield {
            "anonymous": anonymous,
            "file": file,
            "read-only": read_only,
            "region": region,
            "reserved": reserved,
        }


def offered(
    cause: str, memory: Mapping | None, context: VcpuContext, **changed: Any
) -> list[tuple[Fix, bool]]:
    """Return the kind of each remedy but an injected abort, and whether it is faithful."""
    if memory:
        context.vm.memslots.add(GPA, memory)
    report = FaultReport(
        gpa=GPA,
        size=4,
        access="read",
        errno="EFAULT",
        source="reconstructed",
        exit=RunFailure(errno.EFAULT),
    )
    report = replace(report, **changed)
    remedies = offer(cause, report, facts_of(report, context), context)
    return [(each.fix, each.faithful) for each in remedies if each.fix is not Fix.INJECT]


@pytest.mark.parametrize(
    ("cause", "memory", "expected"),
    [
        ("hva-unmapped", "anonymous", [LOSSY_REPLAY, LOSSY_EMULATION]),
        ("hva-unmapped", "file", [FAITHFUL_REPLAY, FAITHFUL_EMULATION]),
        ("hva-unmapped", "region", [FAITHFUL_REPLAY, FAITHFUL_EMULATION]),
        ("hva-unmapped", "reserved", []),
        ("hva-no-access", "anonymous", [FAITHFUL_REPLAY, FAITHFUL_EMULATION]),
        ("hva-no-access", "reserved", []),
        ("device-memory-off", "region", [FAITHFUL_EMULATION]),
        ("device-memory-off", "file", []),
        ("device-unaligned", "region", [FAITHFUL_EMULATION]),
        ("pfnmap-not-writable", "region", [LOSSY_REPLAY, FAITHFUL_EMULATION]),
        ("cacheable-pfnmap-unsupported", "region", [LOSSY_REPLAY, FAITHFUL_EMULATION]),
        ("file-truncated", "file", [LOSSY_REPLAY]),
        ("vma-replaced", "anonymous", [LOSSY_REPLAY]),
        ("vma-replaced", "file", [FAITHFUL_REPLAY]),
        ("guest-memfd-closed", None, [LOSSY_REPLAY]),
        ("hardware-poison", "anonymous", [LOSSY_REPLAY]),
        ("hardware-poison", "file", []),
        ("memory-attributes", "anonymous", [(Fix.CONVERT, True)]),
        ("mmio-no-syndrome", None, [FAITHFUL_EMULATION]),
        ("outside-memslots", None, [LOSSY_EMULATION]),
        ("external-abort", "region", []),
        ("unknown", "anonymous", [FAITHFUL_REPLAY]),
        ("unknown", "reserved", []),
        ("unknown", None, []),
    ],
)
def test_remedies_of_a_cause(
    context: VcpuContext,
    memories: dict[str, Mapping],
    cause: str,
    memory: str | None,
    expected: list[tuple[Fix, bool]],
) -> None:
    assert offered(cause, memories[memory] if memory else None, context) == expected


def test_a_write_needs_a_writable_placement(
    context: VcpuContext, memories: dict[str, Mapping]
) -> None:
    assert offered("hva-read-only", memories["read-only"], context, access="write") == []


@pytest.mark.parametrize("changed", [{"access": "exec"}, {"table": True}], ids=["fetch", "walk"])
def test_fetches_and_table_walks_cannot_be_emulated(
    context: VcpuContext, memories: dict[str, Mapping], changed: dict[str, Any]
) -> None:
    assert offered("hva-unmapped", memories["file"], context, **changed) == [FAITHFUL_REPLAY]


def test_an_access_without_an_address_has_no_remedy(context: VcpuContext) -> None:
    assert offered("hardware-poison", None, context, gpa=None) == []


def test_only_data_accesses_take_an_injected_abort(context: VcpuContext) -> None:
    def offers_abort(access: AccessKind | None) -> bool:
        report = FaultReport(
            gpa=GPA,
            size=4,
            access=access,
            errno=None,
            source="kernel",
            exit=RunFailure(errno.EFAULT),
        )
        remedies = offer("unknown", report, facts_of(report, context), context)
        return any(remedy.fix is Fix.INJECT for remedy in remedies)

    capability = context.arch.ABORT_CAPABILITY
    supported = capability is not None and bool(context.vm.offers(capability))
    assert offers_abort("read") is offers_abort("write") is supported
    assert not offers_abort("exec")
    assert not offers_abort(None)


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
    ("policy", "fix"),
    [
        (auto, "emulate"),
        (always(Fix.EMULATE), "emulate"),
        (by_region({"BAR4": always(Fix.REPLAY)}, auto), "replay"),
    ],
    ids=["auto", "emulate", "BAR4=replay"],
)
def test_the_guest_sees_the_same_as_with_fwb(grace: PciFunction, policy: Policy, fix: str) -> None:
    document = run_without_fwb(grace, policy)
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
    [fault, *_] = run_without_fwb(grace, always(Fix.REPLAY))["faults"]
    assert "private copy" in fault["how"]


def test_a_stopped_fault_is_the_result_of_the_job(grace: PciFunction) -> None:
    document = run_without_fwb(grace, always(Fix.STOP))
    assert document["result"] == "fault"
    assert {fault["outcome"] for fault in document["faults"]} == {"stopped"}
    assert document["faults"][0]["possible"] == ["replay", "emulate", "inject"]


def test_an_injected_abort_reaches_the_guest(grace: PciFunction) -> None:
    document = run_without_fwb(grace, always(Fix.INJECT))
    assert {result for *_, result, _ in bar4_probes(document)} == {"abort"}
    assert document["result"] == "ok"


def test_only_an_existing_bar_can_be_replaced(grace: PciFunction) -> None:
    with pytest.raises(UsageError, match="--flip: no device has a region BAR1"):
        run(grace, flip=["BAR1"])


def test_the_command_line_applies_the_same_remedy(grace: PciFunction) -> None:
    argv = [sys.executable, "-m", "pyvmm", "--vfio", str(grace), "--flip", "bar4"]
    done = subprocess.run([*argv, "--on-fault", "BAR4=replay"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if CAUSE not in done.stdout:
        pytest.skip("this CPU maps it cacheable: python -m pyvmm lab test --cpu neoverse-n1")
    assert re.search(rf"read +EFAULT +reconstructed +{CAUSE} +replay +resolved", done.stdout)


def test_every_remedy_has_a_description() -> None:
    assert set(DESCRIPTIONS) == set(NAMES)
