# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Sequence

import pytest

from pyvmm.errors import UsageError
from pyvmm.faults.fault import Fault, Fix, Remedy
from pyvmm.faults.policy import auto, by_region, parse
from pyvmm.faults.report import FaultReport
from pyvmm.kvm.exits import RunFailure

REPORT = FaultReport(
    gpa=0, size=4, access="read", errno="EFAULT", source="reconstructed", exit=RunFailure(14)
)


def fault(*offered: tuple[Fix, bool], region: str | None = "BAR4") -> Fault:
    """Return a fault with remedies of these kinds, each faithful or not."""
    remedies = (Remedy(kind, "", faithful, lambda: None) for kind, faithful in offered)
    return Fault(REPORT, "cause", "why", region, tuple(remedies))


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        ([(Fix.REPLAY, True), (Fix.EMULATE, True)], Fix.REPLAY),
        ([(Fix.REPLAY, False), (Fix.EMULATE, True)], Fix.EMULATE),
        ([(Fix.REPLAY, False), (Fix.EMULATE, False)], Fix.STOP),
        ([(Fix.CONVERT, True)], Fix.CONVERT),
        ([(Fix.INJECT, False)], Fix.STOP),
        ([], Fix.STOP),
    ],
    ids=["both faithful", "one faithful", "none faithful", "convert", "inject", "no remedy"],
)
def test_auto_chooses_a_faithful_remedy(offered: Sequence[tuple[Fix, bool]], wanted: Fix) -> None:
    assert auto(fault(*offered)) is wanted


@pytest.mark.parametrize(
    ("words", "region", "wanted"),
    [
        ([], "BAR4", Fix.REPLAY),
        (["emulate"], "BAR4", Fix.EMULATE),
        (["BAR4=stop"], "BAR4", Fix.STOP),
        (["bar4=stop"], "BAR4", Fix.STOP),
        (["BAR4=stop"], "BAR0", Fix.REPLAY),
        (["BAR4=stop"], None, Fix.REPLAY),
        (["inject", "BAR4=auto"], "BAR4", Fix.REPLAY),
        (["inject", "BAR4=auto"], "RAM", Fix.INJECT),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_parse(words: Sequence[str], region: str | None, wanted: Fix) -> None:
    otherwise, policies = parse(words)
    policy = by_region(policies, otherwise)
    assert policy(fault((Fix.REPLAY, True), region=region)) is wanted


@pytest.mark.parametrize("word", ["never", "BAR4=", "=replay", "BAR4=never"])
def test_parse_rejects_an_unknown_policy(word: str) -> None:
    with pytest.raises(UsageError, match="--on-fault"):
        parse([word])


@pytest.mark.parametrize("words", [["emulate", "stop"], ["BAR4=stop", "bar4=stop"]])
def test_parse_rejects_a_second_policy(words: Sequence[str]) -> None:
    with pytest.raises(UsageError, match=f"--on-fault {words[1]}: .* has a policy already"):
        parse(words)
