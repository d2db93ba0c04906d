# SPDX-License-Identifier: GPL-2.0-only
"""A userfaultfd for the tests, or a skip that says what it needs."""

import pytest

from pyvmm.errors import SkippedError
from pyvmm.memory.mapping import Mapping
from pyvmm.provoke.userfaultfd import MISSING, Userfaultfd


def watched_for_missing(memory: Mapping) -> Userfaultfd:
    """Return a userfaultfd that watches `memory` for missing pages."""
    try:
        return Userfaultfd().register(memory.hva, memory.size, MISSING)
    except SkippedError as error:
        pytest.skip(str(error))
