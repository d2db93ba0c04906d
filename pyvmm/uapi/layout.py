# SPDX-License-Identifier: GPL-2.0-only
"""C structs with explicit layouts: every member's offset, and the size, in bytes.

::

    class kvm_dirty_log(Struct, size=16):
        slot: u32 = at(0)
        padding1: u32 = at(4)
        dirty_bitmap: ptr = at(8)
        padding2: u64 = at(8)

ctypes would apply the layout rules of the machine it runs on. They are not used, so that arm64's
``struct kvm_run`` is the same on an x86-64 host. Members of a union share bytes. The members of an
anonymous C union or struct are members of its parent, as in C; a named union is a Struct whose
members are all at offset 0. Gaps become padding.

A C member whose name starts with two underscores loses one, because Python would mangle it.
"""

import ctypes
import functools
import types
from ctypes import Array
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    Self,
    cast,
    dataclass_transform,
)

if TYPE_CHECKING:
    from _ctypes import _PyCStructType as _StructType
else:
    _StructType = type(ctypes.Structure)

u8 = Annotated[int, ctypes.c_uint8]
u16 = Annotated[int, ctypes.c_uint16]
u32 = Annotated[int, ctypes.c_uint32]
u64 = Annotated[int, ctypes.c_uint64]
s8 = Annotated[int, ctypes.c_int8]
s16 = Annotated[int, ctypes.c_int16]
s32 = Annotated[int, ctypes.c_int32]
s64 = Annotated[int, ctypes.c_int64]
ptr = Annotated[int, ctypes.c_uint64]  # an address in this process (HVA)

# No implicit padding. Python 3.14 requires _layout_ with _pack_.
_PACKED: dict[str, Any] = {"_pack_": 1, "_layout_": "ms"}


def at(offset: int, bit: int = 0, width: int = 0) -> Any:
    """Place a member `offset` bytes into its struct; a bit-field is `width` bits from `bit`."""
    return offset, bit, width


class _Member(NamedTuple):
    start: int  # bytes from the struct's start
    end: int
    name: str
    type: Any  # a ctypes type
    bit: int
    width: int


class _Layout(_StructType):
    """A metaclass that sets ``_fields_`` from a Struct's annotations and offsets.

    ``__init_subclass__`` would run before ctypes' own metaclass has prepared the class for fields.
    """

    @classmethod
    def __prepare__(mcs, name: str, bases: tuple[type, ...], /, **_: Any) -> dict[str, object]:
        # Without a __dict__ a misspelled member is an AttributeError, not a new attribute.
        return {"__slots__": (), **_PACKED}

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], size: int = 0
    ) -> Any:
        return super().__new__(mcs, name, bases, namespace)

    def __init__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], size: int = 0
    ) -> None:
        super().__init__(name, bases, namespace)
        base: Any = bases[0]
        if base is ctypes.Structure:
            return
        own = []
        for member, annotation in cls.__annotations__.items():
            kind = _ctype(annotation)
            start, bit, width = namespace[member]
            own.append(_Member(start, start + ctypes.sizeof(kind), member, kind, bit, width))
        cls.members = tuple(dict.fromkeys([*base.members, *cls.__annotations__]))
        fields, anonymous = _fields(own, ctypes.sizeof(base), size)
        if anonymous:
            cls._anonymous_ = anonymous
        cls._fields_ = fields


def _ctype(annotation: Any) -> Any:
    """Return the ctypes type of ``Annotated[int, c_uint32]``; a struct is its own ctypes type."""
    return annotation.__metadata__[0] if hasattr(annotation, "__metadata__") else annotation


def _fields(members: list[_Member], offset: int, size: int) -> tuple[list[Any], list[str]]:
    """Return ctypes' fields from byte `offset` to `size`, and the names of the anonymous ones."""
    fields: list[tuple[str, Any]] = []
    anonymous: list[str] = []
    for start, end, group in _overlapping(members):
        if start > offset:
            fields.append((f"_gap_{offset}", ctypes.c_uint8 * (start - offset)))
        offset = end
        if len(group) == 1 and not group[0].width:
            fields.append((group[0].name, group[0].type))
        else:
            anonymous.append(f"_shared_{start}")
            fields.append((anonymous[-1], _union(group)))
    if size > offset:
        fields.append((f"_gap_{offset}", ctypes.c_uint8 * (size - offset)))
    return fields, anonymous


def _overlapping(members: list[_Member]) -> list[tuple[int, int, list[_Member]]]:
    """Return the groups of members that share bytes, each with its start and end in bytes."""
    groups: list[tuple[int, int, list[_Member]]] = []
    end = -1
    for member in sorted(members):
        if member.start >= end:
            groups.append((member.start, member.end, [member]))
            end = member.end
        else:
            start, _, group = groups[-1]
            end = max(end, member.end)
            groups[-1] = (start, end, [*group, member])
    return groups


def _union(group: list[_Member]) -> type[ctypes.Union]:
    """Return a ctypes union of the members of `group`, each at its offset."""
    fields: list[tuple[str, Any]] = []
    anonymous: list[str] = []
    for member in group:
        if member.start > group[0].start or member.width:
            anonymous.append(f"_of_{member.name}")
            fields.append((anonymous[-1], _placed(member, member.start - group[0].start)))
        else:
            fields.append((member.name, member.type))
    body = _PACKED | {"_anonymous_": anonymous, "_fields_": fields}
    return type("_shared", (ctypes.Union,), body)


def _placed(member: _Member, before: int) -> type[ctypes.Structure]:
    """Return a ctypes struct that holds one member, `before` bytes and its bits from the start."""
    fields: list[tuple[Any, ...]] = [("_before", ctypes.c_uint8 * before)]
    if member.bit:
        fields.append(("_below", member.type, member.bit))
    width = (member.width,) if member.width else ()
    fields.append((member.name, member.type, *width))
    return type("_placed", (ctypes.Structure,), _PACKED | {"_fields_": fields})


@dataclass_transform(kw_only_default=True)
class Struct(ctypes.Structure, metaclass=_Layout):
    """A C struct. Members are keyword arguments, zero by default: ``kvm_one_reg(id=…, addr=…)``."""

    members: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def with_room(cls, count: int) -> type[Self]:
        """Return a subclass of this struct with `count` elements in its flexible array.

        Raises `TypeError` if the struct does not have exactly one flexible array.
        """
        return cast(type[Self], _with_room(cls, count))

    def __repr__(self) -> str:
        """Return the struct's name with all members."""
        inside = ", ".join(f"{name}={_show(getattr(self, name))}" for name in self.members)
        return f"{type(self).__name__}({inside})"


@functools.cache
def _with_room(cls: type[Struct], count: int) -> type[Struct]:
    flexible = [name for name in cls.members if getattr(cls, name).size == 0]
    if len(flexible) != 1:
        raise TypeError(f"struct {cls.__name__} has {len(flexible)} flexible arrays, not one")
    [name] = flexible
    element = _ctype(cls.__annotations__[name])._type_
    offset = getattr(cls, name).offset
    body = {
        "__module__": cls.__module__,
        "__annotations__": {name: Annotated[Array, element * count]},
        name: at(offset),
    }
    return types.new_class(
        f"{cls.__name__}[{count}]",
        (cls,),
        {"size": offset + count * ctypes.sizeof(element)},
        lambda namespace: namespace.update(body),
    )


def extend(struct: type[Struct], more: type[Struct]) -> None:
    """Add the members of `more` to `struct`, at their offsets. They must lie within its size."""
    for name in more.members:
        setattr(struct, name, getattr(more, name))
    struct.__annotations__ |= more.__annotations__
    struct.members += more.members


def _show(value: object) -> str:
    if isinstance(value, int):
        return str(value) if -10 < value < 10 else f"{value:#x}"
    if isinstance(value, Array):
        if not any(bytes(value)):  # padding, most often
            return f"[0] * {len(value)}"
        return f"[{', '.join(map(_show, value))}]"
    return repr(value)
