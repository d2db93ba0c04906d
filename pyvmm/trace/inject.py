# SPDX-License-Identifier: GPL-2.0-only
"""Rules that answer in the kernel's place, by what is asked and not only by how often.

::

    cap:KVM_CAP_READONLY_MEM=0
    ioctl:KVM_SET_USER_MEMORY_REGION where guest_phys_addr=0xfffc0000:errno=EINVAL
    ioctl:KVM_IRQFD:delay=50ms after=3
    run:memory_fault gpa=0x40000000 size=0x1000 flags=0 after=10
    run:errno=EFAULT after=100

``where`` takes several conditions, joined by ``and``, each a member of the argument and its value
or name. ``after=N`` lets the first N through; ``times=N`` ends it after N; ``vcpu=N`` is about one
vCPU. An injected error or fault of ``run:`` happens once where ``times`` does not say otherwise:
a vCPU that never runs again shows nothing. ``ioctl:…:return=N`` succeeds and does nothing.
"""

import errno as errnos
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pyvmm.errno_names import errno_number
from pyvmm.errors import UsageError
from pyvmm.trace.decode import NAMES
from pyvmm.trace.values import Names, Value, Values
from pyvmm.uapi.names import names

_CAP = re.compile(r"cap:(?P<name>\w+)=(?P<value>\w+)(?P<rest>( \w+=\w+)*)")
_IOCTL = re.compile(
    r"ioctl:(?P<name>\w+)(?: where (?P<where>.+?))?:(?P<what>\w+=\S+)(?P<rest>( \w+=\w+)*)"
)
_RUN = re.compile(r"run:(?P<what>memory_fault|\w+=\S+)(?P<rest>( \w+=\w+)*)")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_FORMS = "it is cap:NAME=VALUE, ioctl:NAME [where MEMBER=VALUE]:ACTION or run:ACTION"


@dataclass
class Rule:
    """One rule; `seen` counts what it was about, `done` what it did.

    Attributes:
        text: as it was written, to be shown where it acted.
        ioctl: the name of the ioctl; "KVM_RUN" for ``run:``.
        where: what members of the argument have to be, as (member, text).
        result: what is returned, an errno negative; None: the kernel does it.
        fault: gpa, size and flags of an injected memory fault.
    """

    text: str
    ioctl: str
    where: tuple[tuple[str, str], ...] = ()
    result: int | None = None
    delay: float = 0
    fault: tuple[int, int, int] | None = None
    after: int = 0
    times: int | None = None
    vcpu: int | None = None
    seen: int = 0
    done: int = 0

    def acts(self, values: Values, found: Names) -> bool:
        """Is this call one that the rule is about, and is it its turn? Counts it."""
        if not all(_is(values.get(member), found.get(member), text) for member, text in self.where):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.done >= self.times):
            return False
        self.done += 1
        return True


class Rules:
    """All rules of a trace, found by the ioctl that they are about."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_ioctl: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_ioctl.setdefault(rule.ioctl, []).append(rule)

    def about(self, ioctl: str) -> list[Rule]:
        """The rules about an ioctl, in the order they were given."""
        return self._by_ioctl.get(ioctl, [])

    def __bool__(self) -> bool:
        return bool(self._by_ioctl)


def parse(text: str) -> Rule:
    """A rule from its text. Raises `UsageError`, which says what is wrong with it."""
    text = " ".join(text.split())
    if match := _CAP.fullmatch(text):
        return _with_rest(_capability(text, match), match["rest"])
    if match := _IOCTL.fullmatch(text):
        _known_ioctl(match["name"], text)
        rule = Rule(text, match["name"], _conditions(match["where"], text))
        return _with_rest(_with_action(rule, match["what"]), match["rest"])
    if match := _RUN.fullmatch(text):
        return _run(text, match["what"], match["rest"])
    raise UsageError(f"no rule to inject: {text!r}: {_FORMS}")


def _capability(text: str, match: re.Match[str]) -> Rule:
    known = {name: number for number, name in names("KVM_CAP_").items()}
    name = match["name"]
    if name not in known:
        raise UsageError(f"in {text!r}: the headers have no {name}")
    where = (("argument", str(known[name])),)
    return Rule(text, "KVM_CHECK_EXTENSION", where, result=_number(match["value"], text))


def _run(text: str, what: str, rest: str) -> Rule:
    rule = Rule(text, "KVM_RUN")
    if what != "memory_fault":
        rule = _with_action(rule, what)
        rule.times = None if rule.result is None else 1
        return _with_rest(rule, rest)
    given = dict(item.split("=", 1) for item in rest.split())
    if "gpa" not in given:
        raise UsageError(f"in {text!r}: a memory fault needs gpa=…")
    gpa, size, flags = (
        _number(given.pop(name, default), text)
        for name, default in (("gpa", ""), ("size", "0x1000"), ("flags", "0"))
    )
    rule.result, rule.fault, rule.times = -errnos.EFAULT, (gpa, size, flags), 1
    return _with_rest(rule, " ".join(f"{name}={value}" for name, value in given.items()))


def _with_action(rule: Rule, what: str) -> Rule:
    verb, value = what.split("=", 1)
    if verb == "errno":
        rule.result = -_errno(value, rule.text)
    elif verb == "return":
        rule.result = _number(value, rule.text)
    elif verb == "delay":
        match = _DELAY.fullmatch(value)
        if not match:
            raise UsageError(f"in {rule.text!r}: a delay is a number with us, ms or s")
        rule.delay = float(match[1]) * _UNITS[match[2]]
    else:
        raise UsageError(f"in {rule.text!r}: an action is errno=, return= or delay=, not {verb}=")
    return rule


def _with_rest(rule: Rule, rest: str) -> Rule:
    for item in rest.split():
        name, value = item.split("=", 1)
        if name not in ("after", "times", "vcpu"):
            raise UsageError(f"in {rule.text!r}: after=, times= and vcpu= may follow, not {name}=")
        setattr(rule, name, _number(value, rule.text))
    return rule


def _conditions(text: str | None, rule: str) -> tuple[tuple[str, str], ...]:
    conditions = []
    for condition in re.split(r" and |,", text) if text else []:
        member, equals, value = condition.strip().partition("=")
        if not equals:
            raise UsageError(f"in {rule!r}: a condition is MEMBER=VALUE, not {condition.strip()!r}")
        conditions.append((member.strip(), value.strip()))
    return tuple(conditions)


def _known_ioctl(name: str, rule: str) -> None:
    if name not in NAMES:
        raise UsageError(f"in {rule!r}: the headers have no ioctl {name}")


def _is(value: Value | None, name: str | None, text: str) -> bool:
    """Does a member have the value that a condition asks for, as a number or by name?"""
    if name == text or value == text:
        return True
    try:
        return value == int(text, 0)
    except ValueError:
        return False


def _errno(name: str, rule: str) -> int:
    number = errno_number(name)
    if number is None:
        raise UsageError(f"in {rule!r}: there is no error {name}")
    return number


def _number(text: str, rule: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"in {rule!r}: {text!r} is no number") from None
