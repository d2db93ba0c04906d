# SPDX-License-Identifier: GPL-2.0-only
"""Tell a fault that does not go away from one that comes again.

An instruction in a loop may fault each time around, at the same PC and address, and that is
progress: registers change in between. Where they do not, the instruction has never completed.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

ATTEMPTS = 3
_PAGES = 64  # more than one instruction and its page tables can touch
_LONGEST_TRUST = 64


@dataclass
class _Seen:
    """How a fault has come back.

    Attributes:
        attempts: in a row, with no progress between.
        state: at the last of them; None where it was not asked for.
        trust: how many more may come before it is asked for again.
        earned: what `trust` was, the last time that there was progress.
    """

    attempts: int = 1
    state: Hashable = None
    trust: int = 0
    earned: int = 1


class Guard:
    """Counts how often one instruction has faulted in one way without getting any further."""

    def __init__(self) -> None:
        self._pc: int | None = None
        self._seen: dict[Hashable, _Seen] = {}

    def attempt(self, pc: int | None, fault: Hashable, state: Callable[[], Hashable]) -> int:
        """Which attempt at this one `fault` of the instruction at `pc` the next fix is, from 1.

        `state` gives something that is equal only where no instruction has completed in between.
        It costs many ioctls, so it is asked only about a fault that came before, and of one that
        has made progress so far, ever more rarely.
        """
        if pc != self._pc or len(self._seen) > _PAGES:
            self._pc = pc
            self._seen.clear()
        if (seen := self._seen.get(fault)) is None:
            self._seen[fault] = _Seen()
            return 1
        if seen.trust:
            seen.trust -= 1
            return 1
        before, seen.state = seen.state, state()
        # Where there is nothing to compare with, it counts in any case.
        if before in (None, seen.state):
            seen.attempts += 1
        else:
            seen.earned = min(2 * seen.earned, _LONGEST_TRUST)
            seen.attempts, seen.state, seen.trust = 1, None, seen.earned
        return seen.attempts
