# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pyvmm.errors import LackingError
from pyvmm.lab.selftest_result import Outcome, SelftestResult
from pyvmm.lab.selftest_table import load, resume


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    saved = tmp_path / "new" / "saved.json"
    ran: list[str] = []

    def run(names: Sequence[str]) -> Iterator[SelftestResult]:
        for name in names:
            ran.append(name)
            yield SelftestResult(name, Outcome.SKIP, "why", ("-x",), log=("line",))

    first = resume(saved, ["a", "b"], run)
    assert next(first).name == "a"
    first.close()  # type: ignore[attr-defined]
    results = list(resume(saved, ["b", "a", "c"], run))
    assert [result.name for result in results] == ["a", "b", "c"]
    assert ran == ["a", "b", "c"]
    assert list(load(saved)) == results
    assert [result.name for result in resume(saved, ["b"], run)] == ["b"]


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text('[{"name": "a"}]')
    with pytest.raises(LackingError, match="has no results of lab selftests: remove it"):
        load(tmp_path / "saved.json")
