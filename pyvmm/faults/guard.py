# SPDX-License-Identifier: GPL-2.0-only
"""A guard against faults that come back without the guest making progress.

An instruction in a loop may fault in each iteration, at the same PC and address: that is progress,
since registers change in between. If they do not, the instruction never completed.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

ATTEMPTS = 3
_PAGES = 64  # more pages than one instruction and its table walks can access
_LONGEST_INTERVAL = 64


@dataclass
class _History:
    """The recurrences of one fault.

    Attributes:
        attempts: consecutive fixes without progress.
        state: the vCPU's state at the last of them, or None if it was not read.
        unchecked: recurrences that count as progress without a look at the state.
        interval: the value of `unchecked` after the last progress; it doubles with each.
    """

    attempts: int = 1
    state: Hashable = None
    unchecked: int = 0
    interval: int = 1


class Guard:
    """Counts how often one instruction faulted in the same way without progress."""

    def __init__(self) -> None:
        """Start with no faults."""
        self._pc: int | None = None
        self._histories: dict[Hashable, _History] = {}

    def attempt(self, pc: int | None, fault: Hashable, state: Callable[[], Hashable]) -> int:
        """Return the number, from 1, of the next attempt to fix `fault` at the GVA `pc`.

        `state` returns a value that changes whenever an instruction completes. It costs many
        ioctls, so it is called only for a fault that came back, and less and less often while the
        guest makes progress.
        """
        if pc != self._pc or len(self._histories) > _PAGES:
            self._pc = pc
            self._histories.clear()
        if (history := self._histories.get(fault)) is None:
            self._histories[fault] = _History()
            return 1
        if history.unchecked:
            history.unchecked -= 1
            return 1
        before, history.state = history.state, state()
        # Without an earlier state to compare with, count it as no progress.
        if before in (None, history.state):
            history.attempts += 1
        else:
            history.interval = min(2 * history.interval, _LONGEST_INTERVAL)
            history.attempts, history.state, history.unchecked = 1, None, history.interval
        return history.attempts
