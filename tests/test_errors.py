# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.errors import (
    LackingError,
    PyvmmError,
    SkippedError,
    Status,
    UsageError,
    as_command,
)
from tests.process import exits_with


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (PyvmmError("the guest fell"), Status.FAILED, "error: the guest fell"),
        (UsageError("no such thing"), Status.USAGE, "error: no such thing"),
        (LackingError("no /dev/kvm"), Status.LACKING, "error: no /dev/kvm"),
        (SkippedError("not here"), Status.SKIPPED, "error: not here"),
        (OSError(errno.ENOENT, "gone", "/a/b"), Status.LACKING, "error: /a/b: gone"),
        (TimeoutError("too late"), Status.LACKING, "error: too late"),
        (KeyboardInterrupt(), Status.INTERRUPTED, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with exits_with(status), as_command():
        raise error
    assert capfd.readouterr().err == f"pyvmm: {said}\n"


def test_as_command_decorates_a_function() -> None:
    @as_command()
    def main(number: int) -> int:
        if number > 1:
            raise UsageError("too many")
        return number

    assert main(1) == 1
    with exits_with(Status.USAGE):
        main(2)
