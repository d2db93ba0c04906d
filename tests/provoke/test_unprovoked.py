# SPDX-License-Identifier: GPL-2.0-only
from pyvmm.provoke.runner import PROVOCATIONS
from pyvmm.provoke.unprovoked import UNPROVOKED
from pyvmm.why import kvm_run, registration

NAMES = {each.name for each in registration.CONDITIONS}
NAMES |= {each.name for each in kvm_run.CONDITIONS}
PROVOKED = {each.cause for each in PROVOCATIONS if each.cause}


def test_every_condition_is_provoked_or_has_a_reason_why_not() -> None:
    assert UNPROVOKED.keys() == NAMES - PROVOKED


def test_every_expected_cause_is_a_condition() -> None:
    assert PROVOKED <= NAMES


def test_the_names_are_unique() -> None:
    names = [each.name for each in PROVOCATIONS]
    assert len(names) == len(set(names))
