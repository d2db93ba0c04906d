# SPDX-License-Identifier: GPL-2.0-only
"""A file of rules to inject: a kernel that has, or lacks, a piece of uAPI.

::

    # A kernel without read-only memslots.
    inject = [
        "cap:KVM_CAP_READONLY_MEM=0",
        "ioctl:KVM_SET_USER_MEMORY_REGION where flags=KVM_MEM_READONLY:errno=EINVAL",
    ]
"""

import tomllib
from pathlib import Path

from pyvmm.errors import UsageError


def read_scenario(path: Path | None) -> list[str]:
    """The rules in a file, in its order; none where there is no file. Raises `UsageError`."""
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    rules = document.get("inject")
    unknown = sorted(document.keys() - {"inject"})
    if unknown or not isinstance(rules, list) or not all(isinstance(r, str) for r in rules):
        what = f"it has {', '.join(unknown)}" if unknown else "there is none"
        raise UsageError(f'{path} is no scenario: inject = ["RULE", …] is all it has, and {what}')
    return rules
