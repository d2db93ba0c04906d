# SPDX-License-Identifier: GPL-2.0-only
import re

from tests.testing.conftest import Session

TESTS = """
    import pytest

    def test_good(): pass

    @pytest.mark.parametrize("name", ["a#b"])
    def test_named(name): pass

    def test_bad():
        assert 1 == 2

    @pytest.mark.skip(reason="no time")
    def test_skipped(): pass

    @pytest.mark.xfail(reason="known")
    def test_known_bad(): raise AssertionError

    @pytest.fixture
    def broken():
        yield
        raise OSError("at the end")

    def test_torn(broken): pass
"""


def test_a_document(session: Session) -> None:
    document = session(TESTS).ktap
    kept = [line for line in document.splitlines() if not re.match(r" +#(?! Subtest)", line)]
    assert kept == [
        "KTAP version 1",
        "1..1",
        "  KTAP version 1",
        "  # Subtest: test_it.py",
        "  1..6",
        "  ok 1 test_good",
        "  ok 2 test_named[a-b]",
        "  not ok 3 test_bad",
        "  ok 4 test_skipped # SKIP no time",
        "  ok 5 test_known_bad # XFAIL known",
        "  not ok 6 test_torn",
        "not ok 1 test_it.py",
        "# Totals: pass:2 fail:2 xfail:1 xpass:0 skip:1 error:0",
    ]
    assert "  # E       assert 1 == 2" in document
    assert "OSError: at the end" in document


def test_what_was_not_run_is_not_ok(session: Session) -> None:
    ended = session(TESTS, "-x")
    assert ended.result("test_torn") == "not ok test_torn"
    assert "# it was not run: the session ended before" in ended.ktap


def test_a_module_that_cannot_be_imported(session: Session) -> None:
    ended = session("import no_such_module")
    assert "not ok 1 collection" in ended.ktap
    assert "no_such_module" in ended.ktap


def test_on_stdout_it_is_alone(session: Session) -> None:
    ended = session(TESTS, "--ktap=-")
    assert ended.stdout.startswith("KTAP version 1\n1..1\n")
    assert ended.stdout.endswith("error:0\n")
    assert "test session starts" in ended.stderr
