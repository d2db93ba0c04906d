# SPDX-License-Identifier: GPL-2.0-only
"""Render documents as pages with Jinja2 templates, whose output is escaped."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from pyvmm.errors import LackingError, UsageError
from pyvmm.pages import documents
from pyvmm.pages.comparison import Comparison, compare
from pyvmm.pages.documents import BENCH, PROVOKE, RUN, Document, damage_reported, schema
from pyvmm.pages.memory_map import memory_map
from pyvmm.pages.trends import trends

if TYPE_CHECKING:
    from jinja2 import Environment


def check_installed() -> None:
    """Raise `LackingError` if the templates cannot be rendered."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise LackingError(
            "HTML pages need the package jinja2: pip install 'pyvmm[html]', or save JSON here and "
            "render it elsewhere: pyvmm html FILE -o PAGE"
        ) from None


def check_earlier(earlier: Document, wanted: str) -> None:
    """Raise `UsageError` if a document of the `wanted` schema cannot be compared with `earlier`."""
    if schema(earlier) != wanted:
        raise UsageError(f"cannot compare {wanted} with {schema(earlier)}: pass one of {wanted}")
    with damage_reported(earlier):
        assert compare(earlier).checks is not None


def render(sources: Sequence[Document], earlier: Document | None = None) -> str:
    """Return a page for one document, or for several ``pyvmm.bench/1`` ones, the oldest first.

    With an `earlier` document, the page shows what has changed since. Raises `UsageError` if a
    document is damaged, or if they do not go together.
    """
    check_installed()
    kinds = {schema(document) for document in sources}
    if kinds == {BENCH} and earlier is None:
        with damage_reported(sources[0]):
            return _page("trends.html", title="Benchmarks", figures=trends(sources))
    if len(sources) > 1 or kinds == {BENCH}:
        raise UsageError("one page shows one document, or several of bench: pass one FILE")
    [document] = sources
    with damage_reported(document):
        comparison = compare(document)
        changes = None
        if earlier is not None:
            check_earlier(earlier, schema(document))
            changes = comparison.since(compare(earlier))
        return _page(
            "results.html",
            title=_title(document),
            legend=_legend(comparison),
            comparison=comparison,
            changes=changes,
            changed={(each.host, each.check) for each in changes or ()},
            changed_checks={each.check for each in changes or ()},
            maps={
                number: memory_map(host.output)
                for number, host in enumerate(comparison.hosts)
                if isinstance(host.output, Mapping) and schema(host.output) == RUN
            },
        )


def _legend(comparison: Comparison) -> dict[str, str]:
    """Return what each tone means on this page."""
    if any(schema(host.output) == PROVOKE for host in comparison.hosts):
        texts = ("as expected", "as expected, the address reconstructed by pyvmm", "unexpected")
    else:
        texts = ("supported or successful", "emulated or fixed", "rejected, missing or failed")
    return dict(zip(("good", "fair", "poor", "none"), (*texts, "skipped"), strict=True))


def _title(document: Document) -> str:
    match schema(document):
        case documents.MATRIX:
            return " ".join(["lab matrix", *document["command"]])
        case documents.RUN:
            return " and ".join(device["bdf"] for device in document["devices"])
        case documents.PROVOKE:
            return "Provoked causes"
    return "Capabilities"


def _page(template: str, **values: object) -> str:
    from jinja2 import TemplateError

    environment = _environment()
    style, script = (_source(environment, name) for name in ("style.css", "filter.js"))
    inline = {"style": style, "script": script}
    hashes = {f"{name}_hash": _hash(text) for name, text in inline.items()}
    try:
        return environment.get_template(template).render(**inline, **hashes, **values)
    except TemplateError as error:  # a member is missing
        raise ValueError(str(error)) from None


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pyvmm.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["hex"] = lambda number: f"{number:#x}"
    environment.filters["word"] = lambda number: f"{number:#010x}"
    return environment


def _source(environment: "Environment", name: str) -> str:
    assert environment.loader
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    """Return the source expression of a content security policy that allows this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
