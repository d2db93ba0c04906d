# SPDX-License-Identifier: GPL-2.0-only
"""A recorder of the kernel's own path, for the tests of a module."""

from collections.abc import Iterator

import pytest

from pyvmm.errors import LackingError, SkippedError
from pyvmm.provenance import Recorder


@pytest.fixture(scope="module")
def module_recorder() -> Iterator[Recorder]:
    try:
        recorder = Recorder.of_this_process()
    except (LackingError, SkippedError) as error:
        pytest.skip(f"{error}; the emulated host has it: pytest --lab")
    with recorder:
        yield recorder


@pytest.fixture
def recorder(module_recorder: Recorder) -> Recorder:
    """Return a recorder of this process that has no paths yet."""
    module_recorder.clear()
    return module_recorder
