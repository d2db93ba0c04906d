# SPDX-License-Identifier: GPL-2.0-only
"""Configurations of the lab's kernel: the common fragment, and the options of a variant."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pyvmm.errors import UsageError

FRAGMENT = Path(__file__).with_name("kernel.config")
# Kernels with another page size than the fragment's.
PAGE_SIZES = {
    "lab:16k": ("CONFIG_ARM64_4K_PAGES=n", "CONFIG_ARM64_16K_PAGES=y"),
    "lab:64k": ("CONFIG_ARM64_4K_PAGES=n", "CONFIG_ARM64_64K_PAGES=y"),
}
_SET = re.compile(r"(?:CONFIG_)?(\w+)=(\S.*)")
_NOT_SET = re.compile(r"# CONFIG_(\w+) is not set")


def variant(name: str, changes: Sequence[str] = ()) -> str:
    """Return the text of the fragment for kernel `name`, with the lines `changes` on top."""
    text = FRAGMENT.read_text()
    for change in (*PAGE_SIZES.get(name, ()), *changes):
        option = change.partition("=")[0]
        text = re.sub(rf"^{option}=.*\n", "", text, flags=re.MULTILINE) + f"{change}\n"
    return text


def parse_changes(arguments: Iterable[str]) -> list[str]:
    """Return lines ``CONFIG_OPTION=VALUE`` of arguments that are such a line or a file of them.

    Raises `UsageError` if an argument is neither.
    """
    changes = []
    for argument in arguments:
        if match := _SET.fullmatch(argument):
            changes.append(f"CONFIG_{match[1]}={match[2]}")
            continue
        try:
            text = Path(argument).read_text()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(
                f"cannot read {argument}: {reason}; pass a file with kernel options, or OPTION=y"
            ) from None
        changes += options(text)
    return changes


def options(text: str) -> list[str]:
    """Return the lines ``CONFIG_OPTION=VALUE`` of a configuration; an unset option has "n"."""
    lines = [_NOT_SET.sub(r"CONFIG_\1=n", line.strip()) for line in text.splitlines()]
    return [line for line in lines if line.startswith("CONFIG_")]


def dropped(wanted: Iterable[str], result: str) -> list[str]:
    """Return the lines of `wanted` that Kconfig did not take over into its `result`."""
    got = set(options(result))
    return [
        line
        for line in wanted
        if line not in got and (not line.endswith("=n") or f"{line[:-1]}y" in got)
    ]
