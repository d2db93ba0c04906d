# SPDX-License-Identifier: GPL-2.0-only
"""The judge, on conditions made up for the tests; and rules that every real condition keeps."""

import errno
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm.faults import remedies
from pyvmm.why import Absent, Broken, Condition, Unseen, judge, kvm_run, most_likely, registration
from pyvmm.why.condition import MARKS, inferred, known, surest_first
from pyvmm.why.facts import Facts
from tests.why.hosts import X86

Test = Callable[[Facts], Broken | None]


def fine(facts: Facts) -> None:
    return None


def broken(facts: Facts) -> Broken:
    return known("it is so")


def likely(facts: Facts) -> Broken:
    return inferred("it may be so")


def undecided(facts: Facts) -> Broken | None:
    raise Absent("the moon's phase")


def condition(
    name: str, test: Test, errnos: tuple[int, ...] = (errno.EINVAL,), arch: str | None = None
) -> Condition[Facts]:
    return Condition(name, errnos, "f (f.c)", f"rule {name}", test, arch)


FACTS = Facts(errno=errno.EINVAL, host=X86)


@pytest.mark.parametrize(
    ("test", "mark", "why", "needs"),
    [
        (fine, "impossible", "excluded by the facts", None),
        (broken, "known", "it is so", None),
        (likely, "inferred", "it may be so", None),
        (undecided, "inferred", "rule x: deciding it needs the moon's phase", "the moon's phase"),
    ],
)
def test_mark_of_a_condition(test: Test, mark: str, why: str, needs: str | None) -> None:
    [finding] = judge([condition("x", test)], FACTS)
    assert (finding.mark, finding.needs) == (mark, needs)
    assert why in finding.why


def test_a_condition_that_does_not_give_the_errno_is_not_tested() -> None:
    assert list(judge([condition("x", undecided, (errno.EFAULT,))], FACTS)) == []


def test_a_condition_of_another_architecture_is_impossible() -> None:
    [finding] = judge([condition("x", broken, arch="arm64")], FACTS)
    assert finding.mark == "impossible"


def test_conditions_after_a_known_one_are_impossible() -> None:
    first, second = judge([condition("x", broken), condition("y", undecided)], FACTS)
    assert (first.mark, second.mark) == ("known", "impossible")
    assert "KVM tests x first" in second.why


def test_conditions_after_an_inferred_one_are_tested() -> None:
    findings = list(judge([condition("x", likely), condition("y", broken)], FACTS))
    assert [finding.mark for finding in findings] == ["inferred", "known"]
    assert [finding.name for finding in surest_first(findings)] == ["y", "x"]


@given(st.lists(st.sampled_from([fine, broken, likely, undecided])))
def test_most_likely_is_the_first_that_the_facts_fulfil(tests: list[Test]) -> None:
    conditions = [condition(str(n), test) for n, test in enumerate(tests)]
    expected = next((str(n) for n, test in enumerate(tests) if test in (broken, likely)), None)
    finding = most_likely(conditions, FACTS)
    assert (finding and finding.name) == expected


@given(st.lists(st.sampled_from([fine, broken, likely, undecided])))
def test_at_most_one_condition_is_known(tests: list[Test]) -> None:
    marks = [f.mark for f in judge([condition(str(n), t) for n, t in enumerate(tests)], FACTS)]
    assert marks.count("known") <= 1
    assert set(marks) <= set(MARKS)


REAL = (*registration.CONDITIONS, *kvm_run.CONDITIONS)


@pytest.mark.parametrize("real", REAL, ids=lambda c: f"{c.name}-{c.errnos[0]}")
def test_each_condition_is_complete(real: Condition[Facts]) -> None:
    assert real.errnos
    assert ".c)" in real.decided_by
    assert not real.rule.endswith(".")
    assert set(real.remedies) <= set(remedies.NAMES)


STEP = re.compile(r"(log: .+|KVM_EXIT_\w+|\w+ (-E[A-Z0-9]+|KVM_PFN_ERR_\w+|VM_FAULT_\w+))")


@pytest.mark.parametrize("real", REAL, ids=lambda c: f"{c.name}-{c.errnos[0]}")
def test_each_condition_states_its_evidence(real: Condition[Facts]) -> None:
    assert real.evidence, f"{real.name}: add evidence=… (see pyvmm.why.condition.Evidence)"
    if not isinstance(real.evidence, Unseen):
        steps = [each for step in real.evidence for each in step.split(" or ")]
        assert [each for each in steps if not STEP.fullmatch(each)] == []


def test_names_are_unique_per_ioctl() -> None:
    for conditions in (registration.CONDITIONS, kvm_run.CONDITIONS):
        names = [each.name for each in conditions]
        assert len(names) == len(set(names))
