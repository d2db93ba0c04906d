# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path

import pytest

from pyvmm.errors import UsageError
from pyvmm.trace.events import Event, EventWriter, Recording, from_json
from tests.trace.sample_events import ALL, FLIP, SLOT


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_event_json_round_trip(event: Event) -> None:
    assert from_json(json.loads(json.dumps(event.to_json()))) == event


def test_empty_members_are_omitted() -> None:
    assert "why" not in ALL[0].to_json()


DEEP: dict[str, object] = {}
for _ in range(100):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"type": "magic"},
        {"type": []},
        {"type": "run", "time": 0},
        {**SLOT.to_json(), "argument": "slot=1"},
        {**SLOT.to_json(), "argument": {"slot": None}},
        {**SLOT.to_json(), "argument": DEEP},
        {**SLOT.to_json(), "names": {"argument.flags": 1}},
        {**SLOT.to_json(), "mapped": [{"start": 0}]},
        {**SLOT.to_json(), "seconds": 10**400},
        {**FLIP.to_json(), "slots": [{"vm": "vm1"}]},
        {**FLIP.to_json(), "slots": {}},
    ],
)
def test_invalid_events_are_rejected(document: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="invalid trace event"):
        from_json(document)


def test_unknown_members_are_ignored() -> None:
    assert from_json({**ALL[-1].to_json(), "mood": "good"}) == ALL[-1]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    with path.open("w") as file:
        writer = EventWriter(file, ["qemu", "-accel", "kvm"])
        for event in ALL:
            writer.write(event)
    return path


def test_recording_round_trip(recorded: Path) -> None:
    recording = Recording.open(recorded)
    assert recording.header["command"] == ["qemu", "-accel", "kvm"]
    assert list(recording) == ALL


def test_incomplete_last_line_ends_the_recording(recorded: Path) -> None:
    recorded.write_text(recorded.read_text()[:-10])
    assert list(Recording.open(recorded)) == ALL[:-1]


@pytest.mark.parametrize("invalid", [b"what?\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_invalid_line_is_rejected_with_its_number(recorded: Path, invalid: bytes) -> None:
    lines = recorded.read_bytes().splitlines(keepends=True)
    recorded.write_bytes(b"".join([*lines[:2], invalid, *lines[2:]]))
    with pytest.raises(UsageError, match=r"line 3 of .* is not an event"):
        list(Recording.open(recorded))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}\n",
        "text\n",
        '{"schema": "pyvmm.caps/1"}\n',
        '{"schema": "pyvmm.trace/1", "command": 1}\n',
        "\x00",
        "[" * 100_000,
    ],
)
def test_other_files_are_rejected(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other"
    path.write_text(content)
    with pytest.raises(UsageError, match="is not a trace"):
        Recording.open(path)


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        Recording.open(tmp_path / "none")
