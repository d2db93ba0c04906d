# SPDX-License-Identifier: GPL-2.0-only
"""Saved JSON documents, read and checked."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pyvmm import input_file
from pyvmm.errors import UsageError

Document: TypeAlias = Mapping[str, Any]

MATRIX = "pyvmm.lab.matrix/1"
PROVOKE = "pyvmm.provoke/1"
RUN = "pyvmm.run/1"
CAPS = "pyvmm.caps/1"
BENCH = "pyvmm.bench/1"
# What a member that is missing, or has another type, raises.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
SCHEMAS = (MATRIX, PROVOKE, RUN, CAPS, BENCH)


def read(path: Path) -> Document:
    """Return the document in a file. Raises `UsageError` if it has no page."""
    try:
        document = json.loads(input_file.read_bytes(path))
    except (ValueError, RecursionError):
        document = None
    if schema(document) not in SCHEMAS:
        raise UsageError(f"{path} has no page: pass a JSON document of {', '.join(SCHEMAS)}")
    return document  # type: ignore[no-any-return]


def schema(document: object) -> str:
    """Return the name of a document's schema, or "" if it has none."""
    name = document.get("schema") if isinstance(document, Mapping) else None
    return name if isinstance(name, str) else ""


@contextlib.contextmanager
def damage_reported(document: Document) -> Iterator[None]:
    """Turn an error of the block into a `UsageError` that says that `document` is damaged."""
    try:
        yield
    except _DAMAGE as error:
        raise UsageError(
            f"a {schema(document)} document is damaged ({type(error).__name__}: {error}): write it "
            "again"
        ) from None
