# SPDX-License-Identifier: GPL-2.0-only
"""Who decides what is done about a fault.

A policy is a function of the fault; it answers with one of the fixes that the fault offers, or
with `Fix.STOP`. One that asks for what is not offered gets a stop, and the record says so.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from pyvmm.errors import UsageError
from pyvmm.faults.fault import Fault, Fix

Policy: TypeAlias = Callable[[Fault], Fix]

AUTO = "auto"
NAMES = (AUTO, *Fix)


def auto(fault: Fault) -> Fix:
    """Replay where the guest can't tell, else emulate where it can't, convert likewise, or stop."""
    for wanted in (Fix.REPLAY, Fix.EMULATE, Fix.CONVERT):
        remedy = fault.remedy(wanted)
        if remedy and remedy.faithful:
            return wanted
    return Fix.STOP


def always(wanted: Fix) -> Policy:
    """The same for every fault."""
    return lambda _: wanted


def by_region(policies: Mapping[str, Policy], otherwise: Policy) -> Policy:
    """A policy for some regions (``BAR4``, ``RAM``), and one for the rest."""

    def decide(fault: Fault) -> Fix:
        policy = policies.get(fault.region, otherwise) if fault.region else otherwise
        return policy(fault)

    return decide


def parse(words: Sequence[str]) -> Policy:
    """The policy that ``POLICY`` and ``REGION=POLICY`` describe. Raises `UsageError`."""
    otherwise: Policy = auto
    policies: dict[str, Policy] = {}
    for word in words:
        region, given, name = word.rpartition("=")
        if given and region:
            policies[region.upper()] = _named(name, word)
        else:
            otherwise = _named(word, word)
    return by_region(policies, otherwise) if policies else otherwise


def _named(name: str, word: str) -> Policy:
    if name == AUTO:
        return auto
    if name in set(Fix):
        return always(Fix(name))
    raise UsageError(
        f"--on-fault {word}: write a policy ({', '.join(NAMES)}), or one for a region, like "
        "BAR4=emulate"
    )
