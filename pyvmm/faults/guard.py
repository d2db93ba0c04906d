# SPDX-License-Identifier: GPL-2.0-only
"""Tell a fault that does not go away from one that comes again.

An instruction in a loop may fault each time around, at the same PC and address, and that is
progress: registers change in between. Where they do not, the instruction has never completed.
"""

from collections.abc import Callable, Hashable

ATTEMPTS = 3
_PAGES = 64  # more than one instruction and its page tables can touch


class Guard:
    """Counts how often one instruction has faulted in one way without getting any further."""

    def __init__(self) -> None:
        self._pc: int | None = None
        self._seen: dict[Hashable, tuple[int, Hashable]] = {}

    def attempt(self, pc: int | None, fault: Hashable, state: Callable[[], Hashable]) -> int:
        """Which attempt at this one `fault` of the instruction at `pc` the next fix is, from 1.

        `state` gives something that is equal only where no instruction has completed in between.
        It costs many ioctls, so it is asked only about a fault that came before.
        """
        if pc != self._pc or len(self._seen) > _PAGES:
            self._pc = pc
            self._seen.clear()
        if fault not in self._seen:
            self._seen[fault] = (1, None)
            return 1
        count, before = self._seen[fault]
        now = state()
        # The state was not asked for at the first fault, so the second counts in any case.
        count = count + 1 if before in (None, now) else 1
        self._seen[fault] = (count, now)
        return count
