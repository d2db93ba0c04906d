# SPDX-License-Identifier: GPL-2.0-only
"""What every exit has: a reason, a kind by name, and a way out of ``struct kvm_run``."""

import ctypes
from dataclasses import dataclass
from typing import ClassVar, Self

from pyvmm.uapi.names import names
from pyvmm.uapi.native import kvm_run

from pyvmm.uapi import kvm as uapi

EXIT_NAMES = names(uapi, "KVM_EXIT_")


@dataclass(frozen=True)
class Exit:
    """One return from ``KVM_RUN``."""

    reason: ClassVar[int]  # KVM_EXIT_*
    payload: ClassVar[str] = ""  # the member of struct kvm_run's union, "" where there is none

    @classmethod
    def decode(cls, run: kvm_run) -> Self:
        """Copy the payload out of ``struct kvm_run``, field by field."""
        payload = getattr(run, cls.payload) if cls.payload else None
        return cls(*(_copied(getattr(payload, field)) for field in cls.__match_args__))

    @property
    def kind(self) -> str:
        """The exit's name as JSON and tables count it: ``mmio`` for ``KVM_EXIT_MMIO``."""
        return EXIT_NAMES[self.reason].removeprefix("KVM_EXIT_").lower()


def _copied(value: object) -> object:
    return tuple(value) if isinstance(value, ctypes.Array) else value
