# SPDX-License-Identifier: GPL-2.0-only
import json
import os
import platform
from pathlib import Path

import pytest

from tests.kcidb_io import Validate, validate
from tests.testing.conftest import Session

__all__ = ["validate"]

pytestmark = pytest.mark.skipif(
    "PYVMM_LAB" in os.environ, reason="needs pip and a network: run pytest outside"
)

TESTS = """
    import pytest

    def test_good(): pass

    @pytest.mark.parametrize("name", ["a b/c"])
    def test_named(name): pass

    def test_bad():
        assert 1 == 2, "\\0"

    @pytest.mark.skip(reason="no time")
    def test_skipped(): pass

    @pytest.mark.xfail(reason="known")
    def test_known_bad(): raise AssertionError

    @pytest.fixture
    def broken():
        raise OSError("at the start")

    def test_not_started(broken): pass
"""


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "two workers"])
def test_document(
    session: Session, tmp_path: Path, validate: Validate, options: tuple[str, ...]
) -> None:
    session(TESTS, "--kcidb=it.json", "--kcidb-origin=mine", *options)
    text = (tmp_path / "it.json").read_text()
    validate(text)
    document = json.loads(text)
    found = {test["path"]: test["status"] for test in document["tests"]}
    assert found == {
        "pyvmm.test_it.test_good": "PASS",
        "pyvmm.test_it.test_named.a_b_c": "PASS",
        "pyvmm.test_it.test_bad": "FAIL",
        "pyvmm.test_it.test_skipped": "SKIP",
        "pyvmm.test_it.test_known_bad": "PASS",
        "pyvmm.test_it.test_not_started": "ERROR",
    }
    [bad] = (test for test in document["tests"] if test["status"] == "FAIL")
    assert "assert 1 == 2" in bad["log_excerpt"]
    assert bad["build_id"] == document["builds"][0]["id"] == f"mine:{platform.release()}"


def test_tests_not_run_are_missing(session: Session, tmp_path: Path) -> None:
    session(TESTS, "--kcidb=it.json", "-x")
    tests = json.loads((tmp_path / "it.json").read_text())["tests"]
    assert [test["status"] for test in tests[-3:]] == ["MISS"] * 3


def test_invalid_origin(session: Session) -> None:
    result = session("def test_it(): pass", "--kcidb=it.json", "--kcidb-origin=My CI")
    assert result.status == 4
    assert "invalid origin 'My CI': use only a-z, 0-9 and _" in result.stderr
