# SPDX-License-Identifier: GPL-2.0-only
import errno

import pytest

from pyvmm.errno_names import EHWPOISON, errno_name, errno_number


@pytest.mark.parametrize(
    ("number", "name"), [(errno.EFAULT, "EFAULT"), (EHWPOISON, "EHWPOISON"), (9999, "9999")]
)
def test_errno_name(number: int, name: str) -> None:
    assert errno_name(number) == name


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("EFAULT", errno.EFAULT),
        ("efault", errno.EFAULT),
        ("EHWPOISON", EHWPOISON),
        ("EWOULDBLOCK", errno.EAGAIN),
        ("14", errno.EFAULT),
        ("-14", errno.EFAULT),
        ("0", None),
        ("4096", None),
        ("EWHAT", None),
        ("--14", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_errno_number(text: str, number: int | None) -> None:
    assert errno_number(text) == number
