# SPDX-License-Identifier: GPL-2.0-only
"""Policies: functions that choose the remedy for a fault.

A policy returns the kind of one of the fault's remedies, or `Fix.STOP`. If the fault has no remedy
of that kind, the run stops and the record says so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from pyvmm.errors import UsageError
from pyvmm.faults.fault import Fault, Fix

Policy: TypeAlias = Callable[[Fault], Fix]

AUTO = "auto"
NAMES = (AUTO, *Fix)


def auto(fault: Fault) -> Fix:
    """Choose the first remedy that the guest cannot notice: replay, emulate, convert; else stop."""
    for wanted in (Fix.REPLAY, Fix.EMULATE, Fix.CONVERT):
        remedy = fault.remedy(wanted)
        if remedy and remedy.faithful:
            return wanted
    return Fix.STOP


def always(wanted: Fix) -> Policy:
    """Return a policy that always chooses `wanted`."""
    return lambda _: wanted


def by_region(policies: Mapping[str, Policy], otherwise: Policy) -> Policy:
    """Return a policy that uses `policies` by region (``BAR4``, ``RAM``), else `otherwise`."""

    def decide(fault: Fault) -> Fix:
        policy = policies.get(fault.region, otherwise) if fault.region else otherwise
        return policy(fault)

    return decide


def parse(words: Sequence[str]) -> tuple[Policy, dict[str, Policy]]:
    """Return the policy of words ``POLICY`` (else `auto`), and those of ``REGION=POLICY``.

    Raises `UsageError`, also for a second policy of one region, which would replace the first.
    """
    policies: dict[str, Policy] = {}
    for word in words:
        region, given, name = word.rpartition("=")
        if given and not region:
            name = word
        if region.upper() in policies:
            raise UsageError(f"--on-fault {word}: {region or 'the default'} has a policy already")
        policies[region.upper()] = _named(name, word)
    return policies.pop("", auto), policies


def _named(name: str, word: str) -> Policy:
    if name == AUTO:
        return auto
    if name in set(Fix):
        return always(Fix(name))
    raise UsageError(
        f"--on-fault {word} is not a policy: write one of {', '.join(NAMES)}, or one for a region, "
        "like BAR4=emulate"
    )
