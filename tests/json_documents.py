# SPDX-License-Identifier: GPL-2.0-only
"""The documents that commands print, checked against the schemas in ``pyvmm/schemas``.

jsonschema is not in the emulated host: there the documents are only read.
"""

import copy
import json
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyvmm

SCHEMAS = Path(pyvmm.__file__).with_name("schemas")


def valid(text: str) -> Any:
    """Return a document, after checking it against the schema that it names.

    For scripts a new member is no error. Here it is: each one is in the schema.
    """
    document = json.loads(text)
    check(document, document["schema"])
    return document


def check(document: object, schema: str) -> None:
    if find_spec("jsonschema") is None:
        return
    errors = [_describe(error) for error in _validator(schema).iter_errors(document)]
    assert not errors, f"{schema}: {'; '.join(errors)}"


def schemas() -> dict[str, Any]:
    """Return the schemas by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.json"))}


@cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    strict = {name: _strict(each) for name, each in schemas().items()}
    resources = [(name, Resource.from_contents(each)) for name, each in strict.items()]
    registry: Any = Registry().with_resources(resources)
    return Draft202012Validator(strict[_file(schema)], registry=registry)


def _file(schema: str) -> str:
    return f"{schema.removeprefix('pyvmm.').replace('/', '-')}.json"


def _strict(schema: Any) -> Any:
    """Return a schema that rejects members without a description."""
    strict = copy.deepcopy(schema)
    for each in _objects(strict):
        if "properties" in each:
            each["additionalProperties"] = False
    return strict


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _objects(each)


def _describe(error: Any) -> str:
    best = min(error.context, key=lambda each: -len(each.path), default=error)
    return f"{best.json_path}: {best.message[:200]}"
