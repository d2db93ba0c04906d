# SPDX-License-Identifier: GPL-2.0-only
"""Read a kernel header for one architecture with libclang, into a `Header`.

A second pass, with one enum per macro, makes the compiler evaluate constants: a macro that is not
an integer is not a constant. The same pass evaluates the numbers of ioctls, so an ioctl whose
argument is defined on another architecture only is left out.
"""

from collections.abc import Iterator
from pathlib import Path

from pyvmm.errors import LackingError
from pyvmm.uapi.fds import ARGUMENTS
from pyvmm.uapi.header_tree import ARCHITECTURES, HeaderTree
from pyvmm.uapi.model import (
    SCALARS,
    Constant,
    Header,
    HeaderError,
    IoctlDefinition,
    Member,
    StructLayout,
)

try:
    from clang import cindex
    from clang.cindex import Cursor, CursorKind, Diagnostic, TranslationUnit, Type, TypeKind
except ImportError:
    raise LackingError(
        "reading kernel headers needs the package libclang: pip install 'pyvmm[headers]'"
    ) from None

_KINDS = {
    **dict.fromkeys((TypeKind.CHAR_S, TypeKind.CHAR_U, TypeKind.UCHAR, TypeKind.BOOL), "u8"),
    TypeKind.SCHAR: "s8",
    TypeKind.SHORT: "s16",
    TypeKind.USHORT: "u16",
    TypeKind.INT: "s32",
    **dict.fromkeys((TypeKind.UINT, TypeKind.ENUM), "u32"),
    **dict.fromkeys((TypeKind.LONG, TypeKind.LONGLONG), "s64"),
    **dict.fromkeys((TypeKind.ULONG, TypeKind.ULONGLONG), "u64"),
    TypeKind.POINTER: "ptr",
}
_IOCTL_MACROS = ("_IO", "_IOR", "_IOW", "_IOWR")

# arm64's asm/kvm.h uses linux/bits.h, and SZ_64K of linux/sizes.h (not installed for user space),
# but includes neither. The headers in a kernel tree use macros of linux/compiler.h.
_INCLUDES = """\
#define SZ_64K 0x10000
#if __has_include(<linux/bits.h>)
#include <linux/bits.h>
#endif
#if __has_include(<linux/compiler.h>)
#include <linux/compiler.h>
#endif
#include <{header}>
"""


def read(tree: HeaderTree, header: str) -> Header:
    """Read `header` ("linux/kvm.h") and its part under ``asm/``, if it has one.

    Raises `HeaderError` if it does not compile or has a member of an unknown type.
    """
    arguments = [
        *("-x", "c", "-std=gnu11", "-nostdinc", "-ferror-limit=0", "-w"),
        f"--target={ARCHITECTURES[tree.architecture][1]}",
        *(f"-I{path}" for path in tree.paths),
    ]
    generated = {str(tree.paths[0] / name): text for name, text in tree.generated.items()}
    includes = _INCLUDES.format(header=header)
    unit = _parse(includes, arguments, generated)
    if errors := _errors(unit):
        raise HeaderError(
            f"{header} in {tree.directory} does not compile for {tree.architecture}: "
            f"{errors[0].spelling} ({errors[0].location.file}:{errors[0].location.line})"
        )
    names = (header, f"asm/{Path(header).name}")
    files = [str(path / name) for name in names for path in tree.paths]
    own = sorted(
        (c for c in unit.cursor.get_children() if str(c.location.file) in files),
        key=lambda c: (files.index(str(c.location.file)), c.location.offset),
    )
    macros = {cursor.spelling: body for cursor in own if (body := _body(cursor))}
    structs = _structs(own)
    values, types = _evaluate(includes, arguments, generated, macros)
    numbers = {name: value for name, value in values.items() if macros[name][0] in _IOCTL_MACROS}
    return Header(
        version=tree.version,
        constants={
            constant.name: constant
            for cursor in own
            for constant in _constants(cursor, macros, values)
            if constant.name not in numbers
        },
        structs=structs,
        ioctls={
            n: IoctlDefinition(n, number, _argument(n, types, structs))
            for n, number in numbers.items()
        },
    )


def _parse(source: str, arguments: list[str], generated: dict[str, str]) -> TranslationUnit:
    return cindex.Index.create().parse(
        "probe.c",
        arguments,
        unsaved_files=[("probe.c", source), *generated.items()],
        options=TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD,
    )


def _errors(unit: TranslationUnit) -> list[Diagnostic]:
    return [d for d in unit.diagnostics if d.severity >= Diagnostic.Error]


def _body(cursor: Cursor) -> list[str]:
    """Return the tokens of a macro's body; empty if the macro takes arguments."""
    if cursor.kind != CursorKind.MACRO_DEFINITION:
        return []
    name, *body = cursor.get_tokens()
    if body and body[0].spelling == "(" and body[0].extent.start.offset == name.extent.end.offset:
        return []
    return [token.spelling for token in body]


def _evaluate(
    includes: str,
    arguments: list[str],
    generated: dict[str, str],
    macros: dict[str, list[str]],
) -> tuple[dict[str, int], dict[str, str]]:
    """Return the value of each macro that is an integer, and the argument type of each ioctl."""
    lines = includes.splitlines()
    for name, body in macros.items():
        lines.append(f"enum {{ value_of_{name} = ({name}) }};")
        if body[0] in _IOCTL_MACROS[1:]:
            *_, argument = " ".join(body[2:-1]).split(",")
            lines.append(f"extern __typeof__({argument}) *argument_of_{name};")
    unit = _parse("\n".join(lines), arguments, generated)
    broken = {error.location.line for error in _errors(unit)}
    values, types = {}, {}
    for cursor in unit.cursor.get_children():
        if cursor.location.line in broken or str(cursor.location.file) != "probe.c":
            continue
        if cursor.kind == CursorKind.ENUM_DECL:
            [member] = cursor.get_children()
            values[member.spelling.removeprefix("value_of_")] = member.enum_value
        elif cursor.kind == CursorKind.VAR_DECL:
            pointee = cursor.type.get_pointee().get_canonical()
            name = cursor.spelling.removeprefix("argument_of_")
            types[name], _ = _type(pointee, {}, name)
    return values, types


def _argument(ioctl: str, types: dict[str, str], structs: dict[str, StructLayout]) -> str | None:
    """Return the type of an ioctl's argument, or None if it takes no pointer to a known type."""
    argument = ARGUMENTS.get(ioctl, types.get(ioctl))
    return argument if argument in structs or argument in SCALARS else None


def _constants(
    cursor: Cursor, macros: dict[str, list[str]], values: dict[str, int]
) -> Iterator[Constant]:
    """Yield the constants that a macro or an enum defines."""
    if cursor.kind == CursorKind.ENUM_DECL:
        for member in cursor.get_children():
            text = "".join(token.spelling for token in member.get_tokens())
            yield Constant(member.spelling, member.enum_value, text.partition("=")[2])
    elif cursor.spelling in values and cursor.kind == CursorKind.MACRO_DEFINITION:
        yield Constant(cursor.spelling, values[cursor.spelling], "".join(macros[cursor.spelling]))


def _structs(own: list[Cursor]) -> dict[str, StructLayout]:
    """Return every defined struct, after the structs of its members."""
    structs: dict[str, StructLayout] = {}
    for cursor in own:
        record = cursor.kind in (CursorKind.STRUCT_DECL, CursorKind.UNION_DECL)
        if record and cursor.is_definition() and cursor.spelling.isidentifier():
            _struct(cursor.type, structs, cursor.spelling)
    return structs


def _struct(record: Type, structs: dict[str, StructLayout], name: str) -> None:
    if name not in structs:
        members = tuple(_members(record, structs, name, 0))
        structs[name] = StructLayout(name, record.get_size(), members)


def _members(
    record: Type, structs: dict[str, StructLayout], name: str, base: int
) -> Iterator[Member]:
    for cursor in record.get_fields():
        member, bits = cursor.spelling, cursor.get_field_offsetof()
        if not member.isidentifier():  # anonymous: its members are the parent's
            yield from _members(cursor.type, structs, name, base + bits // 8)
        elif cursor.is_bitfield():
            kind, _ = _type(cursor.type.get_canonical(), structs, member)
            unit = 8 * cursor.type.get_size()
            offset, bit = base + bits // unit * unit // 8, bits % unit
            yield Member(member, kind, (), offset, bit, cursor.get_bitfield_width())
        elif not member.startswith("__empty_"):  # of linux/stddef.h's __DECLARE_FLEX_ARRAY
            kind, counts = _type(cursor.type.get_canonical(), structs, f"{name}_{member}")
            yield Member(member, kind, counts, base + bits // 8)


def _type(
    type: Type, structs: dict[str, StructLayout], unnamed: str
) -> tuple[str, tuple[int, ...]]:
    """Return a canonical type's name and its array lengths; add its struct to `structs`."""
    if type.kind in (TypeKind.CONSTANTARRAY, TypeKind.INCOMPLETEARRAY):
        count = type.element_count if type.kind == TypeKind.CONSTANTARRAY else 0
        name, counts = _type(type.element_type.get_canonical(), structs, unnamed)
        return name, (count, *counts)
    if type.kind == TypeKind.RECORD:
        declaration = type.get_declaration()
        name = unnamed if declaration.is_anonymous() else declaration.spelling
        _struct(type, structs, name)
        return name, ()
    if type.kind == TypeKind.UINT128:
        return "u8", (16,)
    if type.kind not in _KINDS:
        raise HeaderError(
            f"{unnamed} has the type {type.spelling}, which pyvmm.uapi.headers does not know"
        )
    return _KINDS[type.kind], ()
