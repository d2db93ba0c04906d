# SPDX-License-Identifier: GPL-2.0-only
"""What every exit has: a reason, a kind by name, and a way out of ``struct kvm_run``."""

import ctypes
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from pyvmm.uapi.names import names
from pyvmm.uapi.native import kvm_run

_NAMES = names("KVM_EXIT_")


@dataclass(frozen=True)
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
        if cls.reason in _NAMES:
            cls.kind = _NAMES[cls.reason].removeprefix("KVM_EXIT_").lower()

    @classmethod
    def decode(cls, run: kvm_run) -> Self:
        """Copy the payload out of ``struct kvm_run``, field by field."""
        payload = getattr(run, cls.payload) if cls.payload else None
        return cls(*(_copied(getattr(payload, member.name)) for member in fields(cls)))


def _copied(value: object) -> object:
    return tuple(value) if isinstance(value, ctypes.Array) else value
