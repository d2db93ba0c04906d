# SPDX-License-Identifier: GPL-2.0-only
"""The symbols in a kernel image: the tables of kallsyms (scripts/kallsyms.c).

Nothing points to the tables. The token table is found by the tokens of the digits, which stand for
themselves, and the other tables by their places beside it. The offsets are after the tokens, and
relative to the image or to their own place. Kernels before 6.5 have another order.
"""

import contextlib
import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_TOKENS = 256
_PER_MARKER = 256  # symbols
_PADDING = 16  # bytes between two tables, at most
_BIG = 0x80  # in the length of a name: a second byte follows


@dataclass(frozen=True)
class Kallsyms:
    """The symbols of an image.

    Attributes:
        offsets: the byte offset of each symbol from the start of the image, ascending.
    """

    offsets: list[int]
    _image: bytes
    _names: int
    _markers: tuple[int, ...]
    _tokens: tuple[bytes, ...]

    @classmethod
    def find(cls, image: bytes) -> "Kallsyms | None":
        """Return the symbols, or None for an image without them, or in another order."""
        with contextlib.suppress(IndexError, struct.error):
            for start, end, tokens in _token_tables(image):
                markers = _markers(image, start)
                for at, count in _symbol_counts(image, start - 4 * len(markers), markers):
                    names, offsets = _names(image, at, markers), _offsets(image, end, count)
                    if names is not None and offsets is not None:
                        return cls(offsets, image, names, markers, tokens)
        return None

    def describe(self, offset: int) -> str | None:
        """Return ``symbol+0x10`` for a byte offset in the image; None below the first symbol."""
        if (index := bisect_right(self.offsets, offset) - 1) < 0:
            return None
        return f"{self._name(index)}+{offset - self.offsets[index]:#x}"

    def _name(self, index: int) -> str:
        at = self._names + self._markers[index // _PER_MARKER]
        for _ in range(index % _PER_MARKER):
            at = _skip(self._image, at)
        end, at = _skip(self._image, at), at + (2 if self._image[at] & _BIG else 1)
        text = b"".join(self._tokens[token] for token in self._image[at:end])
        return text[1:].decode(errors="replace")  # the first character is the type


def _token_tables(image: bytes) -> "list[tuple[int, int, tuple[bytes, ...]]]":
    """Return start, end of the index, and tokens of each possible token table."""
    found, at = [], -1
    while (at := image.find(_DIGITS, at + 1)) >= 0:
        start = at
        for _ in range(ord("0")):
            start = image.rfind(b"\0", 0, max(start - 1, 0)) + 1
        tokens = image[start : start + 0x1_0000].split(b"\0")[:_TOKENS]
        places = [0]
        for token in tokens[:-1]:
            places.append(places[-1] + len(token) + 1)
        end = start + places[-1] + len(tokens[-1]) + 1
        if len(tokens) == _TOKENS and places[-1] >> 16 == 0:
            index = struct.pack(f"<{_TOKENS}H", *places)
            if (place := image.find(index, end, end + _PADDING + len(index))) >= 0:
                found.append((start, place + len(index), tuple(tokens)))
    return found


def _markers(image: bytes, end: int) -> tuple[int, ...]:
    """Return the offsets of every 256th name, from the table that ends at `end`."""
    values: list[int] = []
    while (not values or values[-1]) and end >= 4:
        end -= 4
        (value,) = struct.unpack_from("<I", image, end)
        if value or values:  # no padding
            values.append(value)
    return tuple(reversed(values))


def _symbol_counts(image: bytes, end: int, markers: tuple[int, ...]) -> "list[tuple[int, int]]":
    """Return each place before the names that may have the number of symbols."""
    most = len(markers) * _PER_MARKER
    last = end - markers[-1] & -4
    places = range(last, max(last - 0x2_0000, 0), -4)
    counts = ((at, struct.unpack_from("<I", image, at)[0]) for at in places)
    return [(at, count) for at, count in counts if most - _PER_MARKER < count <= most]


def _names(image: bytes, at: int, markers: tuple[int, ...]) -> int | None:
    """Return the start of the names after the number of symbols, or None if they do not fit."""
    for start in (at + 4, at + 8):
        place = start
        for _ in range(_PER_MARKER):
            place = _skip(image, place)
        if len(markers) > 1 and place == start + markers[1]:
            return start
    return None


def _skip(image: bytes, at: int) -> int:
    """Return the place after the name at `at`."""
    length = image[at]
    if length & _BIG:
        return at + 2 + (length & ~_BIG | image[at + 1] << 7)
    return at + 1 + length


def _offsets(image: bytes, after: int, count: int) -> list[int] | None:
    """Return the symbols' offsets from the table after the tokens, or None."""
    for at in range(after, after + _PADDING, 4):
        words = struct.unpack_from(f"<{count}I", image, at)
        from_place = [at + 4 * n + word & 0xFFFF_FFFF for n, word in enumerate(words)]
        for offsets in (list(words), from_place):
            if offsets[0] == 0 and all(a <= b for a, b in pairwise(offsets)):
                return offsets
    return None
