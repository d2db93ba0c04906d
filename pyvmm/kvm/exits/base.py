# SPDX-License-Identifier: GPL-2.0-only
"""What every exit has: a reason, a kind by name, and a way out of ``struct kvm_run``."""

import ctypes
import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Self

from pyvmm.uapi.layout import Struct
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import kvm_run

_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}  # the struct module's, by size in bytes


class Exit:
    """One return from ``KVM_RUN``.

    Attributes:
        reason: its ``KVM_EXIT_*`` number.
        kind: its name as JSON and tables count it, "mmio" for ``KVM_EXIT_MMIO``.
        payload: the member of ``struct kvm_run`` that holds its fields, "" where none does.
    """

    reason: ClassVar[int]
    kind: ClassVar[str]
    payload: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if name := names("KVM_EXIT_").get(cls.reason):
            cls.kind = name.removeprefix("KVM_EXIT_").lower()

    @classmethod
    def decode(cls, shared: memoryview) -> Self:
        """The exit that ``struct kvm_run`` holds, at the start of `shared`."""
        return cls.of(kvm_run.from_buffer_copy(shared))

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the payload out of ``struct kvm_run``, field by field."""
        payload = getattr(run, cls.payload) if cls.payload else None
        members: Any = cls  # every subclass is a dataclass
        return cls(*(_copied(getattr(payload, member.name)) for member in fields(members)))


def _copied(value: object) -> object:
    return tuple(value) if isinstance(value, ctypes.Array) else value


def unpacker(
    payload: str, layout: type[Struct], *members: str
) -> Callable[[memoryview], tuple[int, ...]]:
    """A function that reads `members` of a payload as integers, in the order of their offsets.

    For the exits that a guest makes by the thousand: this takes a tenth of what ctypes takes.
    With no payload it reads members of ``struct kvm_run`` itself.
    """
    here, form = 0, "<"
    base: int = getattr(kvm_run, payload).offset if payload else 0
    for member in members:
        field = getattr(layout, member)
        form += f"{base + field.offset - here}x{_CODES[field.size]}"
        here = base + field.offset + field.size
    return struct.Struct(form).unpack_from
