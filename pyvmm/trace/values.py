# SPDX-License-Identifier: GPL-2.0-only
"""Convert C structs into JSON values, and name the numbers in them.

A struct becomes a dict of its members, bytes become a hex string, other arrays become lists. A
named union becomes the hex string of its bytes, because only `pyvmm.trace.ioctl_decode` knows
which member is valid. Padding that is zero is omitted.
"""

import ctypes
from collections.abc import Iterator
from typing import Any

from pyvmm.trace.symbols import symbol_of
from pyvmm.uapi.layout import Struct

Value = int | str | list["Value"] | dict[str, "Value"]
Values = dict[str, Value]
Names = dict[str, str]  # the symbolic name of a number, by its path: "entries[2].type"

# Members that hold the element count of a flexible array. The first one that exists is used.
_COUNTS = ("nmsrs", "nent", "nr", "n", "nevents", "len", "count", "nr_ranges")
_MAX_ELEMENTS = 4096  # no table in the headers is longer
_MAX_DEPTH = 32  # no struct in the headers is nested deeper


def struct_size(kind: type[Any], data: bytes) -> int:
    """Return the size in bytes of a struct with the flexible array that `data` announces."""
    size = ctypes.sizeof(kind)
    if (array := _flexible(kind)) and len(data) >= size:
        _, offset, element = array
        return max(size, offset + _count(kind, data) * ctypes.sizeof(element))
    return size


def struct_values(kind: type[Any], data: bytes, names: Names, prefix: str = "") -> Values:
    """Return the members of struct `kind` that `data` contains completely.

    Symbolic names are added to `names`, with `prefix` before each path.
    """
    padded = data.ljust(ctypes.sizeof(kind), b"\0")
    struct = kind.from_buffer_copy(padded)
    values: Values = {}
    for name in kind.members:
        field = getattr(kind, name)
        value = getattr(struct, name)
        end = field.offset + _size(field)
        if end > len(data):
            break
        if field.size == 0 or (_is_padding(name) and not any(padded[field.offset : end])):
            continue
        if isinstance(value, int):
            if name.endswith("fd"):  # some are __u32
                value = ctypes.c_int(value).value
            values[name] = value
            if symbol := symbol_of(f"{kind.__name__}.{name}", value):
                names[f"{prefix}{name}"] = symbol
        else:
            values[name] = _nested(value, names, f"{prefix}{name}")
    if array := _flexible(kind):
        name, offset, element = array
        elements = _elements(element, data, offset, _count(kind, data))
        if element is ctypes.c_uint8:
            values[name] = bytes(data[offset:]).hex()
        else:
            values[name] = [
                _element(element, item, names, f"{prefix}{name}[{i}].")
                for i, item in enumerate(elements)
            ]
    return values


def is_value(value: object, depth: int = 0) -> bool:
    """Return True if a JSON value is a `Value`, with no more nesting than a C struct has."""
    if isinstance(value, dict | list) and depth < _MAX_DEPTH:
        elements = value.values() if isinstance(value, dict) else value
        return all(is_value(each, depth + 1) for each in elements)
    return isinstance(value, int | str)


def int_member(values: Values, name: str) -> int:
    """Return member `name` if it is an integer, else 0."""
    value = values.get(name)
    return value if isinstance(value, int) else 0


def is_union(kind: type[Any]) -> bool:
    """Return True if `kind` is a C union: it has several members, all at offset 0."""
    return len(kind.members) > 1 and not any(getattr(kind, m).offset for m in kind.members)


def _nested(value: Any, names: Names, path: str) -> Value:
    if isinstance(value, Struct):
        if is_union(type(value)):
            return bytes(value).hex()
        return struct_values(type(value), bytes(value), names, f"{path}.")
    if value._type_ in (ctypes.c_uint8, ctypes.c_int8, ctypes.c_char):
        return bytes(value).hex()
    return [
        item if isinstance(item, int) else _nested(item, names, f"{path}[{i}]")
        for i, item in enumerate(value)
    ]


def _flexible(kind: type[Any]) -> tuple[str, int, Any] | None:
    """Return the name, offset and element type of a struct's flexible array, or None."""
    for name in reversed(kind.members):
        field = getattr(kind, name)
        if field.size == 0 and isinstance(array := getattr(kind(), name), ctypes.Array):
            return name, field.offset, array._type_
    return None


def _count(kind: type[Any], data: bytes) -> int:
    struct = kind.from_buffer_copy(data.ljust(ctypes.sizeof(kind), b"\0"))
    array = _flexible(kind)
    if array and array[2] is ctypes.c_uint8 and "argsz" in kind.members:
        # vfio's argsz is the size of the struct and its array in bytes
        return min(max(int(struct.argsz) - array[1], 0), _MAX_ELEMENTS)
    for name in _COUNTS:
        if name in kind.members:
            return min(int(getattr(struct, name)), _MAX_ELEMENTS)
    return 0


def _elements(kind: Any, data: bytes, offset: int, count: int) -> Iterator[bytes]:
    size = ctypes.sizeof(kind)
    for at in range(offset, min(offset + count * size, len(data) - size + 1), size):
        yield data[at : at + size]


def _element(kind: Any, data: bytes, names: Names, prefix: str) -> Value:
    if issubclass(kind, Struct):
        return struct_values(kind, data, names, prefix)
    return int.from_bytes(data, "little")


def _size(field: Any) -> int:
    """Return the size of a member in bytes; ctypes keeps a bit-field's width above bit 16."""
    size: int = field.size
    return size if size < 1 << 16 else 1


def _is_padding(name: str) -> bool:
    return name.startswith(("pad", "reserved", "_reserved", "_pad"))
