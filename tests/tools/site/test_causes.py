# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.explain.catalogue import all_causes

causes = pytest.importorskip("tools.site.causes", reason="tools/ is in the checkout only")


def test_every_cause_has_a_page() -> None:
    pages = causes.pages()
    for cause in all_causes():
        page = pages[f"causes/{cause.name}.md"]
        assert page.startswith(f"# {cause.name}\n")
        assert all(f"`pyvmm provoke {each.name}`" in page for each in cause.provocations)
        assert f"({cause.name}.md)" in pages["causes/index.md"]


def test_page_says_where_it_was_seen() -> None:
    page = causes.pages()["causes/guard-region.md"]
    [row] = [line for line in page.splitlines() if line.startswith("| madvise")]
    assert row.split(" | ")[1] == "bare EFAULT; address reconstructed"
    assert "all but 6.1, 6.12" in row


def test_results_of_one_provocation_on_several_hosts() -> None:
    page = causes.pages()["causes/cacheable-pfnmap-unsupported.md"]
    registered = [line for line in page.splitlines() if "`cacheable-registered`" in line]
    assert "EINVAL at registration" in registered[-1]
    assert "neoverse-n1: lab" in registered[-1]
