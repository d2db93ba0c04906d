# SPDX-License-Identifier: GPL-2.0-only
"""Mutated inputs: valid ones with bytes or JSON values changed, removed, repeated or replaced."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

_TOKENS = (
    *(b"", b"\0", b"\n", b"\xff", b"\xe2\x80\xa6", b" ", b"=", b":", b",", b'"', b"-", b"+", b"_"),
    *(b"0", b"-1", b"0x", b"1e999", b"NaN", b"null", b"true", b"{}", b"[]", b"%s", b"..", b"/"),
    *(b"\xff" * 8, b"\xd9\xa3", b"0x10000000000000000", b"9" * 30, b"9" * 5000, b"[" * 200_000),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**32, 2**64, 2**64 - 1, -(2**63), 10**400, 1.5, float("inf")),
    *("", "0x", "…", "\udcff", "\n", "x" * 5000, [], [[]], [None], {}, {"": {}}, {"a": [1]}),
)


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Draw a seed with up to four changes of its bytes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(at + draw(st.sampled_from((0, 1, 2, 4, 8, 64, 1 << 30))), len(data))
        match draw(st.integers(0, 4)):
            case 0:
                middle = draw(st.sampled_from(_TOKENS))
            case 1:
                middle = draw(st.binary(max_size=8))
            case 2:
                middle = data[at:end] * 2
            case 3:
                other = draw(st.sampled_from(seeds))
                middle = other[min(at, len(other)) :]
            case _:
                middle = bytes(byte ^ 1 << (at & 7) for byte in data[at:end])
        data = data[:at] + middle + data[end:]
    return data


@st.composite
def mutated_json(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Draw a seed of JSON lines with up to three values replaced, removed or added."""
    lines = [json.loads(line) for line in draw(st.sampled_from(seeds)).splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        places = _places(lines)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        match draw(st.integers(0, 3)):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[draw(st.sampled_from(("type", "slot", "", "argument")))] = container[key]
            case _:
                container[key] = draw(st.sampled_from(_VALUES))
        if not lines:
            break
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Return every value in `node`, as its container and its key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    found = [(node, key) for key in keys]
    for key in keys:
        if isinstance(node[key], dict | list):
            found += _places(node[key])
    return found
