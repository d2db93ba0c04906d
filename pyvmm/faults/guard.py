# SPDX-License-Identifier: GPL-2.0-only
"""A guard against faults that come back without the guest making progress.

An instruction in a loop may fault in each iteration, at the same PC and address: that is progress,
since registers change in between. If they do not, the instruction never completed.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

ATTEMPTS = 3
_PAGES = 64  # more pages than one instruction and its table walks can access
_LONGEST_TRUST = 64


@dataclass
class _History:
    """The recurrences of one fault.

    Attributes:
        attempts: consecutive fixes without progress.
        state: the vCPU's state at the last of them, or None if it was not read.
        trust: faults to come before the state is read again.
        earned: the value of `trust` after the last progress.
    """

    attempts: int = 1
    state: Hashable = None
    trust: int = 0
    earned: int = 1


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
        if history.trust:
            history.trust -= 1
            return 1
        before, history.state = history.state, state()
        # Without an earlier state to compare with, count it as no progress.
        if before in (None, history.state):
            history.attempts += 1
        else:
            history.earned = min(2 * history.earned, _LONGEST_TRUST)
            history.attempts, history.state, history.trust = 1, None, history.earned
        return history.attempts
