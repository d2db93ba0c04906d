# SPDX-License-Identifier: GPL-2.0-only
"""The base class of exits, and decoding of ``struct kvm_run``."""

import ctypes
import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Self

from pyvmm.uapi.layout import Struct
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import kvm_run

_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}  # format characters of `struct`, by size in bytes


class Exit:
    """One return from ``KVM_RUN``.

    Attributes:
        reason: the ``KVM_EXIT_*`` number.
        kind: the name used in JSON and tables: "mmio" for ``KVM_EXIT_MMIO``.
        payload: the member of ``struct kvm_run`` with the exit's fields, or "".
    """

    reason: ClassVar[int]
    kind: ClassVar[str]
    payload: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Derive `kind` from the name of `reason` in the headers."""
        if name := names("KVM_EXIT_").get(cls.reason):
            cls.kind = name.removeprefix("KVM_EXIT_").lower()

    @classmethod
    def decode(cls, shared: memoryview) -> Self:
        """Decode the exit from `shared`, which starts with ``struct kvm_run``."""
        return cls.of(kvm_run.from_buffer_copy(shared))

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the exit's fields from the payload in ``struct kvm_run``."""
        payload = getattr(run, cls.payload) if cls.payload else None
        members: Any = cls  # every subclass is a dataclass
        return cls(*(_copied(getattr(payload, member.name)) for member in fields(members)))


def _copied(value: object) -> object:
    return tuple(value) if isinstance(value, ctypes.Array) else value


def unpacker(
    payload: str, layout: type[Struct], *members: str
) -> Callable[[memoryview], tuple[int, ...]]:
    """Return a function that unpacks `members` of a payload as integers.

    `members` are in the order of their offsets. An empty `payload` means ``struct kvm_run``
    itself. For frequent exits: unpacking takes a tenth of the time of ctypes.
    """
    here, form = 0, "<"
    base: int = getattr(kvm_run, payload).offset if payload else 0
    for member in members:
        field = getattr(layout, member)
        form += f"{base + field.offset - here}x{_CODES[field.size]}"
        here = base + field.offset + field.size
    return struct.Struct(form).unpack_from
