# SPDX-License-Identifier: GPL-2.0-only
import pytest

from pyvmm.kvm import Vm
from pyvmm.why import Host


@pytest.fixture
def host(vm: Vm) -> Host:
    """Return the facts of this kernel and CPU."""
    return vm.host
