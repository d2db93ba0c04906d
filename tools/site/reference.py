# SPDX-License-Identifier: GPL-2.0-only
"""Reference pages: commands, fixtures, JSON schemas, and the API."""

import argparse
import ast
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pyvmm import cli
from pyvmm.testing import fixtures
from pyvmm.testing.needs import MARKERS
from tools.site.documents import CHECKOUT
from tools.site.markdown import block, escaped, table

_API = (
    *("errors", "ioctl", "memory", "kvm", "kvm.exits", "vfio", "why", "caps", "faults", "machine"),
    *("passthrough", "provenance", "sandbox", "testing.expect"),
)


def pages() -> dict[str, str]:
    """Return the pages by their path in the source."""
    return {
        "reference/commands.md": "\n".join(_commands()),
        "reference/fixtures.md": "\n".join(_fixtures()),
        "reference/schemas.md": "\n".join(_schemas()),
        "reference/api.rst": "\n".join(_api()),
    }


def _commands() -> Iterator[str]:
    yield "# Commands\n"
    yield "What `--help` prints, for each command.\n"
    for parser in cli.tree().parsers():
        yield f"## {parser.prog}\n"
        parser.formatter_class = partial(argparse.HelpFormatter, width=98)
        yield block(parser.format_help())


def _fixtures() -> Iterator[str]:
    yield "# The pytest plugin\n"
    tree = ast.parse((CHECKOUT / "pyvmm/testing/__init__.py").read_text())
    title, _, text = (ast.get_docstring(tree) or "").partition("\n\n")
    yield f"{title}\n\n```{{eval-rst}}\n{text}\n```\n"
    yield "## Fixtures\n"
    functions = ast.parse((CHECKOUT / "pyvmm/testing/fixtures.py").read_text()).body
    defined = [f for f in functions if isinstance(f, ast.FunctionDef) and hasattr(fixtures, f.name)]
    yield table(
        ("fixture", "needs", "gives"),
        (
            (
                f"`{function.name}`",
                ", ".join(f"`{each.arg}`" for each in function.args.args),
                escaped(ast.get_docstring(function) or ""),
            )
            for function in defined
            if function.decorator_list
        ),
    )
    yield "## Markers\n"
    yield table(
        ("marker", "effect"), ((f"`{name}`", escaped(text)) for name, text in MARKERS.items())
    )


def _schemas() -> Iterator[str]:
    yield "# JSON documents\n"
    yield "[What stays stable](../docs/stability.md#json-documents) says what you can rely on.\n"
    for path in sorted((CHECKOUT / "pyvmm/schemas").glob("*.json")):
        schema = json.loads(path.read_text())
        yield f"## {schema['title']}\n"
        yield f"{escaped(schema.get('description', ''))}\n"
        yield table(("member", "type", "meaning"), _members(schema, ""))
        for name, part in schema.get("$defs", {}).items():
            yield f"### {name}\n"
            yield f"{escaped(part.get('description', ''))}\n"
            yield table(("member", "type", "meaning"), _members(part, ""))


def _members(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Yield the members of an object, and of the objects in it."""
    for name, member in schema.get("properties", {}).items():
        place = f"{path}{name}"
        yield f"`{place}`", escaped(_type(member)), escaped(member.get("description", ""))
        items = member.get("items", {})
        yield from _members(member, f"{place}.")
        if isinstance(items, Mapping):
            yield from _members(items, f"{place}[].")


def _type(member: Mapping[str, Any]) -> str:
    if "const" in member:
        return json.dumps(member["const"])
    if "enum" in member:
        return " or ".join(map(json.dumps, member["enum"]))
    if "anyOf" in member:
        return " or ".join(map(_type, member["anyOf"]))
    if "$ref" in member:
        return str(member["$ref"]).rpartition("/")[2].removesuffix(".json")
    kind = member.get("type", "any")
    kind = kind if isinstance(kind, str) else " or ".join(kind)
    items = member.get("items")
    return f"{kind} of {_type(items)}" if kind == "array" and isinstance(items, Mapping) else kind


def _api() -> Iterator[str]:
    yield "API\n===\n"
    for name in _API:
        heading = f"pyvmm.{name}"
        yield f"{heading}\n{'-' * len(heading)}\n"
        yield f".. automodule:: {heading}\n"
