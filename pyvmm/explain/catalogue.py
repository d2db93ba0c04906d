# SPDX-License-Identifier: GPL-2.0-only
"""The causes that pyvmm knows, by name: the conditions, what provokes them, and what helps."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pyvmm.errno_names import errno_name
from pyvmm.errors import UsageError
from pyvmm.faults.remedies import DESCRIPTIONS
from pyvmm.provoke.runner import PROVOCATIONS
from pyvmm.provoke.testbed import Provocation
from pyvmm.provoke.unprovoked import UNPROVOKED
from pyvmm.uapi.kvm import KVM_RUN, KVM_SET_USER_MEMORY_REGION
from pyvmm.why import Condition, Unseen, kvm_run, registration

SCHEMA = "pyvmm.cause/1"
_CONDITIONS: dict[str, Sequence[Condition[Any]]] = {
    KVM_SET_USER_MEMORY_REGION.name: registration.CONDITIONS,
    KVM_RUN.name: kvm_run.CONDITIONS,
}
_NO_REMEDY = "no remedy: the VMM must avoid the condition"
_WIDTH = 80


@dataclass(frozen=True)
class Place:
    """An ioctl that a condition makes fail."""

    ioctl: str
    condition: Condition[Any]

    @property
    def errnos(self) -> tuple[str, ...]:
        """Return the names of the errnos."""
        return tuple(errno_name(each) for each in self.condition.errnos if each)

    @property
    def outcome(self) -> str:
        """Return what the ioctl does, in words."""
        failure = [f"fails with {' or '.join(self.errnos)}"] if self.errnos else []
        exits = ["returns with an exit"] if 0 in self.condition.errnos else []
        return f"{self.ioctl} {', or '.join(failure + exits)}"

    @property
    def evidence(self) -> tuple[str, ...]:
        """Return what the kernel's own path shows, or a reason why it does not."""
        evidence = self.condition.evidence or ()
        return (evidence.reason,) if isinstance(evidence, Unseen) else evidence


@dataclass(frozen=True)
class Cause:
    """A cause: one name, for a condition of one ioctl or of several.

    Attributes:
        unprovoked: why nothing provokes it, or "".
    """

    name: str
    places: tuple[Place, ...]
    provocations: tuple[Provocation, ...]
    unprovoked: str

    @property
    def remedies(self) -> tuple[str, ...]:
        """Return what pyvmm does about it, the preferred remedy first."""
        names = (name for place in self.places for name in place.condition.remedies)
        return tuple(DESCRIPTIONS[name] for name in dict.fromkeys(names))

    def text(self) -> str:
        """Return the page about it for a terminal."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield self.name
        for place in self.places:
            condition = place.condition
            yield ""
            yield place.outcome
            yield from _labelled("if", condition.rule)
            yield from _labelled("in", condition.decided_by)
            if condition.arch:
                yield from _labelled("on", f"{condition.arch} only")
            yield from _labelled("path", "; ".join(place.evidence))
        yield ""
        yield "What helps"
        for text in self.remedies or (_NO_REMEDY,):
            yield from _labelled("*", text)
        yield ""
        yield "What provokes it"
        for each in self.provocations:
            yield from _labelled("*", f"pyvmm provoke {each.name}: {each.how}")
        if self.unprovoked:
            yield from _labelled("*", f"nothing: {self.unprovoked}")

    def to_json(self) -> dict[str, Any]:
        """Return the page as a JSON object (schema ``pyvmm.cause/1``)."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "conditions": [
                {
                    "ioctl": place.ioctl,
                    "errnos": [
                        errno_name(each) if each else None for each in place.condition.errnos
                    ],
                    "rule": place.condition.rule,
                    "decided_by": place.condition.decided_by,
                    "arch": place.condition.arch,
                    "evidence": list(place.evidence),
                }
                for place in self.places
            ],
            "remedies": list(self.remedies),
            "provocations": [{"name": each.name, "how": each.how} for each in self.provocations],
            "unprovoked": self.unprovoked or None,
        }


def all_causes() -> list[Cause]:
    """Return all causes, in the order in which KVM tests their conditions."""
    places: dict[str, list[Place]] = {}
    for ioctl, conditions in _CONDITIONS.items():
        for condition in conditions:
            places.setdefault(condition.name, []).append(Place(ioctl, condition))
    return [
        Cause(
            name,
            tuple(found),
            tuple(each for each in PROVOCATIONS if each.cause == name),
            UNPROVOKED.get(name, ""),
        )
        for name, found in places.items()
    ]


def find(name: str) -> Cause:
    """Return a cause. Raises `UsageError` if there is none of that name."""
    causes = {cause.name: cause for cause in all_causes()}
    if cause := causes.get(name):
        return cause
    close = get_close_matches(name, causes, n=1)
    advice = f"did you mean {close[0]}?" if close else "explain --list names them all"
    raise UsageError(f"{name} is neither an ioctl with conditions nor a cause: {advice}")


def _labelled(label: str, text: str) -> list[str]:
    indent = 4 if label == "*" else 8
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {label:<{indent - 2}}",
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
