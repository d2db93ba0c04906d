# SPDX-License-Identifier: GPL-2.0-only
"""A condition under which KVM fails an ioctl, and the judge of such conditions."""

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from pyvmm.why.facts import Facts
from pyvmm.why.slot import Absent

Mark = Literal["known", "inferred", "impossible"]
"""known: the facts show it. inferred: it fits, but a deciding fact is missing or cannot be seen.
impossible: the facts exclude it, or this kernel and CPU do."""

MARKS: tuple[Mark, ...] = ("known", "inferred", "impossible")

F = TypeVar("F", bound=Facts)

# 0 beside EFAULT: where x86 emulates the instruction, a failed access becomes KVM_EXIT_MMIO
# (emulator_read_write_onepage in arch/x86/kvm/x86.c).
ACCESS_ERRNOS = (errno.EFAULT, 0)


class Broken(NamedTuple):
    """The positive result of a condition's test: `why` in one sentence, and how sure it is."""

    why: str
    mark: Mark


def known(why: str) -> Broken:
    """Return the result of a test whose facts all were seen."""
    return Broken(why, "known")


def inferred(why: str) -> Broken:
    """Return the result of a test that fits, but rests on something that cannot be seen."""
    return Broken(why, "inferred")


class Unseen(NamedTuple):
    """The `reason` why the kernel's own path cannot show that a condition is the cause."""

    reason: str


Evidence = tuple[str, ...]
"""What the kernel's own path shows if a condition is the cause, as `pyvmm.provenance` records it.

Each string is required, and is one of "FUNCTION RESULT" ("shmem_fault VM_FAULT_SIGBUS"),
"log: TEXT" (a part of a line in the kernel's log), and an exit ("KVM_EXIT_ARM_NISV"). " or "
separates alternatives. A function that this kernel cannot probe is not required.
"""


@dataclass(frozen=True)
class Condition(Generic[F]):
    """One way in which KVM fails an ioctl.

    Attributes:
        name: the name to script against.
        errnos: each errno it gives; 0 where ``KVM_RUN`` returns with an exit instead.
        decided_by: the kernel function that decides it, and its file.
        rule: the condition in general, one clause, for an answer without facts.
        test: return `Broken` where the facts fulfil the condition, None where they exclude it.
            Reading an absent fact raises `Absent`.
        arch: the only architecture that has it, "arm64" or "x86_64"; None for both.
        remedies: names of `pyvmm.faults.remedies`, the preferred one first.
        evidence: what the kernel's own path shows (`Evidence`), or `Unseen`. Required: None is for
            conditions made up in tests.
    """

    name: str
    errnos: tuple[int, ...]
    decided_by: str
    rule: str
    test: Callable[[F], Broken | None]
    arch: str | None = None
    remedies: tuple[str, ...] = ()
    evidence: Evidence | Unseen | None = None


@dataclass(frozen=True)
class Finding:
    """The judgement on one condition.

    Attributes:
        name: the condition's name.
        mark: how sure it is.
        why: a sentence for a person.
        needs: the absent fact that left it undecided; None if it was decided.
    """

    name: str
    mark: Mark
    why: str
    needs: str | None = None


def judge(conditions: Iterable[Condition[F]], facts: F) -> Iterator[Finding]:
    """Yield a finding for each condition that can give the errno, in the kernel's order.

    After a condition that is known to be broken, the kernel does not test the next ones.
    """
    cause: str | None = None
    for condition in conditions:
        if facts.errno not in condition.errnos:
            continue
        finding = _judge(condition, facts, cause)
        if finding.mark == "known":
            cause = condition.name
        yield finding


def _judge(condition: Condition[F], facts: F, cause: str | None) -> Finding:
    name = condition.name
    if condition.arch not in (None, facts.host.arch):
        return Finding(name, "impossible", f"only KVM on {condition.arch} fails this way")
    if cause:
        return Finding(name, "impossible", f"KVM tests {cause} first, and that failed")
    try:
        broken = condition.test(facts)
    except Absent as absent:
        return Finding(
            name, "inferred", f"{condition.rule}: deciding it needs {absent}", str(absent)
        )
    if broken is None:
        return Finding(name, "impossible", f"excluded by the facts; the rule: {condition.rule}")
    return Finding(name, broken.mark, broken.why)


def most_likely(conditions: Iterable[Condition[F]], facts: F) -> Finding | None:
    """Return the finding on the first condition that the facts fulfil, or None.

    Called for each fault: it builds no finding for the conditions before.
    """
    for condition in conditions:
        if facts.errno in condition.errnos and condition.arch in (None, facts.host.arch):
            try:
                broken = condition.test(facts)
            except Absent:
                continue
            if broken:
                return Finding(condition.name, broken.mark, broken.why)
    return None


def surest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings sorted by mark (known, inferred, impossible), else in their order."""
    return sorted(findings, key=lambda finding: MARKS.index(finding.mark))
