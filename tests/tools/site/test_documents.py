# SPDX-License-Identifier: GPL-2.0-only
from pathlib import PurePosixPath

import pytest

documents = pytest.importorskip("tools.site.documents", reason="tools/ is in the checkout only")


@pytest.mark.parametrize(
    ("text", "adapted"),
    [
        ("[a](docs/safety.md)", "[a](docs/safety.md)"),
        ("[a](docs/safety.md#rebound-devices)", "[a](docs/safety.md#rebound-devices)"),
        ("[a](examples/hello.py)", "[a](examples/hello.md)"),
        ("[a](examples/uapi/)", "[a](examples/uapi/README.md)"),
        ("[a](pyvmm/seccomp.py)", "a"),
        ("[a](https://example.org/)", "[a](https://example.org/)"),
    ],
)
def test_links(text: str, adapted: str) -> None:
    assert documents.adapt(text, "README.md") == adapted


def test_link_from_a_directory() -> None:
    adapted = documents.adapt("[a](../pyvmm/schemas)", "docs/stability.md")
    assert adapted == "[a](../reference/schemas.md)"


def test_link_to_nothing() -> None:
    with pytest.raises(ValueError, match=r"docs/a\.md: a link to b\.md, which does not exist"):
        documents.adapt("[b](b.md)", "docs/a.md")


def test_pages_keep_their_places() -> None:
    pages = documents.pages()
    assert {"README.md", "index.md", "conf.py", "docs/architecture.md"} <= set(pages)
    assert not [name for name in pages if PurePosixPath(name).is_absolute()]
