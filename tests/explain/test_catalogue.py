# SPDX-License-Identifier: GPL-2.0-only
import json

import pytest

from pyvmm.errors import UsageError
from pyvmm.explain import catalogue
from pyvmm.provoke.runner import PROVOCATIONS
from tests.json_documents import valid


@pytest.mark.parametrize("cause", catalogue.all_causes(), ids=lambda cause: cause.name)
def test_every_cause_has_a_page(cause: catalogue.Cause) -> None:
    lines = cause.text().splitlines()
    assert lines[0] == cause.name
    assert max(map(len, lines)) <= 100
    for place in cause.places:
        assert place.outcome in lines
        assert place.evidence
    assert cause.provocations or cause.unprovoked
    assert valid(json.dumps(cause.to_json())) == cause.to_json()


def test_every_expected_cause_is_known() -> None:
    expected = {each.cause for each in PROVOCATIONS if each.cause}
    assert expected <= {cause.name for cause in catalogue.all_causes()}


def test_one_name_for_two_ioctls() -> None:
    places = catalogue.find("cacheable-pfnmap-unsupported").places
    assert [place.outcome for place in places] == [
        "KVM_SET_USER_MEMORY_REGION fails with EINVAL",
        "KVM_RUN fails with EFAULT",
    ]


def test_exit_instead_of_an_errno() -> None:
    [place] = catalogue.find("device-memory-off").places
    assert place.outcome == "KVM_RUN fails with EFAULT, or returns with an exit"


@pytest.mark.parametrize(
    ("name", "says"),
    [("hva-unmaped", "did you mean hva-unmapped?"), ("what", "explain --list names them all")],
)
def test_unknown_name(name: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        catalogue.find(name)
    assert says in str(raised.value)
