# SPDX-License-Identifier: GPL-2.0-only
"""Rules that inject results into system calls, selected by ioctl, argument and count.

::

    cap:KVM_CAP_READONLY_MEM=0
    ioctl:KVM_SET_USER_MEMORY_REGION where guest_phys_addr=0xfffc0000:errno=EINVAL
    ioctl:KVM_IRQFD:delay=50ms after=3
    run:memory_fault gpa=0x40000000 size=0x1000 flags=0 after=10
    run:errno=EFAULT after=100

``where`` takes one or more conditions joined by ``and``: a member of the argument and its value, as
a number or as constants joined by ``|``. ``after=N`` skips the first N matching calls. ``times=N``
ends the rule after N injections. ``vcpu=N`` restricts a ``run:`` rule to one vCPU. An injected
error or memory fault of ``run:`` happens once unless ``times`` is given, because a vCPU that never
runs again shows nothing. ``ioctl:…:return=N`` returns N without running the ioctl.

A scenario is a TOML file with a list of rules, such as a kernel without read-only memslots::

    inject = [
        "cap:KVM_CAP_READONLY_MEM=0",
        "ioctl:KVM_SET_USER_MEMORY_REGION where flags=KVM_MEM_READONLY:errno=EINVAL",
    ]
"""

import errno as errnos
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyvmm.errno_names import errno_number
from pyvmm.errors import UsageError
from pyvmm.input_file import read_bytes
from pyvmm.trace.ioctl_decode import IOCTLS, argument_members
from pyvmm.trace.values import Values
from pyvmm.uapi import iommufd, kvm, native_arch, vfio
from pyvmm.uapi.names import names

_CAP = re.compile(r"cap:(?P<name>\w+)=(?P<value>\w+)(?P<rest>( \w+=\w+)*)")
_IOCTL = re.compile(
    r"ioctl:(?P<name>\w+)(?: where (?P<where>.+?))?:(?P<what>\w+=\S+)(?P<rest>( \w+=\w+)*)"
)
_RUN = re.compile(r"run:(?P<what>memory_fault|\w+=\S+)(?P<rest>( \w+=\w+)*)")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_INT_LIMIT = 1 << 31
_CONSTANTS: dict[str, int] = {
    name: value
    for module in (kvm, native_arch.module, vfio, iommufd)
    for name, value in vars(module).items()
    if type(value) is int
}
_FORMS = "use cap:NAME=VALUE, ioctl:NAME [where MEMBER=VALUE]:ACTION or run:ACTION"


@dataclass
class Rule:
    """An injection rule.

    Attributes:
        text: the rule as the user wrote it; events show it.
        ioctl: the name of the ioctl; "KVM_RUN" for ``run:``.
        where: conditions on the argument, as (member, value).
        result: the injected return value (-errno for an error); None runs the ioctl.
        delay: seconds to wait before the ioctl.
        fault: the GPA, size in bytes and flags of an injected memory fault, or None.
        after: the number of matching calls to skip.
        times: the maximum number of injections, or None.
        vcpu: the number of the only vCPU that the rule applies to, or None.
        match_count: the number of calls that matched so far.
        injection_count: the number of calls that were changed so far.
    """

    text: str
    ioctl: str
    where: tuple[tuple[str, int], ...] = ()
    result: int | None = None
    delay: float = 0
    fault: tuple[int, int, int] | None = None
    after: int = 0
    times: int | None = None
    vcpu: int | None = None
    match_count: int = 0
    injection_count: int = 0

    def applies(self, values: Values) -> bool:
        """Return True if this call is to be changed, and count it."""
        if not all(values.get(name) == value for name, value in self.where):
            return False
        self.match_count += 1
        if self.match_count <= self.after or (
            self.times is not None and self.injection_count >= self.times
        ):
            return False
        self.injection_count += 1
        return True


class Rules:
    """The rules of a trace, by ioctl."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        """Group `rules` by ioctl."""
        self._by_ioctl: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_ioctl.setdefault(rule.ioctl, []).append(rule)

    def for_ioctl(self, ioctl: str) -> list[Rule]:
        """Return the rules for an ioctl, in the order they were given."""
        return self._by_ioctl.get(ioctl, [])

    def __bool__(self) -> bool:
        """Return True if there are any rules."""
        return bool(self._by_ioctl)


def parse(text: str) -> Rule:
    """Parse a rule. Raises `UsageError` with the reason if it is not valid."""
    text = " ".join(text.split())
    if match := _CAP.fullmatch(text):
        return _with_options(_capability(text, match), match["rest"])
    if match := _IOCTL.fullmatch(text):
        name = match["name"]
        if name not in IOCTLS:
            raise UsageError(f"in {text!r}: the kernel headers do not define ioctl {name}")
        rule = Rule(text, name, _conditions(name, match["where"], text))
        return _with_options(_with_action(rule, match["what"]), match["rest"])
    if match := _RUN.fullmatch(text):
        return _run(text, match["what"], match["rest"])
    raise UsageError(f"cannot parse injection rule {text!r}: {_FORMS}")


def read_scenario(path: Path) -> list[str]:
    """Return the rules in a scenario file, in its order. Raises `UsageError`."""
    try:
        document = tomllib.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, nested too deeply
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    rules = document.pop("inject", None)
    if document:
        raise UsageError(f"{path} has unknown keys: {', '.join(sorted(document))}; use inject only")
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        raise UsageError(f'{path} is not a scenario: it needs inject = ["RULE", …]')
    return rules


def _capability(text: str, match: re.Match[str]) -> Rule:
    numbers = {name: number for number, name in names("KVM_CAP_").items()}
    name = match["name"]
    if name not in numbers:
        raise UsageError(f"in {text!r}: the kernel headers do not define {name}")
    where = (("argument", numbers[name]),)
    return Rule(text, "KVM_CHECK_EXTENSION", where, result=_int(match["value"], text))


def _run(text: str, what: str, rest: str) -> Rule:
    rule = Rule(text, "KVM_RUN")
    if what != "memory_fault":
        rule = _with_action(rule, what)
        rule.times = None if rule.result is None else 1
        return _with_options(rule, rest)
    options = dict(item.split("=", 1) for item in rest.split())
    if "gpa" not in options:
        raise UsageError(f"in {text!r}: a memory fault needs gpa=ADDRESS")
    gpa, size, flags = (
        _number(options.pop(name, default), text)
        for name, default in (("gpa", ""), ("size", "0x1000"), ("flags", "0"))
    )
    rule.result, rule.fault, rule.times = -errnos.EFAULT, (gpa, size, flags), 1
    return _with_options(rule, " ".join(f"{name}={value}" for name, value in options.items()))


def _with_action(rule: Rule, what: str) -> Rule:
    verb, value = what.split("=", 1)
    if verb == "errno":
        rule.result = -_errno(value, rule.text)
    elif verb == "return":
        rule.result = _int(value, rule.text)
    elif verb == "delay":
        match = _DELAY.fullmatch(value)
        if not match or float(match[1]) >= _INT_LIMIT:
            raise UsageError(
                f"in {rule.text!r}: a delay is a number below {_INT_LIMIT} with a unit: us, ms or s"
            )
        rule.delay = float(match[1]) * _UNITS[match[2]]
    else:
        raise UsageError(
            f"in {rule.text!r}: the action must be errno=, return= or delay=, not {verb}="
        )
    return rule


def _with_options(rule: Rule, rest: str) -> Rule:
    for item in rest.split():
        name, value = item.split("=", 1)
        if name not in ("after", "times", "vcpu"):
            raise UsageError(
                f"in {rule.text!r}: unknown option {name}=; use after=, times= or vcpu="
            )
        if name == "vcpu" and rule.ioctl != "KVM_RUN":
            raise UsageError(
                f"in {rule.text!r}: vcpu= needs run:, other ioctls have no vCPU number"
            )
        setattr(rule, name, _number(value, rule.text))
    return rule


def _conditions(ioctl: str, text: str | None, rule: str) -> tuple[tuple[str, int], ...]:
    members = () if ioctl == "KVM_RUN" else argument_members(IOCTLS[ioctl])
    conditions = []
    for condition in re.split(r" and |,", text) if text else []:
        member, equals, value = condition.strip().partition("=")
        if not equals:
            raise UsageError(
                f"in {rule!r}: a condition must be MEMBER=VALUE, not {condition.strip()!r}"
            )
        if (name := member.strip()) not in members:
            usable = f"use {', '.join(members)}" if members else "it takes no conditions"
            raise UsageError(f"in {rule!r}: {ioctl} has no {name}; {usable}")
        conditions.append((name, _value(value.strip(), rule)))
    return tuple(conditions)


def _value(text: str, rule: str) -> int:
    """Parse a number, or constants joined by ``|``."""
    value = 0
    for part in text.split("|"):
        if part.isidentifier() and part not in _CONSTANTS:
            raise UsageError(f"in {rule!r}: the kernel headers do not define {part}")
        value |= _CONSTANTS[part] if part in _CONSTANTS else _number(part, rule)
    return value


def _errno(name: str, rule: str) -> int:
    number = errno_number(name)
    if number is None:
        raise UsageError(f"in {rule!r}: unknown errno {name}")
    return number


def _number(text: str, rule: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        raise UsageError(f"in {rule!r}: {text!r} is not a number") from None
    if number >= 1 << 64:
        raise UsageError(f"in {rule!r}: {text} does not fit 64 bits")
    return number


def _int(text: str, rule: str) -> int:
    """Parse the result of an ioctl(2)."""
    number = _number(text, rule)
    if not -_INT_LIMIT <= number < _INT_LIMIT:
        raise UsageError(f"in {rule!r}: {text} does not fit a C int")
    return number
