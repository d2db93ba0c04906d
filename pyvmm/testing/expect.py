# SPDX-License-Identifier: GPL-2.0-only
"""What a test expects, in one line: an errno, or exits with the fields that matter.

Every exit of `pyvmm.kvm.exits` can be imported from here (and from `pyvmm.testing`) by its name:
``Mmio(gpa=0x9000000)`` is any MMIO exit at that address.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any

from pyvmm.errno_names import errno_name
from pyvmm.kvm import exits
from pyvmm.kvm.exits import Exit
from pyvmm.uapi.kvm import KVM_SYSTEM_EVENT_SHUTDOWN

_MEMBERS = ("type", "number", "reason", "errno", "size", "count", "cpu", "flags")  # in decimal


class Unexpected(AssertionError):
    """What came is not what the test expects."""


@dataclass(frozen=True)
class Expected:
    """An exit of one of `types`, whose fields are as given; the others may be anything.

    Attributes:
        answer: what a read gets, once it has matched.
    """

    name: str
    types: tuple[type[Exit], ...]
    fields: Mapping[str, object]
    answer: int = 0

    def gives(self, answer: int) -> "Expected":
        """The same, and the guest's read returns `answer` (0 otherwise)."""
        return replace(self, answer=answer)

    def matches(self, exit: Exit) -> bool:
        """Is it such an exit?"""
        if not isinstance(exit, self.types):
            return False
        return all(
            getattr(exit, name) == value
            for name, value in self.fields.items()
            if hasattr(exit, name)  # of `SystemOff` each architecture has its own
        )

    def __str__(self) -> str:
        return _call(self.name, self.fields)


class fails:
    """``with fails(errno.EINVAL):`` what is done there fails with that errno, and not otherwise.

    Attributes:
        error: what was raised, for a closer look after the block.
    """

    error: OSError

    def __init__(self, number: int, *, cause: str | None = None) -> None:
        """Expect an `OSError` with errno `number`.

        `cause` is that of a `pyvmm.kvm.memslots.MemslotError`, the rule that was broken.
        """
        self._number = number
        self._cause = cause

    def __enter__(self) -> "fails":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        __tracebackhide__ = True
        if error is None:
            raise Unexpected(f"expected {errno_name(self._number)}, and nothing failed")
        if not isinstance(error, OSError):
            return False
        if error.errno != self._number:
            raise Unexpected(f"expected {errno_name(self._number)}, got {error}") from None
        cause = getattr(error, "cause", None)
        if self._cause not in (None, cause):
            raise Unexpected(f"expected the cause {self._cause}, got {cause}: {error}") from None
        self.error = error
        return True


def SystemOff() -> Expected:
    """The guest's end: PSCI SYSTEM_OFF on arm64, ``hlt`` on x86-64."""
    off: Mapping[str, object] = {"type": KVM_SYSTEM_EVENT_SHUTDOWN}
    return Expected("SystemOff", (exits.SystemEvent, exits.Halt), off)


def __getattr__(name: str) -> Callable[..., Expected]:
    kind = getattr(exits, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exit)):
        raise AttributeError(f"there is no exit {name!r} in pyvmm.kvm.exits")

    def expected(**wanted: object) -> Expected:
        members: Any = kind  # every exit is a dataclass
        have = [member.name for member in fields(members)]
        if unknown := wanted.keys() - set(have):
            raise TypeError(f"{name} has no {', '.join(sorted(unknown))}: it has {', '.join(have)}")
        return Expected(name, (kind,), wanted)

    return expected


def describe(exit: Exit) -> str:
    """An exit as a test would write it, addresses in hex."""
    members: Any = exit
    return _call(type(exit).__name__, {m.name: getattr(exit, m.name) for m in fields(members)})


def _call(name: str, values: Mapping[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={_text(key, value)}' for key, value in values.items())})"


def _text(name: str, value: object) -> str:
    if name == "errno" and isinstance(value, int):
        return errno_name(value) if value else "0"
    if type(value) is int and name not in _MEMBERS:
        return f"{value:#x}"
    return str(value)
