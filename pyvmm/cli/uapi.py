# SPDX-License-Identifier: GPL-2.0-only
"""``pyvmm uapi``: compare two kernels' headers, or look up one name."""

import argparse
import difflib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pyvmm.cli import output
from pyvmm.cli.option_types import header_source, name
from pyvmm.cli.progress import progress
from pyvmm.errors import Status, UsageError
from pyvmm.lab import kernel_headers
from pyvmm.lab.apt import Progress
from pyvmm.uapi import header_set, header_tree, native_arch, overlay
from pyvmm.uapi.builtin import builtin
from pyvmm.uapi.definition_text import document, words
from pyvmm.uapi.header_diff import Change, across
from pyvmm.uapi.header_set import HeaderSet
from pyvmm.uapi.lookup import describe, lookup, since

SCHEMA = "pyvmm.uapi-diff/1"
SHOW_SCHEMA = "pyvmm.uapi-show/1"
BUILTIN = "builtin"
DEBIAN = "debian:"

_SOURCES = (
    f"{BUILTIN} (the headers that pyvmm was generated from), {DEBIAN}VERSION (linux-libc-dev from "
    "the mirror), or a directory: a kernel tree, an unpacked linux-libc-dev, the result of "
    "make headers_install"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``pyvmm uapi``."""
    parser.description = "Compare two kernels' headers, or look up one name."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    about = "list the new, removed and changed definitions between two kernels' headers"
    different = commands.add_parser("diff", help=about, description=about)
    different.set_defaults(run=_diff, takes_headers=False)
    different.add_argument(
        "before", type=header_source, metavar="A", help=f"the first headers: {_SOURCES}"
    )
    different.add_argument(
        "after", type=header_source, metavar="B", help="the second headers, given like the first"
    )
    different.add_argument("--json", action="store_true", help=f"print JSON (schema {SCHEMA})")
    about = "show a name's number, fd, direction, layout, and the kernel release that added it"
    show = commands.add_parser("show", help=about, description=about)
    show.set_defaults(run=_show)
    show.add_argument(
        "name",
        type=name,
        metavar="NAME",
        help="a constant, ioctl, struct or member: KVM_CAP_…, KVM_RUN, kvm_run, kvm_run.mmio",
    )
    show.add_argument(
        "--headers",
        type=header_source,
        metavar="SOURCE",
        help=f"{_SOURCES}; default: those of --kvm-headers, then {BUILTIN}",
    )
    show.add_argument("--json", action="store_true", help=f"print JSON (schema {SHOW_SCHEMA})")
    for each in (different, show):
        each.add_argument(
            "--arch",
            choices=[*header_tree.ARCHITECTURES],
            help="read the headers of one architecture only",
        )


def _diff(options: argparse.Namespace) -> int:
    with progress() as tell:
        before = _read(options.before, options.arch, tell)
        after = _read(options.after, options.arch, tell)
    common = sorted(before.keys() & after.keys())
    if not common:
        raise UsageError(
            f"{options.before} has headers for {', '.join(before)} and {options.after} for "
            f"{', '.join(after)}: give two with one architecture in common"
        )
    changes = across(_whole(before), _whole(after))
    if options.json:
        sides = {
            side: {"source": source, "version": found[common[0]].version}
            for side, source, found in (
                ("before", options.before, before),
                ("after", options.after, after),
            )
        }
        listing = [_document(change, archs) for change, archs in changes.items()]
        whole = {"schema": SCHEMA, **sides, "architectures": common, "changes": listing}
        print(json.dumps(whole, indent=1))
    else:
        versions = f"Linux {before[common[0]].version} to {after[common[0]].version}"
        _print_changes(f"{versions}, {' and '.join(common)}", changes, common)
    return Status.DONE


def _read(source: str, architecture: str | None, tell: Progress) -> dict[str, HeaderSet]:
    """Return the header sets of a source by architecture, or only that of `architecture`."""
    if source == BUILTIN:
        wanted = [architecture] if architecture else [*header_tree.ARCHITECTURES]
        return {each: builtin(each) for each in wanted}
    if source.startswith(DEBIAN):
        place = kernel_headers.fetch(source.removeprefix(DEBIAN), tell)
    else:
        place = Path(source)
        if not place.is_dir():
            raise UsageError(f"{source} is not a directory; give {_SOURCES}")
    wanted = [architecture] if architecture else header_tree.architectures(place)
    tell(f"reading the headers in {place}", None)
    return {each: header_set.read(place, each) for each in wanted}


def _whole(found: Mapping[str, HeaderSet]) -> dict[str, Any]:
    return {architecture: each.all for architecture, each in found.items()}


def _document(change: Change, architectures: tuple[str, ...]) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "change": change.change,
        "class": "breaking" if change.breaking else "additive",
        "before": document(change.before),
        "after": document(change.after),
        "architectures": list(architectures),
    }


def _print_changes(
    title: str, changes: Mapping[Change, tuple[str, ...]], common: list[str]
) -> None:
    if not changes:
        print(f"{title}: nothing changed")
        return
    one_sided = any(list(architectures) != common for architectures in changes.values())
    rows = [
        (
            output.Styled("breaking", "red") if change.breaking else "additive",
            change.change,
            change.kind,
            change.name,
            words(change.before),
            words(change.after),
            *([", ".join(architectures)] if one_sided else []),
        )
        for change, architectures in changes.items()
    ]
    headings = ["", "", "kind", "name", "before", "after", *(["for"] if one_sided else [])]
    output.table(title, headings, rows)
    count = Counter(change.breaking for change in changes)
    print(f"\n{len(changes)} changes: {count[False]} additive, {count[True]} breaking")


def _show(options: argparse.Namespace) -> int:
    if options.kvm_headers and options.headers:
        raise UsageError("--kvm-headers has no effect where --headers is given: leave one out")
    source = options.headers or BUILTIN
    with progress() as tell:
        found = [*_read(source, options.arch, tell).values()]
    found.sort(key=lambda each: each.architecture != native_arch.architecture)
    if options.kvm_headers:
        loaded = overlay.load(options.kvm_headers)
        found = [each for each in (loaded, *found) if options.arch in (None, each.architecture)]
    for headers in found:
        entry = describe(options.name, headers.all)
        if entry is not None:
            break
    else:
        names = {name for each in found for name in (*each.all.constants, *each.all.ioctls)}
        names |= {name for each in found for name in each.all.structs}
        near = difflib.get_close_matches(options.name, sorted(names), n=3)
        hint = f": is it {' or '.join(near)}?" if near else ""
        raise UsageError(f"{source} has no {options.name}{hint}")
    architecture = headers.architecture
    at_hand = [headers, builtin(architecture), *header_set.read_cached(architecture)]
    first = since(options.name, at_hand)
    if options.json:
        whole = {
            "schema": SHOW_SCHEMA,
            "name": options.name,
            "kind": entry.kind,
            "version": headers.version,
            "architecture": architecture,
            "since": first,
            "definition": document(lookup(options.name, headers.all)),
            "facts": entry.facts,
            "layout": [asdict(row) for row in entry.layout],
        }
        print(json.dumps(whole, indent=1))
        return Status.DONE
    title = f"{options.name}: {entry.kind}, Linux {headers.version}, {architecture}"
    output.table(title, ("", ""), {**entry.facts, "since": first}.items())
    if entry.layout:
        rows = ((str(row.offset), row.size, row.type, row.name) for row in entry.layout)
        output.table("\nLayout", ("offset", "size", "type", "member"), rows)
    return Status.DONE
