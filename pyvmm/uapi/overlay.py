# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's own headers, whose new names are added to the built-in definitions at run time.

::

    overlay.load(Path("~/linux").expanduser())
    kvm.KVM_CAP_FOO, kvm.KVM_SET_FOO, kvm.kvm_foo       # all in pyvmm.uapi.kvm

Added are constants, ioctls, structs, and members of built-in structs that lie within the struct's
built-in size: a member in former padding, or one more exit in the union of ``struct kvm_run``.

Everything else stays as built in: names that the headers lack, and structs and bounds that differ
only because one side has more. A layout or a value that contradicts the built-in one is rejected,
because pyvmm may use it. One exception: constants of headers that are older than the built-in
ones. There the kernel changed the value, and pyvmm follows the newer kernel.
"""

import functools
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pyvmm.uapi import emit, header_set
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.definition_text import words
from pyvmm.uapi.header_diff import contradictions, struct_changes
from pyvmm.uapi.header_set import HeaderSet
from pyvmm.uapi.header_tree import ARCHITECTURES
from pyvmm.uapi.layout import extend
from pyvmm.uapi.model import Header, HeaderError, Member, StructLayout, size_of
from pyvmm.uapi.names import names
from pyvmm.uapi.native_arch import architecture


@functools.cache
def load(place: Path) -> HeaderSet:
    """Load the headers of this machine's architecture and return all that they define.

    `place` is a directory (see `pyvmm.uapi.header_tree`), or a file that
    `pyvmm.uapi.header_set.cache_file` returned. Loading it again has no effect. Raises
    `HeaderError`, and loads nothing, if there are no headers, if they do not compile, or if a
    definition contradicts a built-in one. Raises `LackingError` as `pyvmm.uapi.header_set.read`
    does.
    """
    loaded = header_set.read(place, architecture)
    # `builtin` keeps its result: read both before names are added to the module that they share.
    present = {each: builtin(each) for each in ARCHITECTURES}[architecture]
    older = _release(loaded.version) < _release(present.version)
    for change in contradictions(present.all, loaded.all):
        if not (older and isinstance(change.before, int)):
            raise HeaderError(
                f"{place}: {change.name} is {words(change.after)}, and pyvmm is built for "
                f"{words(change.before)} (Linux {present.version}): keep the definition and add a "
                "new one, or regenerate pyvmm's with python -m pyvmm.uapi.generate"
            )
    for module, header in loaded.headers.items():
        _add(module, present.headers[module], header)
    names.cache_clear()
    return loaded


def _release(version: str) -> list[int]:
    return [int(number) for number in version.split(".")[:2]]


def _add(module: str, present: Header, header: Header) -> None:
    """Define the names that only `header` has, in the module and in its architecture's own."""
    homes = [import_module(f"pyvmm.uapi.{module}")]
    if module == "kvm":
        homes.append(import_module(f"pyvmm.uapi.kvm_{architecture}"))
    namespace: dict[str, Any] = {}
    for home in homes:
        namespace |= vars(home)
    new = replace(
        header,
        constants={n: c for n, c in header.constants.items() if n not in present.constants},
        structs={n: s for n, s in header.structs.items() if n not in present.structs},
        ioctls={n: i for n, i in header.ioctls.items() if n not in present.ioctls},
    )
    defined = _execute(new, namespace)
    for name in (*new.constants, *new.structs, *new.ioctls):
        for home in homes:
            setattr(home, name, defined[name])
    for name, struct in present.structs.items():
        if members := _new_members(struct, present, header):
            more = replace(header, constants={}, ioctls={}, structs={name: members})
            extend(defined[name], _execute(more, defined)[name])


def _execute(header: Header, namespace: dict[str, Any]) -> dict[str, Any]:
    """Return `namespace` with the definitions of `header`."""
    extended = dict(namespace)
    exec(emit.source(header, f"Headers of Linux {header.version}."), extended)
    return extended


def _new_members(struct: StructLayout, present: Header, header: Header) -> StructLayout | None:
    """Return the members that `header` adds within the size of `struct`, or None."""
    other = header.structs.get(struct.name, struct)
    appeared = [
        change.after
        for change in struct_changes(struct, other, present, header, struct.name)
        if change.before is None and isinstance(change.after, Member)
    ]
    fitting = tuple(m for m in appeared if m.offset + size_of(m, header) <= struct.size)
    return replace(struct, members=fitting) if fitting else None
