# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.lab.selftest_result import Outcome, SelftestResult, judge

ASSERTION = """\
Random seed: 0x1
==== Test Assertion Failure ====
  arm64/vgic_init.c:175: ret == -1 && errno == E2BIG
  pid=83 tid=83 errno=22 - Invalid argument
     1\t0x0000000000401234: ?? ??:0
  dist address beyond IPA limit
"""


@pytest.mark.parametrize(
    ("status", "output", "outcome", "reason"),
    [
        (0, "# Random seed: 0x1\n", Outcome.PASS, ""),
        (0, "TAP version 13\n1..2\nok 1 a\nok 2 b # SKIP no SVE\n", Outcome.PASS, ""),
        (0, "1..1\nok 1 a # SKIP no SVE\n", Outcome.SKIP, "no SVE"),
        (0, "No PMUv3 support, skipping test\n", Outcome.SKIP, "No PMUv3 support"),
        (0, "SKIP SYS_ICC_AP0R1_EL1 for read\n", Outcome.PASS, ""),  # vgic_init
        (0, "ok 1 a\nSkipping the rest\n", Outcome.PASS, ""),
        (4, "1..0 # SKIP - Requirement not met: x\n", Outcome.SKIP, "Requirement not met: x"),
        (4, "", Outcome.SKIP, ""),
        (4, "No GICv5 support\n", Outcome.SKIP, "No GICv5 support"),
        (0, "sve: PASS\nEL2: EL2 not available, skipping tests\n", Outcome.PASS, ""),
        (1, "ok 1 a\nnot ok 2 b\nlast\n", Outcome.FAIL, "not ok 2 b"),
        (1, "one\nlast\n\n", Outcome.FAIL, "last"),
        (3, "", Outcome.FAIL, "exit status 3"),
        (-11, "line\n", Outcome.FAIL, "killed by SIGSEGV"),
        (
            254,
            ASSERTION,
            Outcome.FAIL,
            "arm64/vgic_init.c:175: ret == -1 && errno == E2BIG: dist address beyond IPA limit",
        ),
    ],
)
def test_judge(status: int, output: str, outcome: Outcome, reason: str) -> None:
    assert judge(status, output) == (outcome, reason)


def test_ktap_nests_the_tests_own_tap() -> None:
    output = "TAP version 13\n1..1\nhello\nok 1 a\n"
    result = SelftestResult(
        "b", Outcome.FAIL, "x", ("-b", "1"), "slow", output=output, log=("oops",), trace="1 ioctl"
    )
    assert list(result.ktap(3)) == [
        "# arguments: -b 1",
        "# arguments reduced for emulation: slow",
        "  KTAP version 1",
        "  # Subtest: b",
        "  # TAP version 13",
        "  1..1",
        "  # hello",
        "  ok 1 a",
        "# kernel: oops",
        "# trace: 1 ioctl",
        "# x",
        "not ok 3 b",
    ]


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome.PASS, "ok 1 a"),
        (Outcome.SKIP, "ok 1 a # SKIP why"),
        (Outcome.TIMEOUT, "not ok 1 a # TIMEOUT why"),
        (Outcome.HOST, "not ok 1 a # ERROR why"),
    ],
)
def test_result_line(outcome: Outcome, line: str) -> None:
    assert list(SelftestResult("a", outcome, "why", output="text").ktap(1)) == ["# text", line]
