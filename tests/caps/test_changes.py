# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.caps.changes import CapsChange, answer_text, compare

MIRROR = {"appeared": "went", "went": "appeared", "changed": "changed"}

answers = st.one_of(
    st.builds(lambda value: {"value": value, "errno": None}, st.integers(0, 3)),
    st.just({"value": None, "errno": "EINVAL"}),
)


def named(name: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return a strategy for lists of objects with distinct names."""
    each = st.fixed_dictionaries(
        {"name": st.sampled_from([f"{name}{n}" for n in range(5)]), **more}
    )
    return st.lists(each, unique_by=lambda item: item["name"])


reports = st.fixed_dictionaries(
    {
        "host": st.fixed_dictionaries(
            {"kernel": st.sampled_from(["6.12", "7.2"]), "arch": st.just("aarch64")}
        ),
        "kvm": st.just({"api_version": 12}),
        "capabilities": named("KVM_CAP_", system=answers, vm=st.none() | answers),
        "features": st.none() | st.dictionaries(st.sampled_from(["fwb", "dic"]), st.booleans()),
        "verdicts": named("verdict", supported=st.booleans()),
    }
)


@given(reports)
def test_a_report_equals_itself(report: dict[str, Any]) -> None:
    assert compare(report, report) == []


@given(reports, reports)
def test_swapping_the_reports_swaps_the_changes(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    forward = {(c.kind, c.name, c.before, c.after) for c in compare(before, after)}
    back = {(MIRROR[c.kind], c.name, c.after, c.before) for c in compare(after, before)}
    assert forward == back


@given(reports, reports)
def test_each_change_has_both_sides(before: dict[str, Any], after: dict[str, Any]) -> None:
    for change in compare(before, after):
        assert (change.before is None) == (change.kind == "appeared")
        assert (change.after is None) == (change.kind == "went")
        assert change.before != change.after


def report(**capabilities: int) -> dict[str, Any]:
    asked = [
        {"name": name, "system": {"value": 0, "errno": None}, "vm": {"value": n, "errno": None}}
        for name, n in capabilities.items()
    ]
    return {
        "host": {"kernel": "7.2", "arch": "aarch64"},
        "kvm": {"api_version": 12},
        "capabilities": asked,
        "features": None,
        "verdicts": [],
    }


def test_a_capability_that_answers_0_counts_as_absent() -> None:
    assert compare(report(KVM_CAP_X=0), report(KVM_CAP_X=1)) == [
        CapsChange("appeared", "KVM_CAP_X", None, "system 0, VM 1")
    ]
    assert compare(report(KVM_CAP_X=0), report()) == []


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "-"),
        ({"value": 0, "errno": None}, "0"),
        ({"value": None, "errno": "EINVAL"}, "EINVAL"),
    ],
)
def test_answer_text(answer: dict[str, Any] | None, text: str) -> None:
    assert answer_text(answer) == text
