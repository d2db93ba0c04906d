# SPDX-License-Identifier: GPL-2.0-only
"""A writer of flattened device trees (Devicetree Specification 0.4, chapter 5)."""

import struct
from collections.abc import Iterable, Mapping, Sequence

# A string, several strings, 32-bit cells, bytes, or () for a property without a value.
Value = str | bytes | int | Sequence[int] | Sequence[str]

_MAGIC = 0xD00DFEED
_VERSION, _COMPATIBLE_VERSION = 17, 16
_BEGIN_NODE, _END_NODE, _PROP, _END = 1, 2, 3, 9
_HEADER = struct.Struct(">10I")
_END_OF_RESERVATIONS = bytes(16)


class Node:
    """A node: a name, properties in their order, and child nodes."""

    def __init__(
        self, name: str, properties: Mapping[str, Value], children: Iterable["Node"] = ()
    ) -> None:
        """Create a node; the name of the root is empty."""
        self._name = name
        self._properties = {key: _encode(value) for key, value in properties.items()}
        self._children = tuple(children)

    def to_bytes(self) -> bytes:
        """Return the blob of the tree whose root this node is."""
        strings: dict[str, int] = {}
        structure = self._structure(strings) + _cell(_END)
        names = b"".join(_text(name) for name in strings)
        at_structure = _HEADER.size + len(_END_OF_RESERVATIONS)
        at_strings = at_structure + len(structure)
        header = _HEADER.pack(
            *(_MAGIC, at_strings + len(names), at_structure, at_strings, _HEADER.size),
            *(_VERSION, _COMPATIBLE_VERSION, 0, len(names), len(structure)),
        )
        return header + _END_OF_RESERVATIONS + structure + names

    def _structure(self, strings: dict[str, int]) -> bytes:
        """Return the node's tokens; append new property names to `strings`, with their offsets."""
        parts = [_cell(_BEGIN_NODE), _padded(_text(self._name))]
        for name, value in self._properties.items():
            offset = strings.setdefault(name, sum(len(other) + 1 for other in strings))
            parts += [_cell(_PROP), _cell(len(value)), _cell(offset), _padded(value)]
        parts += [child._structure(strings) for child in self._children]
        return b"".join([*parts, _cell(_END_NODE)])


def quad(*values: int) -> tuple[int, ...]:
    """Return 64-bit values as pairs of cells."""
    return tuple(cell for value in values for cell in (value >> 32, value & 0xFFFF_FFFF))


def _encode(value: Value) -> bytes:
    if isinstance(value, bytes):
        return value
    values = (value,) if isinstance(value, str | int) else value
    return b"".join(_text(each) if isinstance(each, str) else _cell(each) for each in values)


def _text(text: str) -> bytes:
    return text.encode() + b"\0"


def _cell(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
