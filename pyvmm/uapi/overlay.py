# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's own headers, loaded at run time over the built-in definitions.

::

    overlay.load(Path("~/linux").expanduser())
    kvm.KVM_CAP_FOO, kvm.KVM_SET_FOO, kvm.kvm_foo       # of pyvmm.uapi.kvm, by name, at once

What the headers have otherwise than the built-in definitions is defined anew, wherever in pyvmm
it was imported to before. What they lack stays: an older tree takes nothing away, a struct that
both can have has the members of both. Only what would pull a layout from under pyvmm's own code
is refused.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pyvmm.uapi import emit, sets
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.diff import Change, places, struct_changes
from pyvmm.uapi.model import Header, HeaderError, Struct
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import architecture
from pyvmm.uapi.sets import HeaderSet
from pyvmm.uapi.text import words

_SOURCES = Path(__file__).parents[1]


def load(place: Path) -> HeaderSet:
    """Load the headers of this machine's architecture; returns all that they say.

    `place` is a directory (see `pyvmm.uapi.header_tree`), or a file from `pyvmm.uapi.sets.path_of`.
    Raises `HeaderError` where there are no headers, they do not compile, or a struct that pyvmm's
    own code uses has another layout; nothing is loaded then. `LackingError`: see
    `pyvmm.uapi.sets.of`.
    """
    loaded, present = sets.of(place, architecture), builtin(architecture)
    news = {}
    for module, header in loaded.headers.items():
        news[module], incompatible = _news(present.headers[module], header)
        for change in incompatible:
            if users := _users(change):
                raise HeaderError(
                    f"{place}: {change.name} is {words(change.after)}, and {users[0]} is made for "
                    f"{words(change.before)}: take a pyvmm of that kernel's headers, or keep the "
                    "layout and let the struct grow where it has padding"
                )
    for module, new in news.items():
        _define(module, new)
    names.cache_clear()
    return loaded


def _users(change: Change) -> list[str]:
    """The files of pyvmm that name a struct, and the member if it is about one."""
    found = []
    for path in sorted(_SOURCES.rglob("*.py")):
        if path.parent != Path(__file__).parent:
            text = path.read_text()
            if all(re.search(rf"\b{name}\b", text) for name in change.name.split(".")):
                found.append(str(path.relative_to(_SOURCES.parent)))
    return found


def _news(present: Header, header: Header) -> tuple[Header, list[Change]]:
    """What a header has otherwise than present, and which layouts cannot be had together."""
    where = places(header)
    structs: dict[str, Struct] = {}
    incompatible: list[Change] = []
    for name, each in header.structs.items():  # what a struct is made of comes before it
        old, new = present.structs.get(name), _as_built_in(each)
        if old is not None and old != new:
            changes = _incompatible(old, new, present, header, where.get(name, name))
            incompatible += changes
            new = new if changes else _both(old, new)
        if old != new or any(member.type in structs for member in new.members):
            structs[name] = new
    new_header = Header(
        version=header.version,
        constants={n: c for n, c in header.constants.items() if present.constants.get(n) != c},
        structs=structs,
        ioctls={
            name: ioctl
            for name, ioctl in header.ioctls.items()
            if present.ioctls.get(name) != ioctl or ioctl.argument in structs
        },
    )
    return new_header, incompatible


def _incompatible(
    old: Struct, new: Struct, present: Header, header: Header, place: str
) -> list[Change]:
    """The changes after which neither of two layouts is the other with something added."""
    forwards = struct_changes(old, new, present, header, place)
    backwards = struct_changes(new, old, header, present, place)
    broken = {change.name for change in backwards if change.breaking}
    return [
        change
        for change in forwards
        if change.change == "changed" and change.breaking and change.name in broken
    ]


def _as_built_in(struct: Struct) -> Struct:
    """A struct as `pyvmm.uapi.builtin` would return it."""
    members = []
    for member in struct.members:
        name, kind = emit.member_name(member), "u64" if member.type == "ptr" else member.type
        same = (name, kind) == (member.name, member.type)
        members.append(member if same else replace(member, name=name, type=kind))
    return replace(struct, members=tuple(members))


def _both(old: Struct, new: Struct) -> Struct:
    """A struct with the members of both; those of one name are where the new one has them."""
    have = {member.name for member in new.members}
    members = (*new.members, *(member for member in old.members if member.name not in have))
    ordered = sorted(members, key=lambda member: (member.offset, member.bit))
    return Struct(new.name, max(old.size, new.size), tuple(ordered))


def _define(module: str, header: Header) -> None:
    """Give a header's names to its modules, and to all of pyvmm that imported them from there."""
    homes = [import_module(f"pyvmm.uapi.{module}")]
    if module == "kvm":
        homes.append(import_module(f"pyvmm.uapi.kvm_{architecture}"))
    namespace: dict[str, Any] = {}
    for home in homes:
        namespace |= vars(home)
    before = dict(namespace)
    namespace["__name__"] = homes[0].__name__
    exec(emit.source(header, f"{sets.MODULES[module]} of Linux {header.version}."), namespace)
    for name in (*header.constants, *header.structs, *header.ioctls):
        for each in _holders(name, before[name]) if name in before else homes:
            setattr(each, name, namespace[name])


def _holders(name: str, value: object) -> Iterator[Any]:
    for title, module in list(sys.modules.items()):
        if title.startswith("pyvmm.") and vars(module).get(name) is value:
            yield module
