# SPDX-License-Identifier: GPL-2.0-only
"""Exits without a class of their own.

These are the exits of other architectures, those that only headers loaded at run time name
(`pyvmm.uapi.overlay`), and those that no header names.
"""

from dataclasses import dataclass, make_dataclass
from typing import Any, Self

from pyvmm.kvm.exits.base import Exit
from pyvmm.uapi import kvm as uapi
from pyvmm.uapi.layout import Struct
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import kvm_run, module


@dataclass(frozen=True)
class Unknown(Exit):
    """``KVM_EXIT_UNKNOWN``, or an exit reason that the headers do not name.

    `number` is ``exit_reason``, `raw` the 256 bytes of the union in ``struct kvm_run``.
    """

    reason = uapi.KVM_EXIT_UNKNOWN
    number: int
    raw: bytes

    @classmethod
    def of(cls, run: kvm_run) -> Self:
        """Copy the exit reason and the whole union."""
        return cls(run.exit_reason, bytes(run.padding))


def exit_of(reason: int) -> type[Exit]:
    """Return a class for an exit reason: ``KVM_EXIT_FOO`` with the fields of ``kvm_run.foo``.

    Return a subclass of `Unknown` if ``struct kvm_run`` has no struct of that name, and `Unknown`
    itself if the headers do not name `reason`.
    """
    if (name := names("KVM_EXIT_").get(reason)) is None:
        return Unknown
    payload = name.removeprefix("KVM_EXIT_").lower()
    title = payload.title().replace("_", "")
    layout = module.kvm_run.__annotations__.get(payload)
    if not (isinstance(layout, type) and issubclass(layout, Struct)):
        return type(title, (Unknown,), {"reason": reason})
    return make_dataclass(
        title,
        [(member, Any) for member in layout.members],
        bases=(Exit,),
        frozen=True,
        namespace={"__module__": __name__, "reason": reason, "payload": payload},
    )
