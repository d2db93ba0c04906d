# SPDX-License-Identifier: GPL-2.0-only
"""Exits that only headers loaded at run time know (`pyvmm.uapi.overlay`), by name and by field."""

from dataclasses import make_dataclass
from typing import Any

from pyvmm.kvm.exits.base import Exit
from pyvmm.kvm.exits.end_of_run import Unknown
from pyvmm.uapi.layout import Struct
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import module


def exit_of(reason: int) -> type[Exit]:
    """Return a class for an exit reason: ``KVM_EXIT_FOO`` with the fields of ``kvm_run.foo``.

    It is an `Unknown` where ``struct kvm_run`` has no struct of that name, and `Unknown` itself
    where the headers do not name the reason.
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
