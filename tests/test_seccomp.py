# SPDX-License-Identifier: GPL-2.0-only
import errno
import os

import pytest

from pyvmm import seccomp
from pyvmm.seccomp import Argument, Rule
from tests.bpf import filter_result
from tests.process import as_nobody

YES, NO, FOREIGN = 1, 2, 3
RULES = (
    Rule(10, (Argument(1, (7, 8)),)),
    Rule(11),
    Rule(12, (Argument(0, (0,), mask=4), Argument(2, (5,)))),
    Rule(12, (Argument(0, (4,), mask=4), Argument(3, (6,)))),
)
CODE = seccomp.filter_program(RULES, YES, NO, FOREIGN, absent=(14,))


@pytest.mark.parametrize(
    ("number", "args", "expected"),
    [
        pytest.param(10, (0, 7), YES, id="first value"),
        pytest.param(10, (0, 8), YES, id="last value"),
        pytest.param(10, (0, 9), NO, id="other value"),
        pytest.param(10, (0, 7 | 1 << 32), YES, id="upper half is ignored"),
        pytest.param(11, (9,), YES, id="any argument"),
        pytest.param(12, (3, 0, 5), YES, id="both arguments"),
        pytest.param(12, (3, 0, 4), NO, id="one of two arguments"),
        pytest.param(12, (7, 0, 5, 6), YES, id="second rule"),
        pytest.param(12, (7, 0, 5, 5), NO, id="neither rule"),
        pytest.param(13, (), NO, id="no rule"),
        pytest.param(14, (), seccomp.ERRNO | errno.ENOSYS, id="absent"),
    ],
)
def test_rules(number: int, args: tuple[int, ...], expected: int) -> None:
    assert filter_result(CODE, number, *args) == expected


def test_other_architecture() -> None:
    assert filter_result(CODE, 11, arch=0x4000_0003) == FOREIGN


def test_installed_filter() -> None:
    def uname() -> str:
        number = 63 if os.uname().machine == "x86_64" else 160
        action = seccomp.ERRNO | 95
        code = seccomp.filter_program([Rule(number)], action, seccomp.ALLOW, seccomp.ALLOW)
        seccomp.install_filter(code)
        try:
            os.uname()
        except OSError as error:
            return str(error.errno)
        return "allowed"

    assert seccomp.has_filters()
    assert as_nobody(uname) == "95"
