# SPDX-License-Identifier: GPL-2.0-only
"""Names of errno values, ``EHWPOISON`` included."""

import errno
import re

EHWPOISON = 133  # asm-generic/errno.h; Python's errno module lacks it

_MAX_ERRNO = 4095  # linux/err.h
_NAMES = {**errno.errorcode, EHWPOISON: "EHWPOISON"}
# With the aliases, such as EWOULDBLOCK, which errno.errorcode leaves out.
_NUMBERS = {n: v for n, v in vars(errno).items() if n.startswith("E")} | {"EHWPOISON": EHWPOISON}


def errno_name(number: int) -> str:
    """Return the name of errno `number`, "EFAULT" for 14, or the number if it has no name."""
    return _NAMES.get(number, str(number))


def errno_number(text: str) -> int | None:
    """Return the errno in `text` (EFAULT, efault, 14 or -14), or None if `text` is not an errno."""
    digits = re.fullmatch(r"-?(\d{1,4})", text)
    number = _NUMBERS.get(text.upper()) or (int(digits[1]) if digits else 0)
    return number if 0 < number <= _MAX_ERRNO else None
