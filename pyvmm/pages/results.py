# SPDX-License-Identifier: GPL-2.0-only
"""The results on one host: the cells of a matrix, and what is compared with an earlier run."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyvmm.lab import causes
from pyvmm.pages.documents import CAPS, PROVOKE, RUN, Document, schema
from pyvmm.units import size

Tone = Literal["good", "fair", "poor", "none"]


@dataclass(frozen=True)
class Result:
    """The result of one check: of a provocation, a capability, a memslot.

    Attributes:
        text: the result in a few words.
        tone: "good", "fair" or "poor"; "none" if it was skipped.
        cause: the name of a cause, or "".
        about: the check in a phrase, or "".
        details: labels and texts.
    """

    text: str
    tone: Tone
    cause: str = ""
    about: str = ""
    details: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """Return the text and the cause."""
        return f"{self.text}: {self.cause}" if self.cause else self.text


def results(output: object) -> dict[str, Result]:
    """Return the results in a command's output, by the name of the check."""
    if isinstance(output, Mapping) and (of_schema := _RESULTS.get(schema(output))):
        return dict(of_schema(output))
    text = str(output).strip()
    last = text.splitlines()[-1] if text else ""
    return {"output": Result(last, "fair", details=(("output", text),))}


def _provoked(document: Document) -> Iterator[tuple[str, Result]]:
    for each in document["provoked"]:
        yield each["name"], _provocation(each)


def _provocation(each: Mapping[str, Any]) -> Result:
    if each["skipped"]:
        return Result("skipped", "none", about=each["how"], details=(("why", each["skipped"]),))
    fault = each["fault"] or {}
    failed = fault or each["rejected"] or each["failure"] or {}
    difference = causes.difference(each)
    tone: Tone = "good"
    if difference:
        tone = "poor"
    elif fault and fault["source"] != "kernel":
        tone = "fair"
    _, _, fix, guest = causes.columns(each)
    path = each.get("provenance") or {}
    details = {
        "unexpected": difference,
        each["mark"] or "why": failed.get("why"),
        "no fault with": each["resolved_by"] if each["expected"] and not each["cause"] else "",
        "fix": "; ".join(filter(None, (fix, fault.get("how")))),
        "the guest": guest,
        "instruction": fault.get("instruction"),
        "kernel's path": path.get("short"),
    }
    shown = tuple((label, str(text)) for label, text in details.items() if text)
    return Result(each["kernel"], tone, each["cause"] or "", each["how"], shown)


def _verdicts(document: Document) -> Iterator[tuple[str, Result]]:
    for verdict in document["verdicts"]:
        tone: Tone = "good" if verdict["supported"] else "poor"
        text = "yes" if verdict["supported"] else "no"
        yield verdict["name"], Result(text, tone, details=(("why", verdict["why"]),))


def _probed(document: Document) -> Iterator[tuple[str, Result]]:
    stage2 = {each["slot"]: each for each in document.get("stage2", ())}
    for slot in document["memslots"]:
        name = f"{slot['bdf']} {slot['region']}+{slot['offset']:#x}"
        yield name, _memslot(slot, stage2.get(slot["slot"]))
    counts = Counter(probe["result"] for probe in document["probes"])
    if counts:
        text = ", ".join(f"{count} {result}" for result, count in counts.items())
        tone: Tone = "good" if set(counts) == {"ok"} else "poor"
        yield "guest accesses", Result(text, tone, about="the guest's loads and stores")
    yield "faults", _faults(document)
    yield from _verdicts(document["caps"])


def _faults(document: Document) -> Result:
    counts = Counter(f"{fault['cause']}, {fault['outcome']}" for fault in document["faults"])
    resolved = all(fault["outcome"] == "resolved" for fault in document["faults"])
    tone: Tone = "good" if not counts else "fair" if resolved else "poor"
    names = dict.fromkeys(fault["cause"] for fault in document["faults"])
    return Result(
        str(counts.total() or "none"),
        tone,
        " ".join(names),
        "accesses that KVM did not resolve",
        tuple((f"{count} times", text) for text, count in counts.items()),
    )


def _memslot(slot: Mapping[str, Any], stage2: Mapping[str, Any] | None) -> Result:
    details = [(slot["mark"] or "why", slot["why"])]
    if stage2:
        details.append((f"memory type ({stage2['mark']})", stage2["stage2"]))
    tones: dict[str, Tone] = {"registered": "good", "rejected": "poor"}
    return Result(
        slot["outcome"] + (f" with {slot['errno']}" if slot["errno"] else ""),
        tones.get(slot["outcome"], "fair"),
        slot["cause"] or "",
        f"memslot of {size(slot['size'])} at GPA {slot['gpa']:#x}",
        tuple(details),
    )


_RESULTS: dict[str, Callable[[Document], Iterator[tuple[str, Result]]]] = {
    PROVOKE: _provoked,
    CAPS: _verdicts,
    RUN: _probed,
}
