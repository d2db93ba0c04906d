# SPDX-License-Identifier: GPL-2.0-only
"""What differs between two reports: what appeared, went, changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Change:
    """One difference; `before` and `after` are the texts that a person compares."""

    kind: Literal["appeared", "went", "changed"]
    name: str
    before: str | None
    after: str | None


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare two reports in their JSON form: host, capabilities, features, verdicts.

    Raises `KeyError`, `TypeError` or `AttributeError` where one of them is no such report.
    """
    old, new = dict(_facts(before)), dict(_facts(after))
    changes = []
    for name in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        kind: Literal["appeared", "went", "changed"] = (
            "appeared" if was is None else "went" if now is None else "changed"
        )
        changes.append(Change(kind, name, was, now))
    return changes


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every fact by name. A capability that answers 0 is not there: what is there can go."""
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
    """``1``, ``EINVAL``, or ``-`` where nothing was asked."""
    if answer is None:
        return "-"
    return str(answer["errno"] or answer["value"])
