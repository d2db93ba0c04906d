# SPDX-License-Identifier: GPL-2.0-only
"""The schemas themselves, and that a document without them, or against them, is found."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

import pyvmm
from tests.json_documents import check, schemas, valid

jsonschema = pytest.importorskip(
    "jsonschema", reason="jsonschema is not installed: pip install 'pyvmm[dev]'"
)

PACKAGE = Path(pyvmm.__file__).parent
STABILITY = PACKAGE.parent / "docs/stability.md"
DIFF = {"schema": "pyvmm.trace-diff/1", "changes": [], "exits": {"mmio": [1, 2]}}


def test_every_document_has_a_schema() -> None:
    sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'"(pyvmm\.[\w.-]+/\d+)"', text)}
    internal = {"pyvmm.uapi/1"}  # a file of the cache
    assert named - internal <= {schema["title"] for schema in schemas().values()}


@pytest.mark.skipif(not STABILITY.exists(), reason="docs/ is in the checkout only")
def test_every_document_is_in_the_documentation() -> None:
    listed = re.findall(r"^\| `(pyvmm\.[^`]+/\d)` \|", STABILITY.read_text(), re.MULTILINE)
    parts = {"pyvmm.provenance/1"}  # of other documents
    assert sorted(listed) == sorted({each["title"] for each in schemas().values()} - parts)


@pytest.mark.parametrize("name", schemas())
def test_schema(name: str) -> None:
    schema = schemas()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert name == f"{schema['title'].removeprefix('pyvmm.').replace('/', '-')}.json"


def test_valid_document() -> None:
    assert valid(json.dumps(DIFF)) == DIFF


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exits": []}, r"\$\.exits: \[\] is not of type 'object'"),
        ({"exits": {"mmio": ["1"]}}, r"\$\.exits\.mmio\[0\]: '1' is not of type 'integer'"),
        ({"more": 1}, "'more' was unexpected"),
        ({"schema": "pyvmm.trace-diff/2"}, "'pyvmm.trace-diff/1' was expected"),
    ],
    ids=str,
)
def test_invalid_document(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check(copy.deepcopy(DIFF) | changes, "pyvmm.trace-diff/1")
