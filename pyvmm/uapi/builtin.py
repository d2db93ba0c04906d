# SPDX-License-Identifier: GPL-2.0-only
"""The generated modules as the header set that they were generated from.

Two details of the headers are lost: a pointer is a u64, and a member that `pyvmm.uapi.layout`
renames has its Python name.
"""

import ctypes
import functools
import importlib
import re
from typing import Any

from pyvmm.uapi import kvm
from pyvmm.uapi.header_set import MODULES, HeaderSet
from pyvmm.uapi.ioctl_number import Ioctl
from pyvmm.uapi.layout import Struct
from pyvmm.uapi.model import Constant, Header, IoctlDefinition, Member, StructLayout

_SCALARS: dict[Any, str] = {
    getattr(ctypes, f"c_{c}{bits}"): f"{sign}{bits}"
    for sign, c in (("u", "uint"), ("s", "int"))
    for bits in (8, 16, 32, 64)
}


def version() -> str:
    """Return the kernel release of the built-in definitions: "7.2"."""
    said = re.search(r"of Linux (\d+\.\d+)", kvm.__doc__ or "")
    assert said
    return said[1]


@functools.cache
def builtin(architecture: str) -> HeaderSet:
    """Return the definitions of the generated modules for one architecture.

    Cached, so that it never contains the names that `pyvmm.uapi.overlay` adds later.
    """
    headers = {}
    for module in MODULES:
        values = dict(vars(importlib.import_module(f"pyvmm.uapi.{module}")))
        if module == "kvm":
            values |= vars(importlib.import_module(f"pyvmm.uapi.kvm_{architecture}"))
        headers[module] = _header(values)
    return HeaderSet(version(), architecture, headers)


def _header(values: dict[str, Any]) -> Header:
    constants, structs, ioctls = {}, {}, {}
    for name, value in values.items():
        if type(value) is int:
            constants[name] = Constant(name, value, str(value))
        elif isinstance(value, Ioctl):
            argument = _name(value.argument) if value.argument else None
            ioctls[name] = IoctlDefinition(name, int(value), argument)
        elif isinstance(value, type) and issubclass(value, Struct) and value is not Struct:
            structs[name] = layout(value)
    return Header(version(), constants, structs, ioctls)


def layout(struct: type[Struct]) -> StructLayout:
    """Return the layout of a struct class."""
    members = tuple(_member(struct, name) for name in struct.members)
    return StructLayout(struct.__name__, ctypes.sizeof(struct), members)


def _member(struct: type[Struct], name: str) -> Member:
    place = getattr(struct, name)
    kind = struct.__annotations__[name]
    kind = kind.__metadata__[0] if hasattr(kind, "__metadata__") else kind
    counts = []
    while issubclass(kind, ctypes.Array):
        counts.append(kind._length_)
        kind = kind._type_
    # For a bit-field, ctypes has its width in the upper half of `size`, its first bit in the lower.
    bits = (place.size & 0xFFFF, place.size >> 16) if kind in _SCALARS and not counts else (0, 0)
    return Member(name, _name(kind), tuple(counts), place.offset, *(bits if bits[1] else (0, 0)))


def _name(kind: type[Any]) -> str:
    return _SCALARS.get(kind) or kind.__name__
