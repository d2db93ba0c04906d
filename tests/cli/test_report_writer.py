# SPDX-License-Identifier: GPL-2.0-only
import json
from argparse import Namespace
from pathlib import Path

import pytest

from pyvmm import sandbox
from pyvmm.cli.html_file import html_file
from pyvmm.cli.report_file import ReportFile
from pyvmm.cli.report_writer import ReportWriter
from pyvmm.errors import LackingError
from tests.pages.documents import RUN
from tests.process import in_child


def test_a_report_from_within_the_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "report.json"

    def save() -> str:
        writer = ReportWriter(ReportFile(path))
        sandbox.enter()
        writer.save({"a": 1})
        return "saved"

    assert in_child(save) == "saved"
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_page_from_within_the_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page = html_file(Namespace(html=path, earlier=None), "pyvmm.run/1")
    assert page

    def save() -> str:
        writer = ReportWriter(page)
        sandbox.enter()
        writer.save(RUN)
        return "saved"

    assert in_child(save) == "saved"
    assert "Memory map of the guest" in path.read_text()


def test_no_report_if_the_process_ends_early(tmp_path: Path) -> None:
    def end() -> str:
        ReportWriter(ReportFile(tmp_path / "report.json"))
        return "ended"

    assert in_child(end) == "ended"
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_raised_here() -> None:
    with pytest.raises(LackingError, match="cannot write the report to /dev/full: No space left"):
        ReportWriter(ReportFile(Path("/dev/full"))).save({})
