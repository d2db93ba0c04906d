# SPDX-License-Identifier: GPL-2.0-only
"""C structs as plain values that JSON can hold, and the names of the numbers among them.

A struct becomes a dict of its members, bytes become hex text, other arrays lists. A named union
becomes the hex of its bytes: which member holds is for `pyvmm.trace.details` to know. Padding
that is zero is left out.
"""

import ctypes
from collections.abc import Iterator
from typing import Any

from pyvmm.trace.symbols import symbol_of
from pyvmm.uapi.layout import Struct

Value = int | str | list["Value"] | dict[str, "Value"]
Values = dict[str, Value]
Names = dict[str, str]  # the name of a number, by its place: "entries[2].type"

# How many elements a struct's flexible array has is said by the first of these that it has.
_COUNTS = ("nmsrs", "nent", "nr", "n", "nevents", "len", "count", "nr_ranges")
_MOST = 4096  # elements: no table of the headers is longer


def size_of(kind: type[Any], data: bytes) -> int:
    """The bytes that a struct takes with its flexible array, by the count that `data` holds."""
    size = ctypes.sizeof(kind)
    if (array := _flexible(kind)) and len(data) >= size:
        _, offset, element = array
        return max(size, offset + _count(kind, data) * ctypes.sizeof(element))
    return size


def plain(kind: type[Any], data: bytes, names: Names, at: str = "") -> Values:
    """The members of a `kind` that `data` holds whole; puts their names into `names`."""
    here = data.ljust(ctypes.sizeof(kind), b"\0")
    struct = kind.from_buffer_copy(here)
    values: Values = {}
    for name in kind.members:
        field = getattr(kind, name)
        value = getattr(struct, name)
        end = field.offset + _size(field)
        if end > len(data):
            break
        if field.size == 0 or (_is_padding(name) and not any(here[field.offset : end])):
            continue
        if isinstance(value, int):
            values[name] = value
            if symbol := symbol_of(f"{kind.__name__}.{name}", value):
                names[f"{at}{name}"] = symbol
        else:
            values[name] = _nested(value, names, f"{at}{name}")
    if array := _flexible(kind):
        name, offset, element = array
        elements = _elements(element, data, offset, _count(kind, data))
        if element is ctypes.c_uint8:
            values[name] = bytes(data[offset:]).hex()
        else:
            values[name] = [
                _element(element, item, names, f"{at}{name}[{i}].")
                for i, item in enumerate(elements)
            ]
    return values


def number_of(values: Values, name: str) -> int:
    """A member that is a number; 0 where it is missing, or something else."""
    value = values.get(name)
    return value if isinstance(value, int) else 0


def is_union(kind: type[Any]) -> bool:
    """Is this struct a C union: do all members, two or more, begin at its start?"""
    return len(kind.members) > 1 and not any(getattr(kind, m).offset for m in kind.members)


def _nested(value: Any, names: Names, at: str) -> Value:
    if isinstance(value, Struct):
        if is_union(type(value)):
            return bytes(value).hex()
        return plain(type(value), bytes(value), names, f"{at}.")
    if value._type_ in (ctypes.c_uint8, ctypes.c_int8, ctypes.c_char):
        return bytes(value).hex()
    return [
        item if isinstance(item, int) else _nested(item, names, f"{at}[{i}]")
        for i, item in enumerate(value)
    ]


def _flexible(kind: type[Any]) -> tuple[str, int, Any] | None:
    """The name, offset and element type of a struct's flexible array."""
    for name in reversed(kind.members):
        field = getattr(kind, name)
        if field.size == 0 and isinstance(array := getattr(kind(), name), ctypes.Array):
            return name, field.offset, array._type_
    return None


def _count(kind: type[Any], data: bytes) -> int:
    struct = kind.from_buffer_copy(data.ljust(ctypes.sizeof(kind), b"\0"))
    array = _flexible(kind)
    if array and array[2] is ctypes.c_uint8 and "argsz" in kind.members:
        return min(max(int(struct.argsz) - array[1], 0), _MOST)  # vfio's: the whole size in bytes
    for name in _COUNTS:
        if name in kind.members:
            return min(int(getattr(struct, name)), _MOST)
    return 0


def _elements(kind: Any, data: bytes, offset: int, count: int) -> Iterator[bytes]:
    size = ctypes.sizeof(kind)
    for at in range(offset, min(offset + count * size, len(data) - size + 1), size):
        yield data[at : at + size]


def _element(kind: Any, data: bytes, names: Names, at: str) -> Value:
    if issubclass(kind, Struct):
        return plain(kind, data, names, at)
    return int.from_bytes(data, "little")


def _size(field: Any) -> int:
    """Bytes of a member; a bit-field's `size` has its width in bits above bit 16."""
    size: int = field.size
    return size if size < 1 << 16 else 1


def _is_padding(name: str) -> bool:
    return name.startswith(("pad", "reserved", "_reserved", "_pad"))
