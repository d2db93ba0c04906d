# SPDX-License-Identifier: GPL-2.0-only
"""Pages about real runs, in a real browser."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvmm import pages
from pyvmm.errors import LackingError, UsageError
from tests.pages.browser import Browser, browser
from tests.pages.documents import BENCH, PROVOKE, RUN

__all__ = ["browser"]

Document = dict[str, Any]
Open = Callable[..., Browser]

HOSTILE = (
    '</title></style><script>throw 1</script><img src="http://192.0.2.1/x" onerror="throw 2">\ud800'
)

# The lowest contrast of a text with the background behind it, and that text.
CONTRAST = """(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((byte) => {
      const part = byte / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = (part) => {
    for (; part; part = part.parentElement) {
      const colour = getComputedStyle(part).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let lowest = [21, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const part = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !part.checkVisibility() || part.closest("svg")) continue;
    const [a, b] = [light(getComputedStyle(part).color), light(back(part))].sort((x, y) => x - y);
    const contrast = (b + 0.05) / (a + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, walker.currentNode.data];
  }
  return lowest;
})()"""


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Open:
    """Return a function that opens a page about documents."""

    def show(*documents: Document, earlier: Document | None = None, **settings: Any) -> Browser:
        page = tmp_path / "page.html"
        page.write_text(pages.render(documents, earlier), "utf-8", "backslashreplace")
        browser.open(page, **settings)
        assert browser.requests == [page.as_uri()]
        return browser

    return show


def visible(browser: Browser, selector: str) -> list[str]:
    """Return the texts of the visible elements."""
    texts: list[str] = browser.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        ".filter(each => each.checkVisibility()).map(each => each.innerText ?? each.textContent)"
    )
    return texts


def select(browser: Browser, **values: object) -> None:
    """Fill in members of the filter."""
    for name, value in values.items():
        member = "checked" if isinstance(value, bool) else "value"
        browser.evaluate(f"document.forms[0].elements.{name}.{member} = {json.dumps(value)}")
    browser.evaluate("document.forms[0].dispatchEvent(new Event('input'))")


def checks(browser: Browser) -> list[str]:
    return [text.split()[0] for text in visible(browser, "table.matrix tbody th")]


def test_matrix_is_filtered(show: Open, provoked_matrix: Document) -> None:
    page = show(provoked_matrix)
    assert checks(page) == ["anonymous-unmapped", "outside", "cacheable-registered"]
    assert len(visible(page, "table.matrix thead th[data-cpu]")) == 2
    select(page, cpu="max")
    [host] = visible(page, "table.matrix thead th[data-cpu]")
    assert host.startswith("max")
    assert len(visible(page, "table.matrix tbody td")) == 3
    assert len(visible(page, "details.run")) == 1
    select(page, cpu="", cause="hva-unmapped")
    assert checks(page) == ["anonymous-unmapped"]
    select(page, cause="", text="NO MEMSLOT")
    assert checks(page) == ["outside"]
    assert visible(page, "output") == ["1 rows, 2 hosts"]
    assert page.errors == []


def test_only_where_hosts_differ(show: Open, provoked_matrix: Document) -> None:
    changed = deepcopy(provoked_matrix)
    changed["runs"][0]["stdout"]["provoked"][1]["kernel"] = "a new exit"
    page = show(changed, earlier=provoked_matrix)
    select(page, differs=True)
    assert "outside" in checks(page)
    assert "anonymous-unmapped" not in checks(page)


def test_cell_opens_its_run(show: Open, provoked_matrix: Document) -> None:
    page = show(provoked_matrix)
    assert visible(page, "details.run .details") == []
    page.evaluate("document.querySelector('table.matrix td a').click()")
    page.evaluate("new Promise(done => setTimeout(done))")
    shown = visible(page, "details.run tr:target")
    assert len(shown) == 1
    assert "hva-unmapped" in shown[0]
    assert "user_mem_abort -EFAULT" in shown[0] or "kvm_handle_guest_abort" in shown[0]
    assert page.errors == []


def test_changes_since_an_earlier_run(show: Open, provoked_matrix: Document) -> None:
    changed = deepcopy(provoked_matrix)
    changed["runs"][0]["stdout"]["provoked"][1]["kernel"] = "a new exit"
    page = show(changed, earlier=provoked_matrix)
    [row] = visible(page, "#changes + .scroll tbody tr")
    assert row.split("\t")[1:] == [
        "outside",
        "KVM_EXIT_MMIO: outside-memslots",
        "a new exit: outside-memslots",
    ]
    assert len(visible(page, "td.changed")) == 1
    select(page, changed=True)
    assert checks(page) == ["outside"]
    assert "None: all results are the same" in show(changed, earlier=changed).evaluate(
        "document.body.innerText"
    )


def test_readable_without_javascript(show: Open, provoked_matrix: Document) -> None:
    page = show(provoked_matrix, script=False)
    assert visible(page, "form") == []
    assert len(visible(page, "table.matrix tbody tr")) == 3
    assert len(visible(page, "details.run summary")) == 2


def test_failed_host(show: Open, provoked_matrix: Document) -> None:
    changed = deepcopy(provoked_matrix)
    changed["runs"][0] |= {"stdout": "", "error": "the kernel crashed"}
    page = show(changed)
    assert "the kernel crashed" in visible(page, "details.run summary")[0]
    assert visible(page, "table.matrix td")[0] == "not run"


def test_memory_map_of_a_run(show: Open, faulting_run: Document) -> None:
    page = show(faulting_run)
    names = visible(page, "svg .name")
    assert names == ["RAM", *(f"0000:01:00.0 BAR{n}" for n in (0, 2, 4))]
    faulted = visible(page, "svg .faulted")
    assert [text.partition(":")[0] for text in faulted] == ["0x180000000", "0x19ffffffc"]
    assert all("cacheable-pfnmap-unsupported; replay: resolved" in text for text in faulted)
    assert "Normal-NC in stage 2" in page.evaluate("document.querySelector('svg').textContent")
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("document", [RUN, PROVOKE, BENCH], ids=lambda each: each["schema"])
def test_accessible(show: Open, document: Document, scheme: str) -> None:
    page = show(document, scheme=scheme)
    contrast, text = page.evaluate(CONTRAST)
    assert contrast >= 4.5, text
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("document.querySelectorAll('table:not(:has(> caption))').length") == 0
    assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0
    unnamed = "svg:not([aria-label], [aria-labelledby]), input:not(label *), select:not(label *)"
    assert page.evaluate(f"document.querySelectorAll('{unnamed}').length") == 0
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.localName[1])")
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.errors == []


@pytest.mark.parametrize("document", [RUN, PROVOKE, BENCH], ids=lambda each: each["schema"])
def test_strings_are_not_markup(show: Open, document: Document) -> None:
    hostile = json.loads(json.dumps(document))
    for holder, key, value in list(_members(hostile)):
        if isinstance(value, str) and key not in ("schema", "outcome", "result"):
            holder[key] = HOSTILE
    page = show(hostile)
    assert page.errors == []
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert "throw 1" in page.evaluate("document.body.innerText")


def _members(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield each member of nested containers as container, key and value."""
    items: Sequence[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, member in items:
        yield value, key, member
        yield from _members(member)


MEMBERS = [
    (document, number)
    for document in (RUN, PROVOKE, BENCH)
    for number, _ in enumerate(_members(document))
]


@given(
    st.sampled_from(MEMBERS),
    st.sampled_from([None, -1, 1 << 4000, float("inf"), "", [], {}, [[]], {"schema": []}]),
)
def test_damaged_document_is_an_error_of_one_line(
    member: tuple[Mapping[str, Any], int], value: object
) -> None:
    document, number = member
    damaged = deepcopy(document)
    holder, key, _ = list(_members(damaged))[number]
    holder[key] = value
    try:
        assert pages.render([damaged]).startswith("<!DOCTYPE html>")
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_bench_needs_no_earlier(provoked_matrix: Document) -> None:
    with pytest.raises(UsageError, match="one page shows one document"):
        pages.render([BENCH], BENCH)
    with pytest.raises(UsageError, match="one page shows one document"):
        pages.render([RUN, PROVOKE])
    with pytest.raises(UsageError, match=r"cannot compare pyvmm\.run/1 with pyvmm\.provoke/1"):
        pages.render([RUN], PROVOKE)


def test_missing_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(LackingError, match=r"pip install 'pyvmm\[html\]'"):
        pages.render([RUN])
