# SPDX-License-Identifier: GPL-2.0-only
"""Traces kept in a file, a line of JSON an event, and read again later or elsewhere."""

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pyvmm.errors import UsageError
from pyvmm.trace.events import SCHEMA, Event, from_json


def header(command: Sequence[str]) -> dict[str, Any]:
    """A trace's first line: what was traced, on what."""
    return {
        "schema": SCHEMA,
        "command": list(command),
        "kernel": platform.release(),
        "arch": platform.machine(),
    }


class Lines:
    """Writes events as lines of JSON."""

    def __init__(self, out: TextIO, command: Sequence[str]) -> None:
        self._out = out
        self._write(header(command))

    def take(self, event: Event) -> None:
        """Write one."""
        self._write(event.to_json())

    def _write(self, document: dict[str, Any]) -> None:
        json.dump(document, self._out, separators=(",", ":"))
        self._out.write("\n")


@dataclass(frozen=True)
class Recording:
    """A recorded trace.

    Attributes:
        header: its first line.
    """

    path: Path
    header: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Recording":
        """Read a trace's first line. Raises `UsageError` for a file that is no trace."""
        try:
            with path.open() as file:
                header = json.loads(file.readline())
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("schema") != SCHEMA:
            raise UsageError(f"{path} is no trace (schema {SCHEMA}): make one with trace --record")
        return cls(path, header)

    def __iter__(self) -> Iterator[Event]:
        """The events, one after the other. Raises `UsageError` for a line that is none.

        A last line that is cut off, as a recording that was killed has it, ends the trace.
        """
        with self.path.open() as file:
            next(file)
            for number, text in enumerate(file, 2):
                if not text.endswith("\n"):
                    return
                try:
                    document = json.loads(text)
                except ValueError:
                    document = None
                if not isinstance(document, dict):
                    raise UsageError(f"{self.path}, line {number}, is no event")
                yield from_json(document)
