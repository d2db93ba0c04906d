# SPDX-License-Identifier: GPL-2.0-only
import json

import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.events import Event, from_json
from tests.trace.test_filters import ALL


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert from_json(json.loads(json.dumps(event.to_json()))) == event


def test_what_says_nothing_is_left_out() -> None:
    assert "why" not in ALL[0].to_json()


@pytest.mark.parametrize("document", [{}, {"type": "magic"}, {"type": "run", "time": 0}])
def test_what_is_no_event_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="a trace"):
        from_json(document)


def test_members_of_a_newer_pyvmm_are_ignored() -> None:
    assert from_json({**ALL[-1].to_json(), "mood": "good"}) == ALL[-1]
