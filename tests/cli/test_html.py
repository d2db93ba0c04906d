# SPDX-License-Identifier: GPL-2.0-only
import json
from pathlib import Path
from typing import Any

import pytest

from pyvmm.cli import main
from pyvmm.errors import Status
from pyvmm.kvm import System
from tests.pages.documents import PROVOKE, RUN
from tests.process import exits_with


def test_provoke_writes_a_page_as_well(
    kvm: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, saved, again = (tmp_path / name for name in ("page", "saved", "again"))
    assert main(["provoke", "outside", "--json", "--html", str(page)]) == Status.DONE
    saved.write_text(capsys.readouterr().out)
    assert "outside-memslots" in page.read_text()
    assert main(["html", str(saved), "-o", str(again)]) == Status.DONE
    assert again.read_text() == page.read_text()
    assert main(["html", str(saved), "-o", str(again), "--earlier", str(saved)]) == Status.DONE
    assert "None: all results are the same" in again.read_text()


@pytest.mark.parametrize("document", [RUN, PROVOKE | {"provoked": 1}], ids=["other", "damaged"])
def test_earlier_document_is_checked_before_the_run(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier"
    earlier.write_text(json.dumps(document))
    with exits_with(Status.USAGE):
        main(["provoke", "--html", str(tmp_path / "page"), "--earlier", str(earlier)])
    said = capsys.readouterr().err
    assert "pass one of pyvmm.provoke/1" in said or "pyvmm.provoke/1 document is damaged" in said
    assert said.count("\n") == 1  # no provocation ran


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["provoke", "--earlier", "FILE"], "--earlier has no effect without --html FILE"),
        (["provoke", "--list", "--html", "FILE"], "--list takes no NAME"),
        (["provoke", "--html", "FILE", "--earlier", "/dev/null"], "/dev/null has no page"),
        (["lab", "matrix", "--html", "/no/such", "--", "caps"], "cannot write the report to"),
        (["html", "/no/such", "-o", "FILE"], "cannot read /no/such"),
        (["html", "FILE"], "required: -o"),
    ],
    ids=" ".join,
)
def test_wrong_usage(
    command: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "page")
    with exits_with(Status.USAGE):
        main([file if each == "FILE" else each for each in command])
    assert says in capsys.readouterr().err


def test_damaged_document_leaves_the_earlier_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, page = tmp_path / "damaged", tmp_path / "page"
    damaged.write_text(json.dumps(RUN | {"memslots": 1}))
    page.write_text("earlier")
    with exits_with(Status.USAGE):
        main(["html", str(damaged), "-o", str(page)])
    error = capsys.readouterr().err
    assert error.startswith("pyvmm: error: a pyvmm.run/1 document is damaged (TypeError: ")
    assert error.count("\n") == 1
    assert page.read_text() == "earlier"


def test_characters_that_utf8_lacks(tmp_path: Path) -> None:
    saved, page = tmp_path / "saved", tmp_path / "page"
    saved.write_text(json.dumps(PROVOKE).replace("munmap", "\\ud800"))
    assert main(["html", str(saved), "-o", str(page)]) == Status.DONE
    assert "\\ud800" in page.read_text()
