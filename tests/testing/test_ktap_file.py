# SPDX-License-Identifier: GPL-2.0-only
import re
import subprocess
import sys

import pytest

from pyvmm.lab import cache
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


def test_document(session: Session) -> None:
    document = session(TESTS).ktap
    results = [line for line in document.splitlines() if not re.match(r" +#(?! Subtest)", line)]
    assert results == [
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


# The kernel's own parser, in a process of its own: it takes KTAP on stdin.
KUNIT = """
import io, sys
from kunit_parser import parse_run_tests
from kunit_printer import Printer
counts = parse_run_tests(sys.stdin, Printer(False, output=io.StringIO())).counts
print(counts.passed, counts.failed, counts.crashed, counts.skipped, counts.errors)
"""


def test_the_parser_of_the_kernel(session: Session) -> None:
    parsers = sorted((cache.root() / "build").glob("source-*/tools/testing/kunit"))
    if not parsers:
        pytest.skip("needs the kernel's source: python -m pyvmm lab setup --kernel lab")
    document = session(TESTS).ktap
    argv = [sys.executable, "-c", KUNIT]
    done = subprocess.run(argv, input=document, capture_output=True, text=True, cwd=parsers[-1])
    assert done.stderr == ""
    assert done.stdout.split() == ["3", "2", "0", "1", "0"]  # kunit knows no XFAIL: it is "ok"


def test_tests_not_run_are_not_ok(session: Session) -> None:
    result = session(TESTS, "-x")
    assert result.line("test_torn") == "not ok test_torn"
    assert "# not run: the session ended early" in result.ktap


def test_module_that_cannot_be_imported(session: Session) -> None:
    result = session("import no_such_module")
    assert "not ok 1 collection" in result.ktap
    assert "no_such_module" in result.ktap


def test_stdout_has_only_the_document(session: Session) -> None:
    result = session(TESTS, "--ktap=-")
    assert result.stdout.startswith("KTAP version 1\n1..1\n")
    assert result.stdout.endswith("error:0\n")
    assert "test session starts" in result.stderr
