# SPDX-License-Identifier: GPL-2.0-only
"""Mutated inputs: valid ones with bytes, numbers or JSON values changed, removed or repeated.

A seeded `random.Random` makes 50,000 inputs per second. Hypothesis made 100, of the same kinds.
"""

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

_TOKENS = (
    *(b"", b"\0", b"\n", b"\xff", b"\xe2\x80\xa6", b" ", b"=", b":", b",", b'"', b"-", b"+", b"_"),
    *(b"0", b"-1", b"0x", b"1e999", b"NaN", b"null", b"true", b"{}", b"[]", b"%s", b"..", b"/"),
    *(b"\xff" * 8, b"\xd9\xa3", b"0x10000000000000000", b"9" * 30),
)
_LONG_TOKENS = (b"9" * 5000, b"[" * 200_000)
_LONG_SHARE = 1 / 2000  # of the changes: a long input takes a thousand times longer to parse
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63)
_NUMBER = re.compile(rb"\d+")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**32, 2**64, 2**64 - 1, -(2**63), 10**400, 1.5, float("inf")),
    *("", "0x", "…", "\udcff", "\n", "x" * 5000, [], [[]], [None], {}, {"": {}}, {"a": [1]}),
)
_NAMES = ("type", "slot", "", "argument")
_LARGEST = 16 << 10  # bytes of an input that is mutated again
_LARGEST_CORPUS = 500


class Mutator:
    """A source of inputs, which are mutations of the `seeds` and of the inputs that were kept."""

    def __init__(self, seeds: Sequence[bytes], chance: random.Random, *, is_json: bool) -> None:
        """Start with valid inputs; with `is_json`, values in their lines of JSON change too."""
        self._corpus, self._chance, self._is_json = list(seeds), chance, is_json

    def keep(self, data: bytes) -> None:
        """Mutate this input further, as it reached code that no input had reached."""
        if len(data) <= _LARGEST and len(self._corpus) < _LARGEST_CORPUS:
            self._corpus.append(data)

    def input(self) -> bytes:
        """Return a new input."""
        data = self._chance.choice(self._corpus)
        if self._is_json and self._chance.random() < 0.5:
            try:
                return self._changed_json(data)
            except (ValueError, RecursionError):  # a kept input that is no JSON
                pass
        for _ in range(self._chance.randint(1, 4)):
            data = self._changed(data)
        return data

    def _changed(self, data: bytes) -> bytes:
        chance = self._chance
        at = chance.randint(0, len(data))
        end = min(at + chance.choice((0, 1, 2, 4, 8, 64, 1 << 30)), len(data))
        match chance.randrange(8):
            case 0:
                long = chance.random() < _LONG_SHARE
                middle = chance.choice(_LONG_TOKENS if long else _TOKENS)
            case 1:
                middle = chance.randbytes(chance.randrange(9))
            case 2:
                middle = data[at:end] * 2
            case 3:  # a splice with another input
                other = chance.choice(self._corpus)
                middle = other[min(at, len(other)) :]
            case 4:
                return data[:at]
            case 5:
                size = chance.choice((1, 2, 4, 8))
                number = chance.choice(_INTEGERS) + chance.randrange(-2, 3)
                middle = (number % (1 << 8 * size)).to_bytes(size, "little")
                end = min(at + size, len(data))
            case 6:
                return self._changed_number(data)
            case _:
                middle = bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1])
                end = at + len(middle)
        return data[:at] + middle + data[end:]

    def _changed_number(self, data: bytes) -> bytes:
        """Replace a decimal number in a text."""
        numbers = list(_NUMBER.finditer(data))
        if not numbers:
            return data
        found = self._chance.choice(numbers)
        number = self._chance.choice(_INTEGERS) + self._chance.randrange(-2, 3)
        return data[: found.start()] + b"%d" % number + data[found.end() :]

    def _changed_json(self, data: bytes) -> bytes:
        """Replace, remove or add up to three values in lines of JSON."""
        chance = self._chance
        lines = [json.loads(line) for line in data.splitlines()]
        for _ in range(chance.randint(1, 3)):
            places = _places(lines)
            if not places:
                break
            container, key = chance.choice(places)
            match chance.randrange(4):
                case 0:
                    del container[key]
                case 1 if isinstance(container, dict):
                    container[chance.choice(_NAMES)] = container[key]
                case _:
                    container[key] = copy.deepcopy(chance.choice(_VALUES))  # it may change later
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Return every value in `node`, as its container and its key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    found = [(node, key) for key in keys]
    for key in keys:
        if isinstance(node[key], dict | list):
            found += _places(node[key])
    return found


def minimized(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return a part of `data` that still fails, and from which no single chunk can be removed."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
