# SPDX-License-Identifier: GPL-2.0-only
from collections.abc import Iterator

import pytest

from pyvmm.explain.host import Host, this_host
from pyvmm.kvm import System


@pytest.fixture
def host(kvm: System) -> Iterator[Host]:
    """This kernel and CPU."""
    with this_host() as host:
        yield host
