# SPDX-License-Identifier: GPL-2.0-only
import json
import os
from pathlib import Path

import pytest

from pyvmm.cli.report_file import ReportFile
from pyvmm.errors import LackingError, UsageError


def test_a_report_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report = ReportFile(path)
    assert list(tmp_path.iterdir()) == []
    report.save({"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_earlier_report_stays_if_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("earlier")
    with pytest.raises(TypeError):
        ReportFile(path).save({"a": object()})
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_keeps_its_target(tmp_path: Path) -> None:
    path, link = tmp_path / "report.json", tmp_path / "link"
    link.symlink_to(path)
    ReportFile(link).save({"a": 1})
    assert link.is_symlink()
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_device_is_written_and_not_replaced() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as pipe:
        ReportFile(Path(f"/dev/fd/{writer}")).save({"a": 1})
        os.close(writer)
        assert json.load(pipe) == {"a": 1}


def test_a_full_disk() -> None:
    with pytest.raises(LackingError, match="cannot write the report to /dev/full: No space left"):
        ReportFile(Path("/dev/full")).save({})


@pytest.mark.parametrize("name", ["", "no/such.json", "x" * 300])
def test_an_unwritable_path_is_rejected_before_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot write the report to"):
        ReportFile(tmp_path / name)
