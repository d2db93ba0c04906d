# SPDX-License-Identifier: GPL-2.0-only
"""Events that a program in the host prints as lines of JSON."""

import io
import json
from collections.abc import Callable
from typing import Any


class EventLines(io.BytesIO):
    """A file that passes lines with an event to `add`, parsed, and ignores other lines."""

    def __init__(self, add: Callable[[dict[str, Any]], object]) -> None:
        """Start without a line."""
        super().__init__()
        self._add = add
        self._rest = b""

    def write(self, data: Any) -> int:
        """Add bytes of the output."""
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                self._add(event)
        return len(data)
