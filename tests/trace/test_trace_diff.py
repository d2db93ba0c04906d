# SPDX-License-Identifier: GPL-2.0-only
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.trace.events import Event, Ioctl, Run
from pyvmm.trace.trace_diff import compare, text_lines, to_json
from tests.trace.sample_events import ALL, CAP, HLT, SLOT
from tests.trace.test_summary import QEMU


def test_trace_equals_itself() -> None:
    assert not compare(ALL, ALL)


def test_values_of_one_run_are_ignored() -> None:
    other = replace(
        SLOT,
        time=9.0,
        pid=7,
        tid=8,
        fd=99,
        seconds=1.0,
        argument={**SLOT.argument, "userspace_addr": 0xABC000},
    )
    assert not compare([SLOT], [other])


def test_different_result_is_a_divergence() -> None:
    [change] = compare([CAP, SLOT], [replace(CAP, result=0, injected="cap:…"), SLOT]).changes
    assert (change.on, change.first, change.second) == (
        "kvm",
        ("KVM_CHECK_EXTENSION = 1",),
        ("KVM_CHECK_EXTENSION = 0 [injected]",),
    )


def test_error_is_a_divergence() -> None:
    [change] = compare([SLOT], [replace(SLOT, errno="EINVAL")]).changes
    assert change.second[0].endswith("= EINVAL")


def test_order_between_objects_is_ignored() -> None:
    assert not compare([CAP, SLOT], [SLOT, CAP])


def test_exits_are_counted_by_kind() -> None:
    difference = compare([HLT, HLT], [HLT, Run(0, 1, 1, 5, "vm1/vcpu0", "mmio", 0)])
    assert difference.exits == {"hlt": (2, 1), "mmio": (0, 1)}
    assert list(text_lines(difference)) == ["exits, hlt: 2 → 1", "exits, mmio: 0 → 1"]
    assert to_json(difference)["exits"] == {"hlt": [2, 1], "mmio": [0, 1]}


NAMES = st.sampled_from(["KVM_CREATE_VCPU", "KVM_GET_CLOCK", "KVM_IRQFD"])
TRACES = st.lists(NAMES.map(lambda name: Ioctl(0, 1, 1, 4, "vm1", "vm", name, 0, 0)))


@given(TRACES, TRACES)
def test_comparison_is_symmetric(a: list[Event], b: list[Event]) -> None:
    forward, backward = compare(a, b), compare(b, a)
    assert bool(forward) == bool(backward)
    if not forward:
        assert sum(len(c.first) for c in backward.changes) == 0


@pytest.mark.needs_arch("x86_64")
def test_qemu_without_a_capability_diverges(tmp_path: Path, kvm: object) -> None:
    if not shutil.which(QEMU[0]):
        pytest.skip("needs QEMU: apt install qemu-system-x86 seabios")
    trace = [sys.executable, "-m", "pyvmm", "trace"]
    for name, rules in (("a", []), ("b", ["--inject", "cap:KVM_CAP_READONLY_MEM=0"])):
        file = str(tmp_path / name)
        subprocess.run(
            [*trace, "--record", file, *rules, "--", *QEMU], capture_output=True, timeout=120
        )
    difference = subprocess.run(
        [*trace, "diff", str(tmp_path / "a"), str(tmp_path / "b")], capture_output=True, text=True
    )
    assert difference.returncode == 1
    assert "+ KVM_CHECK_EXTENSION KVM_CAP_READONLY_MEM = 0 [injected]" in difference.stdout
    missing = [text for text in difference.stdout.splitlines() if text.startswith("- ")]
    assert any("flags=KVM_MEM_READONLY guest_phys_addr=0xfffc0000" in text for text in missing)
