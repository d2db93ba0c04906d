# SPDX-License-Identifier: GPL-2.0-only
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pyvmm.trace.diff import diff, lines, to_json
from pyvmm.trace.events import Event, Ioctl, Run
from tests.trace.test_filters import ALL, CAP, HLT, SLOT


def test_a_trace_is_like_itself() -> None:
    assert not diff(ALL, ALL)


def test_what_differs_in_every_run_does_not_count() -> None:
    other = replace(
        SLOT,
        time=9.0,
        pid=7,
        tid=8,
        fd=99,
        seconds=1.0,
        argument={**SLOT.argument, "userspace_addr": 0xABC000},
    )
    assert not diff([SLOT], [other])


def test_another_answer_counts() -> None:
    [change] = diff([CAP, SLOT], [replace(CAP, result=0, injected="cap:…"), SLOT]).changes
    assert (change.on, change.first, change.second) == (
        "kvm",
        ("KVM_CHECK_EXTENSION = 1",),
        ("KVM_CHECK_EXTENSION = 0 [injected]",),
    )


def test_an_error_counts() -> None:
    [change] = diff([SLOT], [replace(SLOT, errno="EINVAL")]).changes
    assert change.second[0].endswith("= EINVAL")


def test_threads_that_race_do_not_count() -> None:
    assert not diff([CAP, SLOT], [SLOT, CAP])


def test_exits_are_counted_by_kind() -> None:
    found = diff([HLT, HLT], [HLT, Run(0, 1, 1, 5, "vm1/vcpu0", "mmio", 0)])
    assert found.exits == {"hlt": (2, 1), "mmio": (0, 1)}
    assert list(lines(found)) == ["exits, hlt: 2 → 1", "exits, mmio: 0 → 1"]
    assert to_json(found)["exits"] == {"hlt": [2, 1], "mmio": [0, 1]}


NAMES = st.sampled_from(["KVM_CREATE_VCPU", "KVM_GET_CLOCK", "KVM_IRQFD"])
TRACES = st.lists(NAMES.map(lambda name: Ioctl(0, 1, 1, 4, "vm1", "vm", name, 0, 0)))


@given(TRACES, TRACES)
def test_it_is_symmetric(a: list[Event], b: list[Event]) -> None:
    there, back = diff(a, b), diff(b, a)
    assert bool(there) == bool(back)
    if not there:
        assert sum(len(c.first) for c in back.changes) == 0
