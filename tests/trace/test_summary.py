# SPDX-License-Identifier: GPL-2.0-only
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pyvmm.trace.events import Event, Ioctl, Process, Recording, Run
from pyvmm.trace.summary import Summary
from pyvmm.trace.values import Values
from tests.trace.conftest import ROOT, Traces

VMM = [sys.executable, "-m", "tests.exits_vmm", "500"]
# Boots a BIOS that finds no boot device, and exits when the guest resets.
QEMU = [
    *("qemu-system-x86_64", "-accel", "kvm", "-machine", "pc", "-m", "64", "-nodefaults"),
    *("-display", "none", "-no-reboot", "-boot", "reboot-timeout=0"),
]
# Their counts depend on the timing of timers and interrupts.
TIMED = {"KVM_RUN", "KVM_IRQ_LINE_STATUS", "KVM_IRQ_LINE", "KVM_GET_CLOCK", "KVM_SET_CLOCK"}


def traced(command: list[str], file: Path) -> Summary:
    """Trace a command to its end and return the summary."""
    trace = [sys.executable, "-m", "pyvmm", "trace", "--record", str(file), "--"]
    subprocess.run([*trace, *command], check=True, capture_output=True, timeout=120, cwd=ROOT)
    summary = Summary()
    for event in Recording.open(file):
        summary.add(event)
    return summary


def straced(command: list[str], file: Path) -> Counter[str]:
    """Return strace's counts by the name of the ioctl."""
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=ioctl", "-o", str(file)]
    subprocess.run([*strace, *command], check=True, capture_output=True, timeout=120, cwd=ROOT)
    return Counter(re.findall(r" ioctl\(\d+, (KVM_\w+)", file.read_text()))


def by_name(summary: Summary) -> Counter[str]:
    counts = Counter[str]()
    for (_, name), count in summary.ioctls.items():
        counts[name] += count.calls
    return counts


@pytest.fixture
def strace(kvm: object) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace: apt install strace")


@pytest.mark.usefixtures("strace")
def test_counts_of_pyvmm_equal_straces(tmp_path: Path) -> None:
    ours, theirs = by_name(traced(VMM, tmp_path / "a")), straced(VMM, tmp_path / "b")
    assert ours["KVM_RUN"] > 500
    assert ours == theirs


@pytest.mark.usefixtures("strace")
@pytest.mark.needs_arch("x86_64")
def test_counts_of_qemu_equal_straces(tmp_path: Path) -> None:
    if not shutil.which(QEMU[0]):
        pytest.skip("needs QEMU: apt install qemu-system-x86 seabios")
    summary = traced(QEMU, tmp_path / "a")
    ours, theirs = by_name(summary), straced(QEMU, tmp_path / "b")
    assert {"KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_SET_USER_MEMORY_REGION"} <= ours.keys()
    assert ours.keys() == theirs.keys()
    assert {n: c for n, c in ours.items() if n not in TIMED} == {
        n: c for n, c in theirs.items() if n not in TIMED
    }
    assert summary.exits["io"].calls > 100
    [slots] = summary.slots.values()
    assert any(slot["flags"] == "KVM_MEM_READONLY" for slot in slots.values())


def test_counts_without_details_are_equal(trace: Traces) -> None:
    program = """
        from tests.exits_vmm import exiting_machine
        with exiting_machine(50) as machine:
            machine.run()
    """
    detailed, counted = Summary(), Summary()
    for summary, full in ((detailed, True), (counted, False)):
        for event in trace(program, detailed=full):
            summary.add(event)
    assert {k: c.calls for k, c in counted.ioctls.items()} == {
        k: c.calls for k, c in detailed.ioctls.items()
    }
    assert {k: c.calls for k, c in counted.exits.items()} == {
        k: c.calls for k, c in detailed.exits.items()
    }
    assert [s["gpa"] for s in counted.slots["vm1"].values()] == [0x4000_0000]


def memslot(vm: str) -> Event:
    region: Values = {"slot": 0, "guest_phys_addr": 0x1000, "memory_size": 0x2000}
    name = "KVM_SET_USER_MEMORY_REGION"
    return Ioctl(0, 1, 1, 4, vm, "vm", name, 0, 0, argument={**region, "userspace_addr": 0x7F0000})


def test_memslots_of_the_open_vms_and_the_last_closed_one() -> None:
    summary = Summary()
    for number in range(100):
        summary.add(memslot(f"vm{number}"))
        if number not in (50, 60):
            summary.add(Process(0, 1, 1, "close", f"vm{number}"))
            summary.add(Process(0, 1, 1, "close", f"vm{number}/vcpu0"))
    assert [text for text in summary.lines() if "memslots" in text] == [
        "memslots of vm50 at the end:",
        "memslots of vm60 at the end:",
        "memslots of vm99 when it was closed:",
    ]
    assert summary.to_json()["memslots"].keys() == {"vm50", "vm60", "vm99"}


def run(exit: str, errno: str | None = None, injected: str = "") -> Event:
    return Run(0, 1, 1, 5, "vm1/vcpu0", exit, 0.5, errno, injected=injected)


def test_runs_are_the_sum_of_exits() -> None:
    summary = Summary()
    for event in (run("io"), run("io"), run("intr", "EINTR"), run("run_failure", "EFAULT", "r")):
        summary.add(event)
    runs = summary.ioctls["vcpu", "KVM_RUN"]
    assert (runs.calls, runs.errors, runs.injected, runs.seconds) == (
        4,
        {"EINTR": 1, "EFAULT": 1},
        1,
        2.0,
    )


def test_size_does_not_grow_with_the_trace() -> None:
    summary = Summary()
    for _ in range(10_000):
        summary.add(run("io"))
    assert len(summary.exits) == len(summary.ioctls) == 1


def test_a_memslot_with_members_of_a_wrong_type() -> None:
    argument: Values = {"slot": 0, "memory_size": 1, "guest_phys_addr": "", "userspace_addr": {}}
    summary = Summary()
    summary.add(
        Ioctl(0, 1, 1, 4, "vm1", "vm", "KVM_SET_USER_MEMORY_REGION", 0, 0, argument=argument)
    )
    assert list(summary.lines())[-1].startswith("     0  GPA 0x000000000000  ")
