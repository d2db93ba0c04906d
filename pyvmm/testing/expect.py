# SPDX-License-Identifier: GPL-2.0-only
"""Expectations of a test: an errno, or exits with some of their fields.

Every exit of `pyvmm.kvm.exits` can be imported from this module and from `pyvmm.testing` as an
expectation: ``Mmio(gpa=0x9000000)`` matches any MMIO exit at that address.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any

from pyvmm.errno_names import errno_name
from pyvmm.kvm import exits
from pyvmm.kvm.exits import Exit
from pyvmm.uapi.kvm import KVM_SYSTEM_EVENT_SHUTDOWN

_DECIMAL = ("type", "number", "reason", "errno", "size", "count", "cpu", "flags")


class Unexpected(AssertionError):
    """An exit or error that the test does not expect."""


@dataclass(frozen=True)
class Expected:
    """An expected exit of one of `types` with these fields; other fields may names any value.

    Attributes:
        answer: the value to complete a read with.
    """

    name: str
    types: tuple[type[Exit], ...]
    fields: Mapping[str, object]
    answer: int = 0

    def gives(self, answer: int) -> "Expected":
        """Return the same expectation, which completes the guest's read with `answer`, not 0."""
        return replace(self, answer=answer)

    def matches(self, exit: Exit) -> bool:
        """Return True if `exit` meets the expectation."""
        if not isinstance(exit, self.types):
            return False
        return all(
            getattr(exit, name) == value
            for name, value in self.fields.items()
            if hasattr(exit, name)  # the types of `SystemOff` names different fields
        )

    def __str__(self) -> str:
        """Return the expectation as a test writes it."""
        return _call(self.name, self.fields)


class fails:
    """A context manager, ``with fails(errno.EINVAL):``, whose block must raise an `OSError`.

    Raises `Unexpected` if the block raises nothing or has another errno.

    Attributes:
        error: the raised `OSError`.
    """

    error: OSError

    def __init__(self, number: int, *, cause: str | None = None) -> None:
        """Expect errno `number`, and optionally the `cause` of a `MemslotError`."""
        self._number = number
        self._cause = cause

    def __enter__(self) -> "fails":
        """Return the context manager, for its attribute `error`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Check the error that ended the block, and suppress it if it is expected."""
        __tracebackhide__ = True
        if error is None:
            raise Unexpected(f"expected {errno_name(self._number)}, but nothing failed")
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
    """Expect the end of the guest: PSCI SYSTEM_OFF on arm64, ``hlt`` on x86-64."""
    off: Mapping[str, object] = {"type": KVM_SYSTEM_EVENT_SHUTDOWN}
    return Expected("SystemOff", (exits.SystemEvent, exits.Halt), off)


def __getattr__(name: str) -> Callable[..., Expected]:
    kind = getattr(exits, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exit)):
        raise AttributeError(f"pyvmm.kvm.exits has no exit {name!r}")

    def expected(**wanted: object) -> Expected:
        members: Any = kind  # every exit is a dataclass
        names = [member.name for member in fields(members)]
        if unknown := wanted.keys() - set(names):
            raise TypeError(
                f"{name} has no {', '.join(sorted(unknown))}: its fields are {', '.join(names)}"
            )
        return Expected(name, (kind,), wanted)

    return expected


def describe(exit: Exit) -> str:
    """Return an exit as a test writes it, with addresses in hex."""
    members: Any = exit
    return _call(type(exit).__name__, {m.name: getattr(exit, m.name) for m in fields(members)})


def _call(name: str, values: Mapping[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={_text(key, value)}' for key, value in values.items())})"


def _text(name: str, value: object) -> str:
    if name == "errno" and isinstance(value, int):
        return errno_name(value) if value else "0"
    if type(value) is int and name not in _DECIMAL:
        return f"{value:#x}"
    return str(value)
