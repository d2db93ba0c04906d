# SPDX-License-Identifier: GPL-2.0-only
"""A C struct whose layout is said outright: every member's offset, and the size, in bytes.

::

    class kvm_dirty_log(Struct, size=16):
        slot: u32 = at(0)
        padding1: u32 = at(4)
        dirty_bitmap: ptr = at(8)
        padding2: u64 = at(8)

ctypes' own layout rules are those of the machine it runs on; here they are never asked, so that
arm64's ``struct kvm_run`` is the same on an x86-64 host. Members may share bytes, which is how
unions are written: an anonymous C union or struct is flattened into its parent, as C sees its
members too, and a named union is a Struct whose members all sit at 0. Gaps become padding.

A C member whose name starts with two underscores loses one: Python would mangle it.
"""

import ctypes
import functools
from collections.abc import Iterable, Iterator
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


class Place(NamedTuple):
    """Where a member sits: bytes from the struct's start, and for a bit-field the bits in it."""

    offset: int
    bit: int
    width: int  # 0: not a bit-field


def at(offset: int, bit: int = 0, width: int = 0) -> Any:
    """Place a member `offset` bytes into its struct; a bit-field is `width` bits from `bit`."""
    return Place(offset, bit, width)


class _Member(NamedTuple):
    name: str
    type: Any  # a ctypes type
    place: Place

    @property
    def start(self) -> int:
        return self.place.offset

    @property
    def end(self) -> int:
        return self.place.offset + ctypes.sizeof(self.type)


class _Layout(_StructType):
    """Hands ctypes the fields that a Struct's annotations and offsets ask for.

    A metaclass and not ``__init_subclass__``: ctypes' own metaclass prepares a class for its
    fields only after that hook has run.
    """

    @classmethod
    def __prepare__(mcs, name: str, bases: tuple[type, ...], /, **_: Any) -> dict[str, object]:
        return {"__slots__": ()}  # a misspelled member is an AttributeError, not a new attribute

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
        own = [
            _Member(member, _ctype(annotation), namespace[member])
            for member, annotation in cls.__annotations__.items()
        ]
        cls.members = tuple(dict.fromkeys([*base.members, *(member.name for member in own)]))
        cls.flexible = tuple(member for member in own if member.start == member.end)
        for attribute, value in _ctypes_body(own, ctypes.sizeof(base), size).items():
            setattr(cls, attribute, value)


def _ctype(annotation: Any) -> Any:
    """Return the ctypes type of ``Annotated[int, c_uint32]``, or a struct, which is its own."""
    return annotation.__metadata__[0] if hasattr(annotation, "__metadata__") else annotation


@dataclass_transform(kw_only_default=True)
class Struct(ctypes.Structure, metaclass=_Layout):
    """A C struct. Members are keyword arguments, zero by default: ``kvm_one_reg(id=…, addr=…)``."""

    members: ClassVar[tuple[str, ...]] = ()
    flexible: ClassVar[tuple[_Member, ...]] = ()

    @classmethod
    def with_room(cls, count: int) -> type[Self]:
        """Return this struct with ``count`` elements in its flexible array, as one ctypes type.

        Raises TypeError where the struct has no flexible array.
        """
        return cast(type[Self], _with_room(cls, count))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={_show(getattr(self, name))}" for name in self.members)
        return f"{type(self).__name__}({inside})"


@functools.cache
def _with_room(cls: Any, count: int) -> Any:
    if len(cls.flexible) != 1:
        raise TypeError(f"{cls.__name__} has {len(cls.flexible)} flexible arrays, not one")
    [array] = cls.flexible
    body = {
        "__slots__": (),
        "__annotations__": {array.name: Annotated[Array, array.type._type_ * count]},
        array.name: array.place,
    }
    size = array.start + count * ctypes.sizeof(array.type._type_)
    return _Layout(f"{cls.__name__}[{count}]", (cls,), body, size=size)


def _ctypes_body(members: Iterable[_Member], start: int, end: int) -> dict[str, Any]:
    """Return the ctypes class attributes that place ``members`` between ``start`` and ``end``."""
    fields: list[tuple[Any, ...]] = []
    anonymous: list[str] = []
    here = start
    for group in _overlapping(members):
        if group[0].start > here:
            fields.append((f"_gap_{here}", ctypes.c_uint8 * (group[0].start - here)))
        here = max(member.end for member in group)
        if len(group) == 1 and not group[0].place.width:
            fields.append((group[0].name, group[0].type))
        else:
            anonymous.append(f"_shared_{group[0].start}")
            fields.append((anonymous[-1], _union(group)))
    if end > here:
        fields.append((f"_gap_{here}", ctypes.c_uint8 * (end - here)))
    # Packed, and in Microsoft's order where ctypes knows two: the offsets leave it no choice.
    return {"_pack_": 1, "_layout_": "ms", "_anonymous_": anonymous, "_fields_": fields}


def _overlapping(members: Iterable[_Member]) -> Iterator[list[_Member]]:
    """Group members that share bytes, in the order of their offsets."""
    group: list[_Member] = []
    for member in sorted(members, key=lambda m: (m.start, m.end)):
        if group and member.start >= max(m.end for m in group):
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def _union(group: list[_Member]) -> type[ctypes.Union]:
    """Return a ctypes union in which every member of ``group`` has its place."""
    fields = []
    for member in group:
        offset = member.start - group[0].start
        inside: list[tuple[Any, ...]] = []
        if offset:
            inside.append(("_before", ctypes.c_uint8 * offset))
        if member.place.bit:
            inside.append(("_below", member.type, member.place.bit))
        width = (member.place.width,) if member.place.width else ()
        inside.append((member.name, member.type, *width))
        body = {"_pack_": 1, "_layout_": "ms", "_fields_": inside}
        fields.append((f"_{member.name}", type("_placed", (ctypes.Structure,), body)))
    body = {
        "_pack_": 1,
        "_layout_": "ms",
        "_anonymous_": [name for name, _ in fields],
        "_fields_": fields,
    }
    return type("_shared", (ctypes.Union,), body)


def _show(value: object) -> str:
    if isinstance(value, int):
        return str(value) if -10 < value < 10 else f"{value:#x}"
    if isinstance(value, Array):
        return f"[{', '.join(map(_show, value))}]"
    return repr(value)
