# SPDX-License-Identifier: GPL-2.0-only
import io
import json
from pathlib import Path
from typing import Any

import pytest

from pyvmm.trace.events import Run
from pyvmm.trace.timeline import TimelineWriter
from tests.trace.sample_events import ALL, MMIO

jsonschema = pytest.importorskip(
    "jsonschema", reason="jsonschema is not installed: pip install 'pyvmm[dev]'"
)
SCHEMA = json.loads(Path(__file__).with_name("chrome_trace.json").read_text())


class Text(io.StringIO):
    """A file whose text stays after it is closed."""

    text = ""

    def close(self) -> None:
        self.text = self.getvalue()
        super().close()


def timeline(*events: Any) -> list[dict[str, Any]]:
    out = Text()
    writer = TimelineWriter(out, ["qemu", "-accel", "kvm"])
    for event in events:
        writer.write(event)
    writer.close()
    writer.close()
    entries: list[dict[str, Any]] = json.loads(out.text)
    jsonschema.validate(entries, SCHEMA)
    return entries


def test_every_event_is_an_entry() -> None:
    entries = [each for each in timeline(*ALL) if each["ph"] != "M"]
    assert [(each["ph"], each["name"], each["cat"]) for each in entries] == [
        ("X", "KVM_SET_USER_MEMORY_REGION", "ioctl"),
        ("X", "KVM_CHECK_EXTENSION", "ioctl"),
        ("X", "KVM_RUN: mmio", "exit"),
        ("X", "KVM_RUN: hlt", "exit"),
        ("i", "munmap", "mapping"),
        ("i", "end", "process"),
    ]
    assert entries[2]["args"]["payload"] == {"gpa": "0x2ff8", "size": 8}


def test_rows_have_names() -> None:
    names = [each["args"]["name"] for each in timeline(*ALL) if each["ph"] == "M"]
    assert names == ["qemu -accel kvm", "vm1/vcpu0"]


def test_times_are_in_microseconds() -> None:
    failed = Run(1.5, 1, 1, 5, "vm1/vcpu0", "unknown", 0.25, errno="EFAULT")
    *_, entry = timeline(failed)
    assert (entry["ts"], entry["dur"], entry["cat"]) == (1_500_000, 250_000, "failed")
    assert entry["name"] == "KVM_RUN: EFAULT"


def test_empty_trace() -> None:
    assert timeline() == []


def test_file_of_a_killed_tracer_lacks_a_bracket() -> None:
    out = Text()
    TimelineWriter(out, []).write(MMIO)
    assert json.loads(out.getvalue() + "]")
