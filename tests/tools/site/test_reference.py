# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm import cli
from pyvmm.testing import fixtures
from tests.json_documents import schemas

reference = pytest.importorskip("tools.site.reference", reason="tools/ is in the checkout only")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    found: dict[str, str] = reference.pages()
    return found


def test_every_command(pages: dict[str, str]) -> None:
    for parser in cli.tree().parsers():
        assert f"\n## {parser.prog}\n" in pages["reference/commands.md"]


def test_every_fixture(pages: dict[str, str]) -> None:
    page = pages["reference/fixtures.md"]
    for name in ("kvm", "vm", "vcpu", "ram", "guest", "caps", "iommu_mode", "vfio_device"):
        assert hasattr(fixtures, name)
        assert f"| `{name}` |" in page
    assert "| `needs_arch(machine)` |" in page


def test_every_schema(pages: dict[str, str]) -> None:
    for schema in schemas().values():
        assert f"\n## {schema['title']}\n" in pages["reference/schemas.md"]
    assert "| `stage2[].gpa` |" in pages["reference/schemas.md"]
