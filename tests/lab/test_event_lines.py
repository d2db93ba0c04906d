# SPDX-License-Identifier: GPL-2.0-only
from typing import Any

from pyvmm.lab.event_lines import EventLines


def test_lines_with_an_event() -> None:
    events: list[dict[str, Any]] = []
    lines = EventLines(events.append)
    for part in (b'noise\n{"event": "st', b'art"}\n{"other": 1}\n[1]\n{"event": "end"}\n{"eve'):
        assert lines.write(part) == len(part)
    assert events == [{"event": "start"}, {"event": "end"}]
