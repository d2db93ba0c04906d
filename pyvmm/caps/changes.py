# SPDX-License-Identifier: GPL-2.0-only
"""The differences between two capability reports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class CapsChange:
    """One difference; `before` and `after` are texts for a person, None for an absent item."""

    kind: Literal["appeared", "went", "changed"]
    name: str
    before: str | None
    after: str | None


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[CapsChange]:
    """Compare two reports in their JSON form: host, capabilities, features, verdicts.

    Raises `KeyError`, `TypeError` or `AttributeError` if one of them is malformed.
    """
    old, new = dict(_items(before)), dict(_items(after))
    changes = []
    for name in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        kind: Literal["appeared", "went", "changed"] = (
            "appeared" if was is None else "went" if now is None else "changed"
        )
        changes.append(CapsChange(kind, name, was, now))
    return changes


def _items(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and text of every item. A capability that answers 0 counts as absent."""
    yield "kernel", report["host"]["kernel"]
    yield "arch", report["host"]["arch"]
    yield "api_version", str(report["kvm"]["api_version"])
    for capability in report["capabilities"]:
        system, vm = capability["system"], capability["vm"]
        if any(answer["value"] for answer in (system, vm) if answer):
            yield capability["name"], f"system {answer_text(system)}, VM {answer_text(vm)}"
    for name, value in (report["features"] or {}).items():
        yield name, str(value).lower()
    for verdict in report["verdicts"]:
        yield verdict["name"], "supported" if verdict["supported"] else "not supported"


def answer_text(answer: Mapping[str, Any] | None) -> str:
    """Format an answer: its value (``1``), its errno (``EINVAL``), or ``-`` for None."""
    if answer is None:
        return "-"
    return str(answer["errno"] or answer["value"])
